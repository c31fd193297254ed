import subprocess
import sys

import jax.random as jr
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sedma_jax.kernels import MvmWorkload, mvm_cost

from sedma_jax import costs, devices, kernels, noise_models, viz

RNG = np.random.default_rng(0)
PAIR = RNG.uniform(1e-7, 1e-5, (2, 6, 9))


def draw(figure):
    """Lay the figure out: it must neither fail nor warn, and hold all that it shows."""
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure).draw()
    box, size = figure.get_tightbbox(), figure.get_size_inches()
    pixel = 1 / figure.dpi
    assert np.all(box.min > -pixel) and np.all(box.max < size + pixel)
    return figure.axes


def test_conductance_map_shows_each_polarity_on_one_scale():
    positive, negative = draw(viz.conductance_map(PAIR))
    (bar,) = negative.child_axes
    for axis, cells in ((positive, PAIR[0]), (negative, PAIR[1])):
        (image,) = axis.images
        np.testing.assert_allclose(image.get_array(), cells * 1e6)
        assert list(image.get_extent()) == [-0.5, 8.5, 5.5, -0.5]
        np.testing.assert_allclose(image.get_clim(), (PAIR.min() * 1e6, PAIR.max() * 1e6))
        assert axis.get_xlabel() == "bit line"
    assert positive.get_ylabel() == "word line"
    assert bar.get_ylabel() == "conductance (µS)"


def test_conductance_map_of_single_cells():
    (axis,) = draw(viz.conductance_map(PAIR[0]))
    np.testing.assert_allclose(axis.images[0].get_array(), PAIR[0] * 1e6)
    assert axis.get_title() == ""


@pytest.mark.parametrize("shape", [(4,), (3, 4, 4), (1, 2, 4, 4)])
def test_conductance_map_refuses_other_ranks(shape):
    with pytest.raises(ValueError, match="conductance_map` needs shape"):
        viz.conductance_map(np.ones(shape))


def test_histogram_counts_every_cell_once():
    target = np.zeros((2, 40, 50))
    error = RNG.normal(1e-8, 2e-7, target.shape)
    (axis,) = draw(viz.programming_error_histogram(target, target + error))
    heights = [bar.get_height() for bar in axis.patches]
    edges = [bar.get_x() for bar in axis.patches]
    assert sum(heights) == error.size
    np.testing.assert_allclose(edges[0], error.min() * 1e6)
    # counts of the first bins by hand
    last = axis.patches[20].get_x() + axis.patches[20].get_width()
    assert sum(heights[:21]) == np.sum(error * 1e6 < last)
    (label,) = [text.get_text() for text in axis.get_legend().get_texts()]
    assert label == f"mean {error.mean() * 1e6:.3g} µS, std {error.std() * 1e6:.3g} µS"


def test_ir_drop_is_a_share_of_the_largest_ideal_value():
    ideal = np.full((3, 4), 0.5)
    actual = ideal - np.arange(12).reshape(3, 4) * 1e-3
    (axis,) = draw(viz.ir_drop_map(ideal, actual))
    (bar,) = axis.child_axes
    (image,) = axis.images
    np.testing.assert_allclose(
        image.get_array(), np.arange(12).reshape(3, 4) * 0.2, atol=1e-12
    )
    np.testing.assert_allclose(image.get_clim(), (0.0, 2.2))
    assert bar.get_ylabel() == "IR drop (% of max)"


def test_gains_are_drawn_about_zero():
    ideal = np.ones((2, 2))
    change = np.array([[0.03, 0.0], [0.0, -0.01]])
    (axis,) = draw(viz.ir_drop_map(ideal, ideal + change))
    np.testing.assert_allclose(axis.images[0].get_clim(), (-3.0, 3.0))


def test_equal_wires_draw_without_loss():
    ideal = np.ones((2, 2))
    (axis,) = draw(viz.ir_drop_map(ideal, ideal))
    assert not np.any(axis.images[0].get_array())


