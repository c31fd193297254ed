import subprocess
import sys

import jax.random as jr
import numpy as np

import sedma_jax as sj
from sedma_jax import _program

CACHED = """
import sys, numpy as np, jax.random as jr, sedma_jax as sj
print(sj.enable_compilation_cache(sys.argv[1]))
A = np.ones((3, 3), "f4")
sj.program(A, sj.devices.EPIRAM, array=(4, 4), key=jr.key(0))
"""


def test_matrices_of_many_sizes_share_a_few_compilations():
    before = _program._write_tiles.wide._cache_size()
    for m in range(1, 40, 4):  # 1 to 13 tiles
        A = np.ones((m, 3), np.float32)
        sj.program(A, sj.devices.EPIRAM, array=(3, 3), key=jr.key(0))
    # Chunks of 1, 2, 4, 8 and 16 tiles.
    assert _program._write_tiles.wide._cache_size() - before <= 5


def test_compiled_programs_are_kept_in_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "cache"
    command = [sys.executable, "-c", CACHED, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(folder)
    kept = {path.name for path in folder.iterdir() if path.name.endswith("-cache")}
    assert any("_write_tiles" in name for name in kept)
    # The second process finds them, and adds nothing.
    subprocess.run(command, check=True, capture_output=True)
    assert {p.name for p in folder.iterdir() if p.name.endswith("-cache")} == kept
