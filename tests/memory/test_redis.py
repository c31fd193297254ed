"""Lookups in Redis are never older than the database, whoever dies when."""

import contextlib
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
import redis
from services import REDIS

import sedma_jax as sj
from sedma_jax.memory import _redis


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def memories(postgres, redis_url):
    """A reader and a writer with connections of their own."""
    with (
        sj.memory.open(postgres, redis=redis_url) as reader,
        sj.memory.open(postgres, redis=redis_url) as writer,
    ):
        writer.record("k", "w", {"a": 1}, 1.0, features=[1.0, 2.0])
        yield reader, writer


def keys(client, memory, sort):
    return list(client.scan_iter(f"sedma:{memory._store._state.name}:{sort}:*"))


def wait_until_back(*memories):
    end = time.monotonic() + 120
    while any(memory._store._shared._breaker.away for memory in memories):
        assert time.monotonic() < end
        time.sleep(0.05)


def counts(memory):
    return [pattern.count for pattern in memory.recall("k", "w")]


def test_a_second_lookup_asks_redis_only(client, memories):
    reader, _ = memories
    first = reader.recall("k", "w")
    asked = []
    reader._store._database.read = asked.append
    assert reader.recall("k", "w") == first
    assert not asked
    (key,) = keys(client, reader, "rows")
    assert 0 < client.pttl(key) <= _redis.EXPIRY
    assert json.loads(client.get(key))[0]["choice"] == {"a": 1}
    assert keys(client, reader, "token") == []


def test_a_write_during_a_lookup_keeps_its_old_rows_out(client, memories):
    reader, writer = memories
    read = reader._store._database.read

    def read_slowly(work):
        rows = read(work)
        writer.record("k", "w", {"a": 1}, 1.0)
        return rows

    reader._store._database.read = read_slowly
    assert counts(reader) == [1]  # it began before the write
    reader._store._database.read = read
    assert keys(client, reader, "rows") == []
    assert counts(reader) == [2]
    assert counts(reader) == [2]


def test_a_lookup_between_announcement_and_commit_stores_nothing(client, memories):
    reader, writer = memories
    assert counts(reader) == [1]
    shared, seen = writer._store._shared, []
    announce = shared.announce

    def announce_and_look(buckets, token):
        announce(buckets, token)
        seen.append(counts(reader))

    shared.announce = announce_and_look
    writer.record("k", "w", {"a": 1}, 1.0)
    assert seen == [[1]]  # not committed yet
    assert counts(reader) == [2]
    assert keys(client, reader, "token") == []


def test_a_writer_that_dies_after_its_commit_leaves_nothing_old(client, memories):
    reader, writer = memories
    assert counts(reader) == [1]
    writer._store._shared.withdraw = lambda *_: None  # as if killed right then
    writer.record("k", "w", {"a": 1}, 1.0)
    assert counts(reader) == [2]
    assert keys(client, reader, "rows") == []  # until its lease is over
    (token,) = keys(client, reader, "token")
    assert 0 < client.pttl(token) <= _redis.LEASE
    client.delete(token)
    assert counts(reader) == counts(reader) == [2]
    assert len(keys(client, reader, "rows")) == 1


def test_of_two_writers_the_first_to_finish_leaves_the_lease_of_the_other(client, memories):
    reader, writer = memories
    shared, bucket = writer._store._shared, [("k", "w")]
    shared.announce(bucket, "first")
    shared.announce(bucket, "second")
    shared.withdraw(bucket, "first")
    assert counts(reader) == [1]
    assert keys(client, reader, "rows") == []
    shared.withdraw(bucket, "second")
    assert counts(reader) == [1]
    assert len(keys(client, reader, "rows")) == 1


@pytest.mark.parametrize(
    "value",
    [
        b"not JSON",
        b"[" * 100_000,
        b"[{}]",
        b'{"kind": "k"}',
        b"\x80\x04N.",
        b"[" + b" " * 2**18 + b"]",
        b'[{"kind":"k","workload":"w","choice":{},"features":null,"count":0,"mean":1.0,'
        b'"m2":0.0,"updated":1}]',
        b'[{"kind":"k","workload":"other","choice":{},"features":null,"count":1,"mean":1.0,'
        b'"m2":0.0,"updated":1}]',
    ],
)
def test_what_somebody_else_put_there_is_not_believed(client, memories, value):
    reader, _ = memories
    assert counts(reader) == [1]
    (key,) = keys(client, reader, "rows")
    client.set(key, value)
    assert counts(reader) == [1]
    assert client.get(key) != value  # and replaced


