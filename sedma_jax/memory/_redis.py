"""Lookups shared by several processes, in Redis, never older than the database.

Each bucket has a value and a token. Before a writer commits, it sets its token and deletes
the value; after the commit it removes its token. A reader that misses a value sets a token
if there is none, reads the database, and stores what it read only if its token is still
there: a write that began in the meantime has replaced it. These are the leases of Nishtala
et al. (2013, Scaling Memcache at Facebook, NSDI, section 3.2.1); the writer's lease is an
addition, since a write is announced before the commit.

A value is therefore never older than the last commit, as long as all writers name the same
Redis, and since a paused writer's transaction ends before its lease (`LONGEST_PAUSE`). If a
writer does not name this Redis or cannot reach it, others see its writes at the latest when
the value expires. Itself it asks Redis again only after it has deleted what it wrote.

Everything here is also in the database. Values are JSON, and are checked as a file is.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from secrets import token_hex
from urllib.parse import urlsplit

from .._extras import install_hint
from .._files.refusal import FileRefusal
from ._breaker import Breaker
from ._connection import LONGEST_PAUSE
from ._json_lines import as_fields, as_row
from ._lookup_cache import Bucket
from ._pattern import Row

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:
    raise ImportError(
        "`sedma_jax.memory.open(redis=...)` needs redis, which is not installed. "
        f"{install_hint('redis')}"
    ) from error

LEASE = 3 * LONGEST_PAUSE  # milliseconds that a writer's token lives
_FILL = 5_000  # milliseconds that a reader's token lives
EXPIRY = 60_000  # milliseconds that a value lives
_LARGEST_VALUE = 2**18  # bytes
_TIMEOUT = 1.0  # seconds to wait for one answer
_MISSED = 1000  # keys that are deleted at once

_STORE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
    redis.call('DEL', KEYS[1])
end
"""
_WITHDRAW = """
for i = 1, #KEYS, 2 do
    if redis.call('GET', KEYS[i]) == ARGV[1] then
        redis.call('DEL', KEYS[i])
    end
    redis.call('DEL', KEYS[i + 1])
end
"""


class SharedLookups:
    """The lookups of one memory that a Redis keeps."""

    def __init__(self, url: str, memory: str):
        self._name, self._prefix = _shown(url), f"sedma:{memory}"
        self._warned = False
        self._missed: set[Bucket] = set()  # written while Redis was away
        self._breaker = Breaker(self._come_back, redis.RedisError, self._warn)
        try:
            # One retry, for a connection that was closed while idle. A server that does not
            # answer in time is not asked again by whoever waits.
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
            )
        except Exception:  # the error may quote the URL, and so the password
            raise ValueError(
                "`redis` needs a URL such as redis://host:6379/0. Got text of another "
                "form. In a password write %40 for @, %3A for : and %2F for /."
            ) from None
        self._store = self._client.register_script(_STORE)
        self._withdraw = self._client.register_script(_WITHDRAW)
        try:
            self._client.ping()
        except redis.RedisError as error:
            self._client.close()
            raise ConnectionError(
                f"The memory needs the Redis {self._name}. Got: "
                f"{self._reason(error, url)}. "
                "Check that it runs and the URL is right, or leave `redis=` out."
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._breaker.close()
        self._client.close()

    def look_up(
        self, bucket: Bucket, read: Callable[[], tuple[Row, ...]]
    ) -> tuple[Row, ...]:
        """The rows of a bucket, from Redis or by `read`, which asks the database."""
        if bucket in self._missed:  # Redis may hold what was before our write
            return read()
        token_key, value_key = self._keys(bucket)
        value = self._breaker.ask(lambda: self._client.get(value_key))
        rows = None if value is None else _parsed(value, bucket)
        if rows is not None:
            return rows
        token = token_hex(8)
        mine = self._breaker.ask(
            lambda: self._client.set(token_key, token, nx=True, px=_FILL)
        )
        rows = read()
        text = json.dumps([as_fields(row) for row in rows], separators=(",", ":"))
        if mine and len(text) <= _LARGEST_VALUE:
            keys = [token_key, value_key]
            self._breaker.ask(lambda: self._store(keys=keys, args=[token, text, EXPIRY]))
        elif mine:
            self._breaker.ask(lambda: self._client.delete(token_key))
        return rows

    def announce(self, buckets: Iterable[Bucket], token: str) -> None:
        """Announce, before the commit, that buckets will change."""
        buckets = list(buckets)

        def announce() -> bool:
            with self._client.pipeline(transaction=True) as pipeline:
                for bucket in buckets:
                    token_key, value_key = self._keys(bucket)
                    pipeline.set(token_key, token, px=LEASE)
                    pipeline.delete(value_key)
                pipeline.execute()
            return True

        # What is added before it is asked is also deleted if it comes back meanwhile.
        self._missed.update(buckets)
        if self._breaker.ask(announce):
            self._missed.difference_update(buckets)

    def withdraw(self, buckets: Iterable[Bucket], token: str) -> None:
        """Withdraw the announcement, after the commit or when there is none."""
        keys = [key for bucket in buckets for key in self._keys(bucket)]
        if keys:
            self._breaker.ask(lambda: self._withdraw(keys=keys, args=[token]))

    def _keys(self, bucket: Bucket) -> tuple[str, str]:
        """The keys of the token and of the value of a bucket."""
        name = hashlib.sha256(json.dumps(bucket).encode()).hexdigest()[:32]
        return f"{self._prefix}:token:{name}", f"{self._prefix}:rows:{name}"

    def _come_back(self) -> None:
        """Delete what was written meanwhile; raises while Redis is still away."""
        self._client.ping()
        while missed := list(self._missed)[:_MISSED]:
            self._client.delete(*(self._keys(bucket)[1] for bucket in missed))
            self._missed.difference_update(missed)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"The Redis {self._name} does not answer ({type(error).__name__}). "
                "The memory goes on without it; other processes may see what it "
                f"holds for {EXPIRY // 1000} s.",
                RuntimeWarning,
                stacklevel=7,
            )

    def _reason(self, error: Exception, url: str) -> str:
        reason = " ".join(str(error).split())[:300]
        password = urlsplit(url).password
        return reason.replace(password, "***") if password else reason


def _parsed(value: bytes | str, bucket: Bucket) -> tuple[Row, ...] | None:
    """The rows of a value, or None if it is not what this package stores."""
    try:
        if len(value) > _LARGEST_VALUE:
            return None
        rows: Sequence[Row] = [as_row(fields) for fields in json.loads(value)]
    except (ValueError, TypeError, RecursionError, FileRefusal):
        return None
    return tuple(rows) if all((r.kind, r.workload) == bucket for r in rows) else None


def _shown(url: str) -> str:
    """A URL as messages show it: without user and password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return "redis"
