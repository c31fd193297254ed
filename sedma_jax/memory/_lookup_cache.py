"""The lookups that this process keeps, so that repeating one asks no server."""

from cachetools import LRUCache

from ._pattern import Row

Bucket = tuple[str, str]  # kind and workload


class LookupCache:
    """The rows of the buckets that were looked up last."""

    def __init__(self, size: int):
        self._rows: LRUCache[Bucket, tuple[Row, ...]] | None = (
            LRUCache(size) if size else None
        )

    def get(self, bucket: Bucket) -> tuple[Row, ...] | None:
        """The rows of a bucket, or None if they are not kept."""
        return None if self._rows is None else self._rows.get(bucket)

    def put(self, bucket: Bucket, rows: tuple[Row, ...]) -> None:
        """Keep the rows of a bucket."""
        if self._rows is not None:
            self._rows[bucket] = rows

    def drop(self, bucket: Bucket) -> None:
        """Forget a bucket."""
        if self._rows is not None:
            self._rows.pop(bucket, None)

    def clear(self) -> None:
        """Forget everything."""
        if self._rows is not None:
            self._rows.clear()
