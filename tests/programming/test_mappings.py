import jax
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax import _mappings

HOW = sj.Programming(array=(4, 4), scheme=sj.open_loop)
KEY = jax.random.key(0)


def product(n):
    crossbar, _ = sj.program(np.ones((n, 4), np.float32), sj.devices.EPIRAM, HOW, key=KEY)
    return np.asarray(sj.matvec(crossbar, np.ones(4, np.float32), key=KEY))


@pytest.mark.skipif(not _mappings.mappings()[0], reason="Linux alone says")
def test_many_shapes_leave_room_for_mappings(monkeypatch):
    first = product(3)
    start, _ = _mappings.mappings()
    forgotten = []
    monkeypatch.setattr(_mappings, "_OFTEN", 2)
    most = (start + 120) / _mappings._SHARE
    used = _mappings.mappings
    monkeypatch.setattr(_mappings, "mappings", lambda: (used()[0], most))
    monkeypatch.setattr(_mappings.gc, "collect", lambda: forgotten.append(1))
    for n in range(5, 85, 4):  # each a product of another shape
        product(n)
    assert forgotten
    # Without forgetting, 20 shapes take some 400 mappings.
    assert used()[0] < start + 250
    np.testing.assert_array_equal(product(3), first)