def test_energy_breakdown_sorts_and_sums():
    workload = MvmWorkload(256, 256, 128, 128)
    cost = mvm_cost(
        costs.SURVEY,
        workload,
        read_energy=1e-10,
        mean_square_voltage=0.1,
        t_read=5e-9,
    )
    (axis,) = draw(viz.energy_breakdown(cost))
    widths = [bar.get_width() for bar in axis.patches]
    assert widths == sorted(widths)
    np.testing.assert_allclose(sum(widths), float(cost.energy), rtol=1e-12)
    names = [tick.get_text() for tick in axis.get_yticklabels()]
    assert names[-1] == "ADC"
    np.testing.assert_allclose(widths[-1], float(cost.energy_adc), rtol=1e-12)
    assert set(names) == {"array", "drivers", "DAC", "ADC", "digital", "buffer"}


def test_energy_breakdown_of_plain_numbers():
    (axis,) = draw(viz.energy_breakdown({"host": 3e-9, "array": 1e-9, "idle": 0.0}))
    labels = [text.get_text() for text in axis.texts]
    assert labels == ["0.00 J  (0.0%)", "1.00 nJ  (25.0%)", "3.00 nJ  (75.0%)"]
    assert axis.get_title() == "total 4.00 nJ"


def test_energy_breakdown_of_nothing():
    with pytest.raises(ValueError, match="positive total energy"):
        viz.energy_breakdown({"array": 0.0})


def test_correction_errors_pair_up_on_a_log_scale():
    raw, corrected = [0.24, 0.022], [0.06, 0.001]
    (axis,) = draw(viz.correction_errors(["Ag:a-Si", "EpiRAM"], raw, corrected))
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == raw + corrected
    for first, second in ((0, 2), (1, 3)):
        left, right = axis.patches[first], axis.patches[second]
        meeting = left.get_x() + left.get_width()
        np.testing.assert_allclose(meeting, right.get_x(), atol=1e-15)
    assert axis.get_yscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["Ag:a-Si", "EpiRAM"]
    assert [text.get_text() for text in axis.texts] == ["÷4", "÷22"]
    low, high = axis.get_ylim()
    assert low < 0.001 and high > 0.24


@pytest.mark.parametrize("corrected", [[0.1], [0.1, 0.0], [0.1, np.nan]])
def test_correction_errors_refuse_what_a_log_axis_hides(corrected):
    with pytest.raises(ValueError, match="correction_errors` needs"):
        viz.correction_errors(["a", "b"], [0.2, 0.3], corrected)


def test_missing_extra_names_the_remedy():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import sedma_jax\n"
        "try:\n    import sedma_jax.viz\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "Install with `pip install '.[viz]'` in a checkout" in done.stdout


def test_no_global_state():
    code = "import sedma_jax.viz, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_error_against_slices_draws_a_line_a_device():
    errors = {"epiram": [1e-2, 1e-4, 1e-6], "ag-asi": [3e-2, 1e-3]}
    (axis,) = draw(viz.error_against_slices(errors))
    assert axis.get_yscale() == "log"
    for line, (name, values) in zip(axis.lines, errors.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(values) + 1))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert list(axis.get_xticks()) == [1, 2, 3]


@pytest.mark.parametrize("errors", [{}, {"a": []}, {"a": [1.0, 0.0]}, {"a": [[1.0]]}])
def test_error_against_slices_refuses_what_it_cannot_draw(errors):
    with pytest.raises(ValueError, match="error_against_slices` needs positive errors"):
        viz.error_against_slices(errors)


def test_a_fit_is_drawn_with_its_residuals():
    x = np.linspace(0, 1, 41)
    wave = 1e-7 * np.sin(20 * x)
    found = devices.fit(1e-6 + 9e-6 * x + wave, 1e-5 - 9e-6 * x)
    above, below = draw(viz.pulse_fit(found))
    assert len(above.lines) == 4 and len(below.lines) == 2
    rest = (found.ltp.mean - found.ltp.curve) * 1e6
    np.testing.assert_allclose(below.lines[0].get_ydata(), rest)


