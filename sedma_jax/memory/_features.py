"""The features of all patterns of a kind, as one table for `kernels.nearest_rows`."""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import nearest_rows
from ._pattern import Row

_nearest = eqx.filter_jit(nearest_rows)


class FeatureTable:
    """The patterns of one kind that have a given number of features.

    The number of rows is a power of two and rarely changes, so that few shapes compile.
    """

    def __init__(self, columns: int, rows: int):
        size = 1 << max(rows - 1, 7).bit_length()
        self._table = np.zeros((size, columns), np.float32)
        self._occupied = np.zeros(size, bool)
        self._rows: list[Row | None] = [None] * size
        self._place: dict[str, int] = {}
        self._vacant = list(range(size))[::-1]
        self._on_device: tuple[jax.Array, jax.Array] | None = None

    def update(self, rows: Iterable[Row]) -> None:
        """Add patterns, or replace those that have changed."""
        for row in rows:
            values = np.frombuffer(row.features or b"", "<f8")
            if values.size != self._table.shape[1]:  # it may have had that many before
                self._remove(row.digest)
                continue
            place = self._place.get(row.digest)
            if place is None:
                place = self._place[row.digest] = self._vacancy()
            self._table[place] = values
            self._occupied[place] = True
            self._rows[place] = row
            self._on_device = None

    def keep(self, digests: set[str]) -> None:
        """Drop all patterns but those with these digests."""
        for digest in self._place.keys() - digests:
            self._remove(digest)

    def nearest(self, features: Iterable[float], k: int) -> list[tuple[Row, float]]:
        """At most `k` patterns and their distances, nearest first."""
        if not self._place:
            return []
        if self._on_device is None:
            self._on_device = jnp.asarray(self._table), jnp.asarray(self._occupied)
        # `k` is rounded up, so that few values of it compile.
        asked = min(1 << max(k - 1, 7).bit_length(), len(self._occupied))
        query = jnp.asarray(np.asarray(features, np.float32))
        index, distance = jax.device_get(_nearest(*self._on_device, query, k=asked))
        found = [
            (self._rows[i], float(d))
            for i, d in zip(index[:k].tolist(), distance[:k].tolist(), strict=True)
            if d < np.inf
        ]
        return [(row, d) for row, d in found if row is not None]

    def _vacancy(self) -> int:
        if not self._vacant:
            size = len(self._rows)
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._occupied = np.concatenate([self._occupied, np.zeros(size, bool)])
            self._rows += [None] * size
            self._vacant = list(range(size, 2 * size))[::-1]
        return self._vacant.pop()

    def _remove(self, digest: str) -> None:
        place = self._place.pop(digest, None)
        if place is not None:
            self._occupied[place] = False
            self._rows[place] = None
            self._vacant.append(place)
            self._on_device = None
