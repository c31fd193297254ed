"""Damaged files are read, or refused by `ValueError` in one line; nothing else."""

import gzip
import io

import numpy as np
import pytest
import scipy.sparse as sp
from file_contents import DENSE, SPARSE, market, npy, npz, sparse_npz
from safetensors.numpy import save as safetensors_bytes

from sedma_jax._files.load import load_matrix
from sedma_jax._files.numpy_files import load_npy
from sedma_jax._products.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow
COUNT = 3000
JOB = {"matrix": "abc", "device": "epiram"}
STATE = {"y": np.arange(6.0).reshape(2, 3), "done": np.asarray(3), "key": np.arange(2)}


def mutants(content, count=COUNT):
    """The content with bytes changed, removed, inserted, cut off or repeated."""
    rng = np.random.default_rng(len(content))
    yield b""
    yield b"PK\3\4" + bytes(50)
    for _ in range(count):
        mutant = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, len(mutant) + 1))
            length = int(rng.integers(1, 9))
            match rng.integers(0, 6):
                case 0:
                    mutant[at : at + 1] = rng.bytes(1)
                case 1:
                    del mutant[at : at + length]
                case 2:
                    mutant[at:at] = rng.bytes(length)
                case 3:
                    del mutant[at:]
                case 4:
                    mutant[at:at] = mutant[at : at + length * 8]
                case 5:
                    words = (b"9" * 30, b"-1", b"nan", b"{", b"\0", b"%", b" ")
                    mutant[at:at] = words[int(rng.integers(0, len(words)))]
        yield bytes(mutant)


def survives(read, content, path):
    refused = 0
    for mutant in mutants(content):
        path.write_bytes(mutant)
        try:
            read(path)
        except ValueError as error:
            refused += 1
            text = str(error)
            assert text.isprintable() and len(text) < 1000, text
    return refused


def put(path):
    return load_npy(path, "`sedma node put`", 2**32)


@pytest.mark.parametrize(
    "name, content, read",
    [
        ("put.npy", npy(DENSE), put),
        ("m.npy", npy(DENSE), load_matrix),
        ("m.npz", npz(weights=DENSE, bias=DENSE[0]), load_matrix),
        ("s.npz", sparse_npz(sp.csr_array(DENSE)), load_matrix),
        ("m.safetensors", safetensors_bytes({"a": DENSE, "b": DENSE[0]}), load_matrix),
        ("s.mtx", market(SPARSE), load_matrix),
        ("m.mtx", market(DENSE), load_matrix),
        ("m.mtx.gz", gzip.compress(market(DENSE)), load_matrix),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_damaged_array_ends_in_another_error(tmp_path, name, content, read):
    assert survives(read, content, tmp_path / name) > COUNT / 4


def test_no_damaged_checkpoint_ends_in_another_error(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, JOB, STATE)
    whole = path.read_bytes()
    found = load_checkpoint(path, JOB, STATE)
    for name, array in STATE.items():
        np.testing.assert_array_equal(found[name], array)
    read = lambda path: load_checkpoint(path, JOB, STATE)
    assert survives(read, whole, path) > COUNT / 4
    squeezed = io.BytesIO()
    fields = {f"job_{name}": text for name, text in JOB.items()} | STATE
    np.savez_compressed(squeezed, **fields)
    assert survives(read, squeezed.getvalue(), path) > COUNT / 4