def test_a_response_is_drawn_over_its_window():
    device = devices.ALOX_HFO2
    (axis,) = draw(viz.pulse_response(device))
    up, down = axis.lines
    ends = [line.get_ydata()[[0, -1]] / 1e6 for line in (up, down)]
    window = [device.g_min, device.g_max]
    np.testing.assert_allclose(ends, [window, window[::-1]], rtol=1e-5)
    assert up.get_xdata()[-1] == device.pulses_ltp


def test_drift_is_drawn_as_it_is_and_compensated():
    # Of one exponent, the loss is the same in all cells: compensation takes all of it.
    exponent, spread = (kernels.PolynomialCurve((c,), 1.0) for c in (0.1, 0.0))
    model = kernels.PowerLawDrift(exponent, spread, t_0=20.0)
    times = [20.0, 180.0, 1980.0]
    key = jr.key(0)
    raw, flat = draw(viz.drift_curves(model, [1e-6, 2e-5], times=times, cells=3, key=key))
    for axis, wanted in ((raw, 100 * np.array([2, 10, 100]) ** -0.1), (flat, [100.0] * 3)):
        assert len(axis.lines) == 2 and axis.get_xscale() == "log"
        for line in axis.lines:
            np.testing.assert_allclose(line.get_ydata(), wanted, rtol=1e-6)
    assert [t.get_text() for t in raw.get_legend().get_texts()] == ["1 µS", "20 µS"]


def test_accuracy_over_time_has_a_band_of_a_standard_deviation():
    times = np.array([1.0, 1e3, 1e6])
    repeats = RNG.uniform(0.8, 1.0, (3, 5))
    (axis,) = draw(viz.accuracy_over_time(times, {"raw": repeats, "once": times / 1e7}))
    mean, std = repeats.mean(1), repeats.std(1, ddof=1)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), mean)
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), times / 1e7)
    (band,) = axis.collections
    edges = {tuple(point) for point in band.get_paths()[0].vertices.round(9)}
    for x, low, high in zip(times, mean - std, mean + std, strict=True):
        assert {(x, round(low, 9)), (x, round(high, 9))} <= edges


def test_a_front_is_a_staircase_below_all_others():
    energy, error = RNG.uniform(1, 2, (2, 40))
    names = [f"design {i}" for i in range(40)]
    (axis,) = draw(viz.pareto_front(energy, error, names, error=True))
    x, y = axis.lines[0].get_data()
    assert np.all(np.diff(x) > 0) and np.all(np.diff(y) < 0)
    for e, w in zip(energy, error, strict=True):
        assert np.any((x <= e) & (y <= w))
    labels = [f"design {np.flatnonzero(energy == e)[0]}" for e in x]
    assert [text.get_text() for text in axis.texts] == labels
    assert len(axis.collections[0].get_offsets()) == 40


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: viz.drift_curves(noise_models.PCM.drift, [0.0], key=jr.key(0)), "siemens"),
        (lambda: viz.accuracy_over_time([1.0], {}), "Got nothing"),
        (lambda: viz.accuracy_over_time([1.0], {"a": [1.0, 2.0]}), "Put times first"),
        (lambda: viz.accuracy_over_time([0.0], {"a": [1.0]}), "`times` to be positive"),
        (lambda: viz.pareto_front([1.0], [1.0, 2.0]), "one energy, one accuracy"),
        (lambda: viz.pareto_front([1.0], [1.0], ["a", "b"]), "2 names"),
        (lambda: viz.pareto_front([0.0], [1.0]), "`energy` to be positive"),
    ],
)
def test_pictures_of_studies_refuse_what_they_cannot_draw(call, said):
    with pytest.raises(ValueError, match=said):
        call()
