"""Interleaved and separate-source wires against a dense nodal analysis of resistors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import interleaved_transfer, separate_source_conductances

import sedma_jax as sj

ROWS, COLS = 6, 4
WORD, BIT = 40.0, 25.0


def cells(seed=0):
    return np.random.default_rng(seed).uniform(1e-5, 1e-3, (2, ROWS, COLS))


def currents_into_ground(resistors, potential):
    """Nodal analysis: currents into each grounded node; sources hold `potential`."""
    nodes = list(dict.fromkeys(n for a, b, _ in resistors for n in (a, b)))
    place = {node: k for k, node in enumerate(nodes)}
    laplacian = np.zeros((len(nodes),) * 2)
    for a, b, r in resistors:
        a, b = place[a], place[b]
        laplacian[[a, b], [a, b]] += 1 / r
        laplacian[[a, b], [b, a]] -= 1 / r
    held = np.array([n in potential for n in nodes])
    v = np.array([potential.get(n, 0.0) for n in nodes])
    drive = -laplacian[np.ix_(~held, held)] @ v[held]
    v[~held] = np.linalg.solve(laplacian[np.ix_(~held, ~held)], drive)
    into = laplacian @ v
    return np.array([-into[place["ground", j]] for j in range(COLS)])


def bit_line(g):
    """Nodes of bit lines, and their wires."""
    rows = g.shape[1]
    node = lambda i, j: ("ground", j) if i == rows else ("bit", i, j)
    places = [(i, j) for i in range(rows) for j in range(COLS)]
    return node, places, [(node(i, j), node(i + 1, j), BIT) for i, j in places]


def interleaved(g, v):
    node, places, wires = bit_line(g)
    potential = {("ground", j): 0.0 for j in range(COLS)}
    for p, sign in enumerate((1, -1)):
        potential |= {("source", p, i): sign * v[i] for i in range(len(v))}
        for i, j in places:
            before = ("source", p, i) if j == 0 else ("word", p, i, j - 1)
            wires += [(before, ("word", p, i, j), WORD)]
            wires += [(("word", p, i, j), node(i, j), 1 / g[p, i, j])]
    return currents_into_ground(wires, potential)


def separate(g, active, together):
    """Currents per volt: of pairs on one bit line, or of each cell of a pair by itself."""
    out = []
    for own in ((0, 1),) if together else ((0,), (1,)):
        node, places, wires = bit_line(g)
        potential = {("ground", j): 0.0 for j in range(COLS)}
        for p in own:
            volts = -1.0 if together and p else 1.0
            potential |= {("source", p, j): volts for j in range(COLS)}
            for i, j in places:
                before = ("source", p, j) if i == 0 else ("line", p, i - 1, j)
                wires += [(before, ("line", p, i, j), WORD)]
                if active[i]:
                    wires += [(("line", p, i, j), node(i, j), 1 / g[p, i, j])]
        out.append(currents_into_ground(wires, potential))
    return out[0] if together else out[0] - out[1]


def test_interleaved_pairs_obey_kirchhoff():
    g, v = cells(), np.random.default_rng(1).uniform(-0.5, 0.5, ROWS)
    both = np.asarray(jax.jit(interleaved_transfer)(jnp.asarray(g), WORD, BIT))
    expected = interleaved(g, v)
    np.testing.assert_allclose(v @ (both[0] - both[1]), expected, rtol=0, atol=1e-12)
    # Currents that cancel on the spot leave less on the bit line than apart.
    apart = [sj.kernels.transfer_matrix(jnp.asarray(h), WORD, BIT) for h in g]
    assert np.abs(both - np.stack(apart)).max() > 1e-5
    ideal = interleaved_transfer(jnp.asarray(g), 0.0, 0.0)
    np.testing.assert_allclose(ideal, g, rtol=1e-12)


@pytest.mark.parametrize("together", [False, True])
def test_source_lines_obey_kirchhoff(together):
    g = cells(2)
    for active in ([1, 0, 1, 1, 0, 1], [0] * ROWS, [1] * ROWS):
        seen = separate_source_conductances(
            jnp.asarray(g), jnp.array(active, bool), WORD, BIT, interleaved=together
        )
        lines = np.asarray(seen).sum(1)
        expected = separate(g, active, together)
        np.testing.assert_allclose(lines[0] - lines[1], expected, rtol=0, atol=1e-13)


def test_products_through_other_wires():
    A = np.random.default_rng(3).uniform(-1, 1, (COLS, ROWS))
    device = sj.Device(g_min=1e-5, g_max=1e-3, pulses_ltp=64, pulses_ltd=64)
    crossbar = sj.program_exactly(A, device, array=(8, COLS))
    g = np.asarray(crossbar.conductance)[0]
    x = np.array([3.0, -1.0, 2.0, 0.0, 1.0, -3.0])
    unit = np.asarray(crossbar.scale)[0] / (1e-3 - 1e-5)
    wired = sj.with_line_resistance(crossbar, WORD, BIT, interleaved=True)
    y = sj.matvec(wired, x, key=jr.key(0))
    # Two rows of eight are not driven, and still conduct.
    expected = interleaved(g, np.append(x, [0.0, 0.0])) * unit
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)
    digits = np.array([np.abs(x).astype(int) >> k & 1 for k in (0, 1)])
    one = sj.program_exactly(A, device, array=(8, COLS), mapping="offset")
    how = dict(bits=3, key=jr.key(0))
    y = sj.separate_source_matvec(one, x, 0.0, 0.0, **how)  # ideal wires
    np.testing.assert_allclose(y, A @ x, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="pairs of cells"):
        sj.separate_source_matvec(one, x, 1.0, 1.0, interleaved=True, **how)
    with pytest.raises(ValueError, match="pairs of cells"):
        sj.with_line_resistance(one, 1.0, 1.0, interleaved=True)
    for together in (False, True):
        y = sj.separate_source_matvec(
            crossbar, x, WORD, BIT, bits=3, interleaved=together, key=jr.key(0)
        )
        expected = np.zeros(COLS)
        for k, sign in ((0, 1), (1, 1), (0, -1), (1, -1)):
            active = np.append(digits[k] * (np.sign(x) == sign), [0, 0])
            expected += sign * 2**k * separate(g, active, together) * unit
        np.testing.assert_allclose(y, expected, rtol=1e-8, atol=1e-10)
