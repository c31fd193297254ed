import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import sedma_jax as sj
from sedma_jax.memory import (
    Ablation,
    Measured,
    RewardWeights,
    ShortTerm,
    Workload,
    _decision,
    _workload,
    adaptive_matvec,
    classify,
)
from sedma_jax.memory._cold_start import neighbour
from sedma_jax.memory._reward import reward
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


def test_what_is_no_matrix_is_refused_before_anything_is_chosen():
    for A, requirement in (
        (np.ones((0, 3)), "at least one entry"),
        (np.array([[1.0, np.nan]]), "`A` needs finite entries"),
    ):
        with pytest.raises(ValueError, match=requirement):
            classify(A)
    with pytest.raises(ValueError, match="`A` needs finite entries"):
        adaptive_matvec(A, np.ones(2), POOL, memory=None, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`y` needs finite entries"):
        classify(np.eye(2), y=np.array([1.0, np.inf]))


def test_large_sparse_matrices_stay_sparse():
    n = 10**6  # dense it would take 8 TB
    A = scipy.sparse.dia_array((np.ones((3, n)), [-1, 0, 1]), shape=(n, n))
    assert classify(A).name == "v1:banded:square:20:even"


def test_a_sparse_matrix_is_checked_once_to_decide(monkeypatch):
    checks = []
    for module in (_decision, _workload):
        check = module.checked_sparse
        monkeypatch.setattr(
            module, "checked_sparse", lambda A, check=check: checks.append(A) or check(A)
        )
    A = scipy.sparse.random_array((30, 20), density=0.1, rng=np.random.default_rng(0))
    pool = sj.Pool([sj.ArrayKind(16, 16, 64, sj.devices.EPIRAM)])
    decision = _decision.decide(
        A, pool, None, ShortTerm(), Ablation(), 0.5, key=jax.random.key(0)
    )
    assert len(checks) == 1
    assert decision.name.startswith(sj.memory.classify(A).name)


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
    # Seconds, energy and error by themselves are for people.
    assert infos[1].recalled == infos[0].written - 3
    assert infos[0].lam_mem == 2.0
    kinds = {p.kind: 0 for p in memory.patterns()}
    for pattern in memory.patterns():
        kinds[pattern.kind] += pattern.count
    assert kinds["partition"] == kinds["lambda"] == 3
    for kind in ("seconds", "energy", "error"):
        found = [p for p in memory.patterns() if p.kind == kind]
        total = sum(p.count * p.mean for p in found)
        values = [getattr(info.measured, kind) for info in infos]
        assert total == pytest.approx(sum(values), rel=1e-9)
        assert min(values) > 0
    name = next(p.workload for p in memory.patterns())
    assert int(short_term.recent_products(name).log_lam.count) == 3
    assert float(short_term.summary("reward").count) == 3
    mean = np.mean([info.reward for info in infos])
    assert float(short_term.summary("reward").mean) == pytest.approx(mean, rel=1e-12)
    # A class without patterns starts from the best strategy of the nearest.
    near = np.random.default_rng(2).random((60, 40))
    _, info, _ = adaptive_matvec(
        near, np.ones(40), POOL, memory=memory, pressure=0.5, key=jax.random.key(8)
    )
    rewards = {p.choice["strategy"]: p.mean for p in memory.patterns("partition", name)}
    assert (info.searched, info.neighbour) == (False, name)
    assert info.strategy == max(rewards, key=rewards.get)
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


@pytest.mark.parametrize(
    ("moved", "found"),
    [
        ({}, True),
        ({0: 0.9, 1: -0.9}, True),
        ({0: 1.1}, False),
        ({2: -0.6}, False),
        ({3: 0.2}, False),
        ({7: 3.0}, True),
    ],
)
def test_a_new_class_starts_from_the_nearest_of_its_pool(tmp_path, moved, found):
    known = (6.0, 6.0, 0.0, 0.5, 0.3, 0.2, 0.0, 1.0, 1.0)
    with sj.memory.open(f"sqlite:///{tmp_path / 'patterns.db'}") as memory:
        for name, strategy, reward in (
            ("v1:a|pool", "cells", 1.0),
            ("v1:a|pool", "grid-0", 2.0),
            ("v1:a|other", "even", 9.0),
            ("v1:far|pool", "arrays", 9.0),
        ):
            choice = {"strategy": strategy, "regime": 0}
            away = 5.0 if "far" in name else 0.0
            features = np.add(known, [away] + [0.0] * 8)
            memory.record("partition", name, choice, reward, features=features)
        features = np.array(known)
        for place, by in moved.items():
            features[place] += by
        asked = lambda regime: neighbour(
            memory, Workload("v1:b", tuple(features.tolist())), "|pool", regime
        )
        assert asked(0) == (("v1:a|pool", "grid-0") if found else None)
        assert asked(1) is None


def test_the_reward_counts_time_energy_and_error_by_their_weights():
    best = Measured(seconds=1.0, cost=2.0, energy=1e-9, error=1e-4)
    weights = RewardWeights(energy=0.3, error=0.2)
    assert reward(best, 2.0, weights) == 0.0
    for name, share in (("cost", 1.0), ("energy", 0.3), ("error", 0.2)):
        worse = dataclasses.replace(best, **{name: 3 * getattr(best, name)})
        assert reward(worse, 2.0, weights) == pytest.approx(-share * np.log(3), rel=1e-12)
    exact = dataclasses.replace(best, energy=0.0, error=0.0)
    assert 0 < reward(exact, 2.0, weights) < 20
    with pytest.raises(ValueError, match="`error` finite"):
        RewardWeights(error=float("nan"))


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
