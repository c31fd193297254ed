"""Every bad input gets one line: requirement, value received, remedy.

Run without the shape checks of the test session, whose own errors would arrive first.
"""

import subprocess
import sys

CASES = r"""
import jax, jax.numpy as jnp, numpy as np, lineax as lx, scipy.sparse as sp
import sedma_jax as sj
key, device = jax.random.key(0), sj.devices.EPIRAM
A = np.eye(4) * 3 + np.arange(16.0).reshape(4, 4) / 16; b = np.ones(4)
empty = A.copy(); empty[:, 2] = 0
nan = A.copy(); nan[1, 1] = np.nan
crossbar, _ = sj.program(A, device, array=(4, 4), key=key)
operator = sj.linalg.CrossbarLinearOperator
def solve(A, b, rtol=1e-5, **how):
    return sj.linalg.solve(A, b, device, rtol=rtol, array=(4, 4), **(dict(key=key) | how))
cases = [
    ("programmed crossbar", lambda: operator(A)),
    ("typed key", lambda: operator(crossbar, key=jax.random.PRNGKey(0))),
    ("typed key", lambda: solve(A, b, key=0)),
    ("square `A`", lambda: solve(A[:3], b)),
    ("square `A`", lambda: solve(sp.csr_array(A[:, :3]), b)),
    ("entries in `b`", lambda: solve(A, b[:3])),
    ("1 dimensions", lambda: solve(A, np.ones((4, 1)))),
    ("column 2 with none", lambda: solve(empty, b)),
    ("column 2 with none", lambda: solve(sp.csr_array(empty), b)),
    ("nan at (1, 1)", lambda: solve(nan, b)),
    ("Got nan", lambda: solve(sp.csr_array(nan), b)),
    ("`b` needs finite", lambda: solve(A, b / 0)),
    ("real entries", lambda: solve(A * 1j, b)),
    ("jax_enable_x64", lambda: solve(A, b, rtol=1e-10)),
    ("rtol < 1", lambda: solve(A, b, rtol=2.0)),
    ("at least 1, the first", lambda: solve(A, b, slices=0)),
    ("the last", lambda: solve(A, b, slices=(3, 2))),
    ("a step multiplied it", lambda: solve(
        np.outer(b, b) + 1e-6 * A, b - np.eye(4)[0], slices=1)),
    ("at least 1", lambda: solve(
        A, b, method=lambda **how: sj.linalg.FlexibleGMRES(**how, restart=0))),
    ("at least 1", lambda: solve(
        A, b, method=lambda **how: sj.linalg.IterativeRefinement(**how, inner_steps=0))),
]
for message, call in cases:
    try:
        call()
    except (ValueError, RuntimeError) as error:
        assert message in str(error), (message, str(error))
    else:
        raise AssertionError(f"no error: {message}")
found = solve(A, b)  # single precision, as JAX comes
assert found.value.dtype == jnp.float32 and found.residual <= 1e-5
print(len(cases), "cases")
"""


def test_library_errors():
    done = subprocess.run([sys.executable, "-c", CASES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "20 cases" in done.stdout


def test_the_missing_extra_is_named():
    code = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "lineax" else found(name)
import sedma_jax
sedma_jax.linalg
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install '.[linalg]'" in done.stderr
