import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import sedma_jax as sj
from sedma_jax.memory import Ablation, ShortTerm, adaptive_matvec, classify
from sedma_jax.memory._strategy import draw_strategy, moments

POOL = sj.Pool(
    [
        sj.ArrayKind(32, 32, 4, sj.devices.EPIRAM),
        sj.ArrayKind(8, 8, 64, sj.devices.TAOX_HFOX),
    ]
)


def test_classes_and_features_of_version_one_do_not_move():
    """Figures by hand; a change of any needs another version."""
    found = classify(np.diag(np.arange(1.0, 65.0)))
    assert found.name == "v1:banded:square:6:even"
    assert found.features[:5] == pytest.approx([6, 6, -np.log10(64), 0, 0], abs=1e-12)
    assert found.features[5] == pytest.approx(np.log10(64 / 32.5), rel=1e-12)
    assert found.features[6] == 0
    assert 0 < found.features[7] <= np.log10(64)
    assert found.features[8] == 1.0
    names = {
        "v1:dense:tall:7:even": np.ones((256, 64)),
        "v1:dense:wide:7:even": np.ones((64, 256)),
        "v1:sparse:square:7:even": np.fliplr(np.eye(100)),
    }
    for name, A in names.items():
        assert classify(A).name == name
        same = classify(scipy.sparse.csr_array(A))
        assert same.features == pytest.approx(classify(A).features, rel=1e-9, abs=1e-9)
    assert classify(np.zeros((3, 3))).features[7] == 0
    assert classify(np.eye(4), y=np.ones(4)).features[8] == 0


def test_large_sparse_matrices_stay_sparse():
    n = 10**6  # dense it would take 8 TB
    A = scipy.sparse.dia_array((np.ones((3, n)), [-1, 0, 1]), shape=(n, n))
    assert classify(A).name == "v1:banded:square:20:even"


@pytest.mark.slow
def test_a_product_is_recalled_and_written_back(tmp_path):
    A = np.random.default_rng(0).random((40, 24))
    x = np.random.default_rng(1).random(24)
    memory = sj.memory.open(f"sqlite:///{tmp_path / 'patterns.db'}")
    short_term, infos = None, []
    for number in range(3):
        y, info, short_term = adaptive_matvec(
            A,
            x,
            POOL,
            memory=memory,
            short_term=short_term,
            pressure=0.5,
            key=jax.random.key(number),
        )
        infos.append(info)
        assert float(jnp.linalg.norm(y - A @ x) / np.linalg.norm(A @ x)) < 0.01
    assert [info.searched for info in infos] == [True, False, False]
    assert infos[0].recalled == 0
    assert infos[1].recalled == infos[0].written
    assert infos[0].lam_mem == 2.0
    kinds = {p.kind: 0 for p in memory.patterns()}
    for pattern in memory.patterns():
        kinds[pattern.kind] += pattern.count
    assert kinds["partition"] == kinds["lambda"] == 3
    assert float(short_term.summary("reward").count) == 3
    mean = np.mean([info.reward for info in infos])
    assert float(short_term.summary("reward").mean) == pytest.approx(mean, rel=1e-12)
    # Without its parts the system still multiplies, and leaves memory alone.
    bare = Ablation(False, False, False, False)
    before = len(memory)
    _, info, _ = adaptive_matvec(
        A, x, POOL, memory=memory, ablation=bare, pressure=0.5, key=jax.random.key(9)
    )
    assert (info.strategy, info.recalled, info.written) == ("grid-0", 0, 0)
    assert float(info.correction.lam) == 1e-12
    assert len(memory) == before
    memory.close()


class Seen:
    def __init__(self, count, mean, spread):
        self.count, self.mean, self.spread, self.choice = count, mean, spread, {}


def test_draws_prefer_what_was_measured_to_be_better():
    names, expected = ("a", "b"), (1.0, 0.0)
    measured = [[Seen(30, -1.0, 0.1)], [Seen(30, 0.5, 0.1)]]
    keys = jax.random.split(jax.random.key(0), 20)
    draws = [draw_strategy(names, expected, measured, key=k) for k in keys]
    assert set(draws) == {1}
    unknown = [draw_strategy(names, (0.0, 0.0), [[], []], key=k) for k in keys]
    assert set(unknown) == {0, 1}


def test_moments_of_parts_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(size=9)
    parts = [
        Seen(len(v), v.mean(), v.std(ddof=1) if len(v) > 1 else np.nan)
        for v in (values[:1], values[1:4], values[4:])
    ]
    want = (9, values.mean(), values.std(ddof=1))
    assert moments(parts) == pytest.approx(want, rel=1e-12)
    assert moments([]) == (0, 0, 0)


def test_a_change_starts_the_statistics_anew():
    memory = ShortTerm().add(reward=1.0)
    changed = False
    for _ in range(4):
        memory, changed = memory.watched(-6.0)
        if changed:
            break
    assert changed
    assert memory.regime == 1
    assert int(memory.summary("reward").count) == 0
