import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tolerances import gamma

from sedma_jax import kernels

# Compiled once per shape: run eagerly, every call would compile its loops anew.
static = ("tolerance", "max_iterations")
transfer_matrix = jax.jit(kernels.transfer_matrix)
solve_nodes = jax.jit(kernels.solve_nodes, static_argnames=static)
effective_conductances = jax.jit(kernels.effective_conductances, static_argnames=static)

ROWS, COLS = 7, 5
TOLERANCE = 16 * np.finfo(float).eps  # the default of `solve_nodes`
# Sums of one sign along every line, in the elimination of every row.
ROUNDING = {dtype: gamma(4 * (ROWS + COLS), dtype) for dtype in (np.float32, np.float64)}


def kirchhoff(g, voltages, r_word, r_bit, r_access=0.0):
    """Dense nodal analysis of a list of resistors, one matrix row per node.

    Returns output currents, the two node voltages of each cell, and an error bound.
    """
    rows, cols = g.shape
    word = lambda i, j: ("source", i) if j < 0 or r_word == 0 else ("word", i, j)
    bit = lambda i, j: ("ground", j) if i == rows or r_bit == 0 else ("bit", i, j)
    resistors = []
    for i in range(rows):
        for j in range(cols):
            resistors += [(word(i, j - 1), word(i, j), r_word)] if r_word else []
            resistors += [(bit(i, j), bit(i + 1, j), r_bit)] if r_bit else []
            drain = ("drain", i, j) if r_access else bit(i, j)
            resistors += [(drain, bit(i, j), r_access)] if r_access else []
            resistors += [(word(i, j), drain, 1 / g[i, j])]
    nodes = list(dict.fromkeys(n for a, b, _ in resistors for n in (a, b)))
    place = {node: k for k, node in enumerate(nodes)}
    laplacian = np.zeros((len(nodes), len(nodes)))
    for a, b, r in resistors:
        a, b = place[a], place[b]
        laplacian[[a, b], [a, b]] += 1 / r
        laplacian[[a, b], [b, a]] -= 1 / r
    held = np.array([node[0] in ("source", "ground") for node in nodes])
    potential = np.array([voltages[n[1]] if n[0] == "source" else 0.0 for n in nodes])
    inner = laplacian[np.ix_(~held, ~held)]
    bound = 1e-15
    if len(inner):
        drive = -laplacian[np.ix_(~held, held)] @ potential[held]
        potential[~held] = np.linalg.solve(inner, drive)
        bound = np.linalg.cond(inner) * np.finfo(float).eps
    cells = np.indices((rows, cols)).transpose(1, 2, 0)
    u = np.array([[potential[place[word(*c)]] for c in line] for line in cells])
    w = np.array([[potential[place[bit(*c)]] for c in line] for line in cells])
    current = (u - w) / (1 / g + r_access)
    return current.sum(0), u, w, bound


def array(shape=(ROWS, COLS), low=1e-5, high=1e-3, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def voltages(rows=ROWS, seed=1):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, rows)


@pytest.mark.parametrize("shape", [(ROWS, COLS), (COLS, ROWS)])
@pytest.mark.parametrize("r", [(2.0, 3.0), (200.0, 50.0), (0.0, 30.0), (30.0, 0.0)])
def test_kirchhoff(shape, r):
    g, v = array(shape), voltages(shape[0])
    currents, word_line, bit_line, bound = kirchhoff(g, v, *r)
    scale = np.abs(v) @ g
    solved = solve_nodes(jnp.asarray(g), jnp.asarray(v), *r)
    assert solved.converged
    assert 0 < solved.residual < 4 * TOLERANCE
    # Twice the tolerance over the least weight of a cell, and the error of the oracle.
    atol = (bound + 2 * TOLERANCE * np.sqrt(g.sum() / g.min())) * np.abs(v).max()
    np.testing.assert_allclose(solved.word_line, word_line, rtol=0, atol=atol)
    np.testing.assert_allclose(solved.bit_line, bit_line, rtol=0, atol=atol)
    exact = v @ np.asarray(transfer_matrix(jnp.asarray(g), *r))
    assert np.all(np.abs(solved.currents - currents) <= atol * g.sum(0))
    assert np.all(np.abs(exact - currents) <= (bound + ROUNDING[np.float64]) * scale)


