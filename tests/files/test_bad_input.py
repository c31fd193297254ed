"""Every bad input gets one line: requirement, value received, remedy.

Run without the shape checks of the test session, whose own errors would arrive first.
"""

import subprocess
import sys

CASES = r"""
import jax, jax.numpy as jnp, numpy as np, scipy.sparse as sp, sedma_jax as sj
from jax.experimental import checkify
from jax.experimental.sparse import BCOO
key, device = jax.random.key(0), sj.devices.EPIRAM
A = np.ones((4, 3)); small = dict(array=(4, 4), key=key)
nan = A.copy(); nan[2, 1] = np.nan
crossbar, stats = sj.program(A, device, **small)
cases = [
    ("nan at (2, 1)", lambda: sj.program(nan, device, **small)),
    ("Got inf", lambda: sj.program(A / 0, device, **small)),
    ("Got nan", lambda: sj.program(sp.csr_array(nan), device, **small)),
    ("real entries", lambda: sj.program(A * 1j, device, **small)),
    ("real entries", lambda: sj.program(sp.csr_array(A * 1j), device, **small)),
    ("2 dimensions", lambda: sj.program(np.ones(3), device, **small)),
    ("at least one entry", lambda: sj.program(np.ones((0, 3)), device, **small)),
    ("float, integer or", lambda: sj.program(A.astype("m8[s]"), device, **small)),
    ("float, integer or", lambda: sj.program(np.array([["a"]]), device, **small)),
    ("typed key", lambda: sj.program(A, device, array=(4, 4), key=jax.random.PRNGKey(0))),
    ("typed key", lambda: sj.program(A, device, array=(4, 4), key=0)),
    ("typed key", lambda: sj.matvec(crossbar, np.ones(3), key=jax.random.split(key))),
    ("one row and one column", lambda: sj.program(A, device, array=(0, 4), key=key)),
    ("needs 3 entries", lambda: sj.stream_matvec(A, np.ones(5), device, **small)),
    ("real entries", lambda: sj.stream_matvec(A * 1j, np.ones(3), device, **small)),
    ("`arrays` to be at least 1", lambda: sj.program(A, device, arrays=0, **small)),
    ("needs 3 entries", lambda: sj.matvec(crossbar, np.ones(4), key=key)),
    ("1 or 2 dimensions", lambda: sj.matvec(crossbar, np.ones((1, 1, 3)), key=key)),
    ("`x` needs finite", lambda: sj.matvec(crossbar, np.full(3, np.nan), key=key)),
    ("`x` needs real", lambda: sj.matvec(crossbar, np.ones(3) * 1j, key=key)),
    ("from 0 up", lambda: sj.corrected_matvec(A, np.ones(3), device, lam=-1.0, **small)),
    ("real signals", lambda: sj.denoise(jnp.arange(3), 1.0)),
    ("needs `programmed` to hold", lambda: sj.corrected_matvec(
        np.ones((3, 3)), np.ones(3), device, programmed=(crossbar, stats), **small)),
    ("known when the program is traced", lambda: jax.jit(
        lambda a: sj.program(a, device, **small))(BCOO.fromdense(A))),
    ("needs finite", lambda: checkify.checkify(jax.jit(
        lambda a: sj.program(a, device, **small)[0].weights))(nan)[0].throw()),
]
for message, call in cases:
    try:
        call()
    except (ValueError, RuntimeError) as error:
        assert message in str(error), (message, str(error))
    else:
        raise AssertionError(f"no error: {message}")
ints, _ = sj.program(np.array([[1, 2], [3, 4]]), device, **small)
bools, _ = sj.program(np.eye(3, dtype=bool), device, **small)
assert ints.weights.dtype == bools.weights.dtype == jnp.float32
print(len(cases), "cases")
"""


def test_library_errors():
    done = subprocess.run(
        [sys.executable, "-c", CASES], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "25 cases\n"