def test_long_values_stay_in_the_database(client, memories):
    reader, writer = memories
    for i in range(20):
        writer.record("k", "w", {"a": "x" * 15_000, "i": i}, 1.0)
    assert len(counts(reader)) == len(counts(reader)) == 21
    assert keys(client, reader, "rows") == keys(client, reader, "token") == []


def test_a_redis_that_goes_away_costs_one_warning(client, memories, monkeypatch):
    reader, writer = memories
    nowhere = redis.ConnectionPool(host="127.0.0.1", port=1)
    for memory in memories:
        monkeypatch.setattr(memory._store._shared._client, "connection_pool", nowhere)
    with pytest.warns(RuntimeWarning, match="does not answer") as caught:
        assert counts(reader) == [1]
    assert len(caught) == 1
    assert counts(reader) == [1]  # no other warning, which would be an error
    with pytest.warns(RuntimeWarning, match="does not answer"):
        writer.record("k", "w", {"a": 1}, 1.0)
    assert counts(reader) == [2]
    monkeypatch.undo()  # it is back, which is noticed in the background
    wait_until_back(reader, writer)
    assert counts(reader) == counts(reader) == [2]
    assert len(keys(client, reader, "rows")) == 1


class Frozen:
    """Takes connections and passes bytes to the Redis of the tests, unless frozen."""

    def __init__(self):
        self.frozen, self.asked = False, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        parts = urlsplit(REDIS)
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((parts.hostname, parts.port or 6379))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        with source, sink, contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.asked += 1
                if not self.frozen:  # else it is swallowed: nobody ever answers
                    sink.sendall(data)

    def close(self):
        self._listener.close()


def test_a_frozen_redis_is_asked_once_and_then_left_alone(postgres, client, monkeypatch):
    """It cost 4 s a write and 2 s a read every 5 s."""
    relay, asked = Frozen(), []

    def noting(name, ask):
        def noted(*given, **named):
            if threading.current_thread() is threading.main_thread():
                asked.append(name)
            return ask(*given, **named)

        return noted

    with (
        sj.memory.open(postgres, redis=relay.url) as memory,
        sj.memory.open(postgres, redis=REDIS) as other,
    ):
        memory.record("k", "w", {"a": 1}, 1.0, features=[1.0, 2.0])
        assert counts(memory) == counts(other) == [1]
        relay.frozen = True
        with pytest.warns(RuntimeWarning, match="does not answer"):
            memory.record("k", "w", {"a": 1}, 1.0)
        redis = memory._store._shared._client
        for name in ("get", "set", "delete", "pipeline", "execute_command"):
            monkeypatch.setattr(redis, name, noting(name, getattr(redis, name)))
        for n in range(3, 13):  # the thread asks too, once a second or less often
            memory.record("k", "w", {"a": 1}, 1.0)
            assert counts(memory) == [n]
        assert not asked
        assert memory._store._shared._breaker.away
        assert counts(other) == [1]  # what Redis still holds, for a minute at most
        relay.frozen = False
        wait_until_back(memory)
        assert counts(memory) == counts(other) == [12]  # what was missed is deleted there
        assert len(keys(client, memory, "rows")) == 1
    relay.close()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("redis://:s3cret@127.0.0.1:1/0", ConnectionError),
        ("redis://user:s3cret@127.0.0.1:port", ValueError),
        ("http://:s3cret@127.0.0.1", ValueError),
    ],
)
def test_a_redis_that_is_not_there_is_an_error(tmp_path, url, error, caplog):
    with pytest.raises(error, match="redis") as caught:
        sj.memory.open(f"sqlite:///{tmp_path}/m.db", redis=url)
    assert "s3cret" not in str(caught.value) + caplog.text
    assert not caught.value.__cause__


def test_a_missing_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sedma_jax.memory._redis", None)
    with pytest.raises(ImportError):
        sj.memory.open(f"sqlite:///{tmp_path}/m.db", redis=REDIS)