def test_access_transistor_in_series():
    g, v, r_access = array(), voltages(), 15e3
    currents, *_, bound = kirchhoff(g, v, 2.0, 3.0, r_access)
    cell = kernels.series_conductance(jnp.asarray(g), r_access)
    exact = v @ np.asarray(transfer_matrix(cell, 2.0, 3.0))
    tolerance = bound + ROUNDING[np.float64]
    assert np.all(np.abs(exact - currents) <= tolerance * (np.abs(v) @ np.asarray(cell)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_row_is_a_ladder(dtype):
    # `U_k = cosh((n + 1/2 - k) t) / cosh((n + 1/2) t)`, `4 sinh(t/2)**2 = r g`.
    n, g, r = 12, 1e-3, 30.0
    t = 2 * np.arcsinh(np.sqrt(r * g) / 2)
    u = np.cosh((n - 0.5 - np.arange(n)) * t) / np.cosh((n + 0.5) * t)
    row = jnp.full((1, n), g, dtype)
    answer = np.stack(
        [
            transfer_matrix(row, r, 0.0)[0],
            transfer_matrix(row.T, 0.0, r)[::-1, 0],
            solve_nodes(row, jnp.ones(1, dtype), r, 0.0).currents,
            effective_conductances(row, r, 0.0, tolerance=1e-6)[0],
        ]
    )
    assert answer.dtype == dtype
    bound = gamma(8 * n, dtype) + np.sqrt(n) * np.array([[0], [0], [TOLERANCE], [1e-6]])
    bound[2] = max(bound[2, 0], 16 * np.finfo(dtype).eps * np.sqrt(n))
    assert np.all(np.abs(answer / (g * u) - 1) < bound / u.min())


def test_one_cell():
    g, r_word, r_bit = 1e-3, 70.0, 30.0
    one = jnp.full((1, 1), g)
    expected = g / (1 + g * (r_word + r_bit))
    for f in (transfer_matrix, effective_conductances):
        np.testing.assert_allclose(f(one, r_word, r_bit), [[expected]], rtol=1e-6)
    np.testing.assert_allclose(
        transfer_matrix(one, r_word, r_bit), [[expected]], rtol=1e-15
    )


def test_long_ladder_reaches_its_continued_fraction():
    # `x = g + x / (1 + r x)` seen from a node far from the end.
    g, r = 1e-3, 1e3
    x = (g + np.sqrt(g**2 + 4 * g / r)) / 2
    total = jnp.sum(transfer_matrix(jnp.full((1, 40), g), r, 0.0))
    np.testing.assert_allclose(total, x / (1 + r * x), rtol=gamma(200, np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ideal_lines(dtype):
    g, v = jnp.asarray(array(), dtype), jnp.asarray(voltages(), dtype)
    bound = ROUNDING[dtype]
    for f in (transfer_matrix, effective_conductances):
        assert f(g, 0.0, 0.0).dtype == dtype
        np.testing.assert_allclose(f(g, 0.0, 0.0), g, rtol=bound)
    solved = solve_nodes(g, v, 0.0, 0.0)
    assert solved.currents.dtype == solved.residual.dtype == dtype
    assert solved.iterations == 0
    assert np.all(np.abs(solved.currents - v @ g) <= bound * (np.abs(v) @ g))
    # A vanishing resistance continues from there: no digits cancel.
    np.testing.assert_allclose(transfer_matrix(g, 1e-15, 1e-15), g, rtol=2 * bound)


def test_float32_keeps_its_digits():
    # A segment is 1e-8 of a cell, where a float32 nodal matrix would keep nothing.
    g, v = array(low=1e-6, high=1e-5), voltages()
    exact = np.asarray(transfer_matrix(jnp.asarray(g), 2e-3, 3e-3))
    single, v32 = jnp.asarray(g, np.float32), jnp.asarray(v, np.float32)
    # And the tolerance of the solve, in the norm of the whole array.
    bound = ROUNDING[np.float32] + 16 * np.finfo(np.float32).eps * np.sqrt(COLS)
    np.testing.assert_allclose(transfer_matrix(single, 2e-3, 3e-3), exact, rtol=bound)
    solved = solve_nodes(single, v32, 2e-3, 3e-3)
    assert solved.converged
    missed = np.abs(np.asarray(solved.currents) - v @ exact)
    assert np.all(missed <= bound * (np.abs(v) @ exact))


def test_reciprocity():
    g = jnp.asarray(array((6, 6)))
    there = transfer_matrix(g, 100.0, 300.0)
    back = transfer_matrix(g[::-1, ::-1].T, 300.0, 100.0).T[::-1, ::-1]
    np.testing.assert_allclose(there, back, rtol=gamma(200, np.float64))
    assert np.all(np.asarray(there) > 0)


def test_currents_superpose_in_a_batch():
    g = jnp.asarray(array())
    solved = solve_nodes(g, jnp.eye(ROWS)[None], 20.0, 30.0)
    assert solved.word_line.shape == (1, ROWS, ROWS, COLS)
    assert solved.converged.shape == solved.iterations.shape == (1, ROWS)
    exact = transfer_matrix(g, 20.0, 30.0)
    np.testing.assert_allclose(solved.currents[0], exact, rtol=0, atol=1e-13 * np.max(g))


def test_cell_without_conductance():
    g, v = array(), voltages()
    g[2, 3], g[:, 1], g[4] = 0, 0, 0
    r = (200.0, 300.0)
    solved = solve_nodes(jnp.asarray(g), jnp.asarray(v), *r)
    floor = 1e-18  # an open cell by another name, for the oracle
    currents, word_line, bit_line, bound = kirchhoff(np.maximum(g, floor), v, *r)
    np.testing.assert_allclose(solved.word_line, word_line, rtol=0, atol=1e-12)
    np.testing.assert_allclose(solved.bit_line, bit_line, rtol=0, atol=1e-12)
    assert bound < 1e-9
    exact = v @ np.asarray(transfer_matrix(jnp.asarray(g), *r))
    np.testing.assert_allclose(exact, currents, rtol=0, atol=1e-12 * g.sum(0).max())
    dead = solve_nodes(jnp.zeros((ROWS, COLS)), jnp.asarray(v), *r)
    assert dead.converged
    np.testing.assert_array_equal(dead.currents, 0)


# In units where cells are near 1, so that finite differences see all arguments.
def _relative():
    return jnp.asarray(array((4, 3), 0.2, 1)), jnp.asarray(voltages(4))


@pytest.mark.parametrize("r", [0.0, 0.1])
@pytest.mark.parametrize("name", ["solve", "nodes", "transfer", "wide", "effective"])
def test_gradient(name, r):
    g, v = _relative()
    r = (jnp.asarray(r), jnp.asarray(2 * r))

    @jax.jit
    def f(g, v, *r):
        if name == "solve":
            return solve_nodes(g, v, *r).currents
        if name == "nodes":
            return solve_nodes(g, v, *r).bit_line
        if name == "transfer":
            return v @ transfer_matrix(g, *r)
        if name == "wide":
            return transfer_matrix(g.T, *r) @ v
        return v @ effective_conductances(g, *r, tolerance=1e-14)

    # Central differences of step 1e-4 err by 1e-8 of a third derivative of order one.
    of_arrays = lambda *args: f(*map(jnp.asarray, args))  # it differences in NumPy
    check_grads(of_arrays, (g, v, *r), 1, ["fwd", "rev"], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_gradient_at_an_open_cell():
    # One sided there, so by the other route: implicit against through the elimination.
    g, v = _relative()
    g = g.at[1, 1].set(0.0)
    solved = jax.jacrev(lambda g: solve_nodes(g, v, 0.1, 0.2).currents)(g)
    exact = jax.jacrev(lambda g: v @ transfer_matrix(g, 0.1, 0.2))(g)
    assert np.all(np.abs(exact[1, 1, 1]) > 0.01)
    np.testing.assert_allclose(solved, exact, rtol=0, atol=1e-13)


def test_first_order_in_the_resistance():
    # dT/dr_word = -g_ij sum_k min(j, k) g_ik at r = 0, and so for the bit lines.
    g = array()
    shared = np.minimum(*np.indices((COLS, COLS))) + 1
    below = ROWS - np.maximum(*np.indices((ROWS, ROWS)))
    zero = jnp.asarray(0.0)
    for f in (transfer_matrix, effective_conductances):
        word, bit = jax.jacfwd(f, (1, 2))(jnp.asarray(g), zero, zero)
        np.testing.assert_allclose(word, -g * (g @ shared), rtol=1e-12)
        np.testing.assert_allclose(bit, -g * (below @ g), rtol=1e-12)


def test_effective_conductances_keep_row_and_column_sums():
    g = jnp.asarray(array())
    exact = transfer_matrix(g, 50.0, 80.0)
    estimate = effective_conductances(g, 50.0, 80.0, tolerance=1e-14)
    assert np.max(np.abs(estimate / exact - 1)) > 1e-4
    np.testing.assert_allclose(estimate.sum(0), exact.sum(0), rtol=1e-12)
    np.testing.assert_allclose(estimate.sum(1), exact.sum(1), rtol=1e-12)
    for r in ((80.0, 0.0), (0.0, 80.0)):
        estimate = effective_conductances(g, *r, tolerance=1e-14)
        np.testing.assert_allclose(estimate, transfer_matrix(g, *r), rtol=1e-12)


@pytest.mark.parametrize(("rg", "error"), [(1e-5, 1.8e-6), (1e-4, 1.7e-4), (1e-3, 1.1e-2)])
def test_error_of_effective_conductances(rg, error):
    # The documented table, drawn anew: a mean over 1,024 cells repeats within a fifth.
    g = jnp.asarray(array((32, 32), 0.1, 1.0, seed=5))
    exact = np.asarray(transfer_matrix(g, rg, rg))
    estimate = np.asarray(effective_conductances(g, rg, rg))
    measured = np.linalg.norm(estimate - exact) / np.linalg.norm(exact)
    assert 0.8 * error < measured < 1.25 * error


def test_running_out_of_steps_is_loud():
    g, v = jnp.asarray(array()), jnp.asarray(voltages())
    solved = solve_nodes(g, v, 200.0, 300.0, max_iterations=2)
    assert not solved.converged
    assert solved.iterations == 2
    assert all(
        np.all(np.isnan(getattr(solved, name)))
        for name in ("currents", "word_line", "bit_line", "residual")
    )
    short = lambda g: jnp.sum(solve_nodes(g, v, 200.0, 300.0, max_iterations=2).currents)
    assert np.all(np.isnan(jax.grad(short)(g)))
    assert np.all(np.isnan(effective_conductances(g, 200.0, 300.0, max_iterations=1)))


def test_loose_tolerance_bounds_the_error():
    g, v = jnp.asarray(array()), jnp.asarray(voltages())
    tight = solve_nodes(g, v, 200.0, 300.0)
    loose = solve_nodes(g, v, 200.0, 300.0, tolerance=1e-3)
    assert loose.iterations < tight.iterations
    drop = lambda s: s.word_line - s.bit_line
    norm = lambda u: np.sqrt(np.sum(g * u**2))
    applied = norm(np.broadcast_to(v[:, None], g.shape))
    # `bit_line` is one step on from the solved voltages: compare through the currents.
    missed = np.abs(loose.currents - tight.currents)
    assert np.all(missed <= loose.residual * applied * np.sqrt(g.sum(0)))
    assert 0 < loose.residual <= 1e-3
    assert norm(drop(loose) - drop(tight)) > 0


def test_vmap_and_jit_agree_with_one_array():
    g = jnp.asarray(array((3, ROWS, COLS)))
    v = jnp.asarray(voltages())
    r = jnp.asarray([0.0, 20.0, 300.0])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.max(g))
    exact = jax.jit(jax.vmap(transfer_matrix, (0, 0, None)))(g, r, 10.0)
    solved = jax.jit(jax.vmap(solve_nodes, (0, None, 0, None)))(g, v, r, 10.0)
    for k in range(3):
        close(exact[k], transfer_matrix(g[k], r[k], 10.0))
        alone = solve_nodes(g[k], v, r[k], 10.0)
        close(solved.currents[k], alone.currents)
        assert solved.iterations[k] == alone.iterations
    total = lambda g: jnp.sum(jax.vmap(lambda a: solve_nodes(a, v, 20.0, 10.0).currents)(g))
    one = lambda a: jnp.sum(solve_nodes(a, v, 20.0, 10.0).currents)
    slopes = jax.grad(total)(g)
    np.testing.assert_allclose(slopes[1], jax.grad(one)(g[1]), rtol=0, atol=1e-12)


def test_long_lines_underflow_quietly():
    g = jnp.full((2, 300), 1.0, np.float32)
    exact = np.asarray(transfer_matrix(g, 1.0, 1.0))
    assert np.all(np.isfinite(exact))
    assert exact[0, -1] == 0


@pytest.mark.parametrize("f", [kernels.transfer_matrix, kernels.effective_conductances])
def test_negative_resistance_is_an_error(f):
    with pytest.raises(ValueError, match=r"from 0 ohms up.*r_bit=-1"):
        f(jnp.ones((2, 2)), 1.0, -1.0)


def test_voltages_of_another_length_are_an_error():
    # The shape checker of the test run speaks first; a user meets the ValueError.
    unchecked = kernels.solve_nodes.__wrapped__
    with pytest.raises(ValueError, match="one voltage per word line"):
        unchecked(jnp.ones((2, 3)), jnp.ones(3), 1.0, 1.0)
