"""Numbers in options."""

import argparse
import math

import jax
import numpy as np
import pytest

from sedma_jax._cli._terminal import numbers as numbers
from sedma_jax._cli.main import main

NO_WHOLE = [
    "",
    " 1",
    "1 ",
    "+1",
    "-1",
    "1.0",
    "1e3",
    "1_000",
    "²",
    "٣",
    "0x4",
    "nan",
    "9" * 30,
]


@pytest.mark.parametrize("text", [*NO_WHOLE, str(2**32), "9" * 5000])
def test_a_seed_is_taken_exactly_or_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number, seed >= 0") as e:
        numbers.seed(text)
    assert len(str(e.value)) < 150 and "\n" not in str(e.value)


def test_seeds_that_are_taken_are_different_streams():
    # JAX keeps the low 32 bits of a seed where 64 bits are not enabled.
    with jax.enable_x64(False):
        key = lambda seed: tuple(np.asarray(jax.random.key_data(jax.random.key(seed))))
        assert key(2**32) == key(0)
        seeds = [numbers.seed(text) for text in ("0", "007", "2147483648", "4294967295")]
        assert seeds == [0, 7, 2**31, 2**32 - 1]
        assert len({key(seed) for seed in seeds}) == 4


@pytest.mark.parametrize("text", [*NO_WHOLE, "0"])
def test_counts_start_where_they_say(text):
    with pytest.raises(argparse.ArgumentTypeError, match="arrays >= 1"):
        numbers.whole("arrays", 1)(text)
    assert numbers.whole("rows", 0)("0") == 0
    assert numbers.whole("rows", 0)("1" + "0" * 17) == 10**17


@pytest.mark.parametrize(
    "text", ["", "x", "4x", "x4", "0x4", "4x0", "4x4x4", "-4x4", "²x4"]
)
def test_an_array_has_both_lines(text):
    with pytest.raises(argparse.ArgumentTypeError, match="256x256"):
        numbers.array_size(text)


def test_arrays_that_are_taken():
    assert numbers.array_size("64x32") == (64, 32)
    assert numbers.array_size("64X32") == (64, 32)
    assert numbers.array_size("128") == (128, 128)


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e400", "-1", "-1e-300", "", "1,5"]
)
def test_a_real_number_is_finite_and_not_negative(text):
    with pytest.raises(argparse.ArgumentTypeError, match="finite"):
        numbers.not_negative(text)


def test_real_numbers_that_are_taken():
    assert numbers.not_negative("1e-12") == 1e-12
    assert math.copysign(1, numbers.not_negative("0")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "run A.npy --seed 123456789012345678901234567890",
        "run A.npy --seed=-1",
        "run A.npy --lambda nan",
        "run A.npy --arrays 1e3",
        "run A.npy --slices 0",
        "run A.npy --array 0x4",
        "job submit A.npy --seed=-1",
        "job result J --out y.npy --timeout nan",
        "memory show --limit=-1",
        "memory prune --keep 1e3",
        "node start --capacity 0",
        "node start --replicas 0",
        "node start --metrics 70000",
        "deploy plan W.yaml --seed 4294967296",
        "deploy plan W.yaml --prove nan",
        "deploy apply W.yaml --seed x",
    ],
)
def test_a_number_that_is_none_is_one_line(line, capsys):
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sedma: argument --") and err.count("\n") == 1
    assert "needs" in err and "Got" in err
