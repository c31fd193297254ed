"""Crossbars as columns and labelled arrays: every cell at its place in the matrix."""

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from missing import missing

import sedma_jax as sj

A = np.random.default_rng(0).uniform(-1, 1, (5, 7))
WINDOW = sj.noise_models.window(1e-6, 1e-4)
CROSSBAR = sj.program_exactly(A, WINDOW, array=(4, 3), scaling=sj.global_scale)


def test_the_columns_of_cells_make_the_matrix_again():
    frame = pd.DataFrame(sj.cell_columns(CROSSBAR))
    assert len(frame) == 2 * A.size
    sign = frame["polarity"].map({"positive": 1.0, "negative": -1.0})
    signed = frame.assign(part=sign * frame["conductance"])
    held = signed.pivot_table("part", "output", "input", "sum").to_numpy()
    # A pair differs by the share of the window that its weight is of the largest.
    np.testing.assert_allclose(held / 99e-6 * np.abs(A).max(), A, atol=1e-6)
    assert frame["word_line"].max() == 3 and frame["bit_line"].max() == 2


def test_labelled_arrays_are_the_crossbars():
    arrays = sj.labelled_arrays(CROSSBAR)
    parts = arrays["data_vars"]
    np.testing.assert_array_equal(parts["conductance"]["data"], CROSSBAR.conductance)
    for part in (*parts.values(), *arrays["coords"].values()):
        assert part["data"].shape == tuple(arrays["dims"][name] for name in part["dims"])


def test_xarray_takes_them():
    try:
        import xarray
    except ModuleNotFoundError as error:
        missing("xarray is missing", error)
    found = xarray.Dataset.from_dict(sj.labelled_arrays(CROSSBAR))
    assert found["conductance"].attrs["units"] == "S"
    pairs = found["conductance"].sel(polarity="positive") - found["conductance"].sel(
        polarity="negative"
    )
    np.testing.assert_allclose(pairs / 99e-6, found["weight"], atol=1e-6)


@pytest.mark.parametrize("call", [sj.cell_columns, sj.labelled_arrays])
def test_what_is_no_crossbar_is_refused(call, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would say so
    with pytest.raises(ValueError, match="needs `crossbar` to be a `Crossbar`"):
        call(A)
