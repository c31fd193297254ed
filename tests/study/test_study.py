"""Studies: what is measured, by how many programs, and what a second run finds again."""

import json
import subprocess
import sys

import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pandas as pd
import pytest

import sedma_jax as sj
from sedma_jax.study._content import function_digest, value_digest

study = sj.study


def counting():
    """A function of parameters of every kind, and the list of its calls."""
    calls = []

    def measure(device, size, scale, seed):
        calls.append(size)
        noise = jr.uniform(jr.key(seed), (), jnp.float32)
        return {
            "total": jnp.sum(jnp.ones(size)) * scale,
            "window": device.g_max - device.g_min,
            "noise": noise,
        }

    return measure, calls


DEVICES = {name: sj.devices.PRESETS[name] for name in ("epiram", "ag-asi")}
POINTS = study.grid(device=DEVICES, size=[2, 3], scale=[0.5, 2.0], seed=range(3))


def expected(point):
    """The figures of a point, by NumPy and one draw outside of any study."""
    device = sj.devices.PRESETS[point["device"]]
    return {
        "total": point["size"] * point["scale"],
        "window": device.g_max - device.g_min,
        "noise": float(jr.uniform(jr.key(point["seed"]), (), jnp.float32)),
    }


@pytest.mark.parametrize("mapped", [None, ["seed"], []])
def test_every_point_has_its_own_figures(mapped):
    measure, calls = counting()
    table = study.run(measure, POINTS, mapped=mapped, batch=7)
    assert len(table) == 2 * 2 * 2 * 3
    assert table.parameters == ("device", "size", "scale", "seed")
    for row, point in zip(table, POINTS, strict=True):
        labels = point | {"device": point["device"].label}
        assert {name: row[name] for name in labels} == labels
        for name, value in expected(row).items():
            np.testing.assert_allclose(row[name], value, rtol=1e-6)
    if mapped is None:
        # Two failed attempts with the size, three parameters one by one, and a program for
        # each size, which serves 12 points in two calls.
        assert len(calls) <= 8
    if mapped == []:
        assert len(calls) == len(table)


def test_a_second_run_measures_what_is_missing(tmp_path):
    file = tmp_path / "results.jsonl"

    class Enough(Exception):
        pass

    def stop(row):
        if row["scale"] == 2.0:
            raise Enough

    measure = lambda size, scale: {"total": jnp.sum(jnp.ones(size)) * scale}
    points = study.grid(size=[2], scale=[0.5, 1.0, 2.0, 4.0])
    new = []
    again = lambda: study.run(measure, points, file=file, mapped=[], callback=new.append)
    with pytest.raises(Enough):
        study.run(measure, points, file=file, mapped=[], callback=stop)
    table = again()
    assert [row["scale"] for row in new] == [4.0] and list(table["total"]) == [
        1.0,
        2.0,
        4.0,
        8.0,
    ]
    # A process that was killed at any byte of a line.
    whole = file.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for cut in range(start, len(whole), 17):
        file.write_bytes(whole[:cut])
        new.clear()
        assert again() == table and [row["scale"] for row in new] == [4.0]
        assert [json.loads(line)["key"] for line in file.read_text().splitlines()]


def test_what_a_result_follows_from_is_measured_anew(tmp_path):
    file, points = tmp_path / "results.jsonl", study.grid(x=[1.0, 2.0])

    def closing_over(array):
        return lambda x: {"y": array.sum() * x}

    assert study.run(closing_over(np.ones(2)), points, file=file)[0]["y"] == 2
    assert study.run(closing_over(np.ones(3)), points, file=file)[0]["y"] == 3
    other = study.run(lambda x: {"y": 7 * x}, points, file=file)
    assert other[1]["y"] == 14
    assert study.run(lambda x: {"y": 8 * x}, points, file=file)[1]["y"] == 16
    assert len(file.read_text().splitlines()) == 8
    one, two = (sj.devices.PRESETS[name] for name in ("epiram", "ag-asi"))
    assert value_digest(one) != value_digest(two)
    assert value_digest(jr.key(0)) != value_digest(jr.key(1))


DIGEST = """
import jax, jax.numpy as jnp, numpy as np, sedma_jax as sj
from sedma_jax.study._content import function_digest
A, names = np.arange(4.0), {"b", "a", "c"}
def inner(x):
    return jnp.sin(x) * len(names)
@jax.jit
def measure(x, y=2):
    return {"z": inner(x) + A.sum() + sj.devices.EPIRAM.g_max}
print(function_digest(measure))
"""


def test_two_processes_agree_on_a_function():
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
    )
    names = {"__name__": "__main__"}
    exec(DIGEST.replace("print", "found ="), names)
    assert names["found"] == done.stdout.strip()
    assert function_digest(max) != function_digest(min)


def test_functions_are_called_for_their_own_parameters():
    calls = []

    def error(bits, seed):
        return {"error": 2.0**-bits + seed}

    def cost(bits):
        calls.append(bits)
        return {"energy": float(2**bits)}

    points = study.grid(bits=[4, 6], seed=[0, 1, 2])
    table = study.run([error, cost], points, mapped=[])
    assert calls == [4, 6]
    assert list(table["energy"]) == [16.0] * 3 + [64.0] * 3
    frame = pd.DataFrame(table)
    assert list(frame.columns) == ["bits", "seed", "error", "energy"]
    np.testing.assert_array_equal(frame["error"], table["error"])


def test_averages_are_those_of_numpy():
    points = study.grid(bits=[4, 6], seed=range(4))
    table = study.run(lambda bits, seed: {"y": jnp.sqrt(1.0 * seed) * bits}, points)
    found = study.average(table, over="seed")
    assert found.parameters == ("bits",) and list(found["rows"]) == [4, 4]
    roots = np.sqrt(np.arange(4))
    np.testing.assert_allclose(found["y"], np.array([4, 6]) * roots.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["y_std"][1], 6 * roots.std(ddof=1), rtol=1e-6)
    assert np.isnan(study.average(study.select(table, seed=1), "seed")["y_std"]).all()


def test_the_front_is_what_nothing_beats():
    energy, error = np.random.default_rng(0).integers(0, 12, (2, 60))
    rows = [
        dict(energy=e, error=w)
        for e, w in zip(energy.tolist(), error.tolist(), strict=True)
    ]
    # In order of energy, each on the front has a smaller error than all before it.
    best, front = np.inf, set()
    for e, w in sorted(zip(energy.tolist(), error.tolist(), strict=True)):
        if w < best:
            best = w
            front.add((e, w))
    found = study.pareto(rows, lower=("energy", "error"))
    assert {(row["energy"], row["error"]) for row in found} == front
    assert list(found["energy"]) == sorted(found["energy"])
    upside_down = [row | {"error": -row["error"]} for row in rows]
    assert len(study.pareto(upside_down, lower="energy", higher="error")) == len(found)
    rows.append(dict(energy=-1, error=float("nan")))
    assert len(study.pareto(rows, lower=("energy", "error"))) == len(found)


def test_figures_that_json_has_not_come_back(tmp_path):
    file, points = tmp_path / "results.jsonl", study.grid(x=[0.0, 1.0])
    odd = lambda x: {"a": np.inf * (x - 0.5), "b": np.nan, "c": x > 0, "d": 2**40}
    first, again = (study.run(odd, points, file=file, mapped=[]) for _ in range(2))
    for table in (first, again):
        assert list(table["a"]) == [-np.inf, np.inf] and np.isnan(table["b"]).all()
        assert table[1]["c"] is True and table[0]["d"] == 2**40
    for line in file.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(word))


def test_random_points_fill_their_ranges():
    ranges = dict(a=study.Range(1e-4, 1.0, log=True), b=study.Range(-1, 3), c=["x", "y"])
    points = study.random(400, key=jr.key(0), **ranges)
    a, b = (np.array([point[name] for point in points]) for name in "ab")
    # Uniform on [0, 1]: mean 1/2, standard deviation 1/sqrt(12).
    for shares in (1 + np.log10(a) / 4, (b + 1) / 4):
        assert shares.min() >= 0 and shares.max() <= 1
        assert abs(shares.mean() - 0.5) < 4.9 / np.sqrt(12 * 400)
    assert abs(sum(point["c"] == "x" for point in points) - 200) < 4.9 * 10
    only = study.random(400, key=jr.key(0), a=ranges["a"])
    assert [point["a"] for point in only] == a.tolist()


def test_whole_numbers_that_a_program_would_cut_off_are_looped_over():
    with_long = study.grid(seed=[1, 2**70])
    assert study.run(lambda seed: {"y": seed % 7}, with_long)[1]["y"] == 2**70 % 7


def one(**axes):
    return study.grid(**axes)


IDENTITY = lambda x: {"y": x}
REFUSED = [
    (lambda: study.grid(), "Got no parameter"),
    (lambda: study.grid(bits=[]), "Got none of `bits`"),
    (lambda: study.grid(bits=8), "needs several values of `bits`"),
    (lambda: study.grid(name="abc"), "needs several values of `name`"),
    (lambda: study.grid(d=[sj.devices.EPIRAM]), "needs a label for each `d`"),
    (lambda: study.grid(x=study.Range(0, 1)), "Range"),
    (lambda: study.Range(1, 1), "`low < high`"),
    (lambda: study.Range(0.0, 1, log=True), "`0 < low < high`"),
    (lambda: study.random(0, x=[1], key=jr.key(0)), "needs `count`"),
    (lambda: study.random(2, key=jr.key(0)), "Got no parameter"),
    (lambda: study.run(IDENTITY, []), "Got none"),
    (lambda: study.run(IDENTITY, one(x=[1], colour=[2])), "Got `colour`"),
    (lambda: study.run(IDENTITY, one(z=[1])), "Got none of `x`"),
    (lambda: study.run(IDENTITY, [{"x": 1}, {"z": 1}]), "the same parameters"),
    (lambda: study.run(IDENTITY, [{"x": np.ones(3)}]), "needs a label for each `x`"),
    (lambda: study.run(IDENTITY, one(x=[1]), mapped=["z"]), "`mapped` to name"),
    (lambda: study.run(IDENTITY, one(x=[1]), mapped="x"), "`mapped` to be names"),
    (lambda: study.run(IDENTITY, one(x=[1]), batch=0), "needs `batch`"),
    (lambda: study.run(lambda x: x, one(x=[1])), "figures by name"),
    (lambda: study.run(lambda x: {"y": [x]}, one(x=[1])), "one number"),
    (lambda: study.run(lambda x: {"y": jnp.ones(3) * x}, one(x=[1, 2])), "one number"),
    (lambda: study.run(lambda x: {"x": x}, one(x=[1])), "`x` twice"),
    (lambda: study.run([IDENTITY, IDENTITY], one(x=[1])), "`y` twice"),
    (lambda: study.run("measure", one(x=[1])), "needs `measure` to be a function"),
    (lambda: study.average(study.run(IDENTITY, one(x=[1])), "seed"), "Got 'seed'"),
    (lambda: study.select(study.run(IDENTITY, one(x=[1])), z=1), "Got 'z'"),
    (lambda: study.run(IDENTITY, one(x=[1]))["z"], "Got 'z'"),
    (lambda: study.pareto([{"y": 1}]), "Got none"),
]


@pytest.mark.parametrize("call, said", REFUSED)
def test_bad_input_is_one_line(call, said, monkeypatch):
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # it would say it first
    with pytest.raises(ValueError) as caught:
        call()
    text = str(caught.value)
    assert said in text and "\n" not in text and text[-1] in ".?"


@pytest.mark.parametrize("content", ["notes of mine\n", "notes", "[1]\n", '{"key": 3}\n'])
def test_a_file_of_something_else_stays_as_it_is(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"needs a file of results.*Name a new file"):
        study.run(IDENTITY, one(x=[1]), file=file)
    assert file.read_text() == content


def test_an_error_names_its_point():
    def wrong(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as caught:
        study.run(wrong, one(x=[4.0, 5.0]))
    assert caught.value.__notes__ == ["This is about x=4.0."]
