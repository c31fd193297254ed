"""Databases that are away, break, are damaged, or are too new."""

import logging
import socket
import sqlite3
import threading
from urllib.parse import urlsplit

import psycopg
import pytest
from services import POSTGRES

import sedma_jax as sj

NOWHERE = "postgresql://user:s3cret%40@127.0.0.1:1/database"


class Relay:
    """Passes bytes between clients and PostgreSQL until told to break a connection.

    `on_commit` is called with the sockets and the bytes when a client says COMMIT, and
    passes them on or does not.
    """

    def __init__(self):
        parts = urlsplit(POSTGRES)
        self._server = parts.hostname, parts.port or 5432
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.on_commit = None
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        try:
            while data := source.recv(65536):
                if b"COMMIT" in data and self.on_commit:
                    on_commit, self.on_commit = self.on_commit, None
                    on_commit(source, sink, data)
                else:
                    sink.sendall(data)
        except OSError:
            pass
        self._shut(source)
        self._shut(sink)

    def _shut(self, *sockets):
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Break the connections there are."""
        self._shut(*self._sockets)

    def close(self):
        """Take no new ones either."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for each in self._sockets:
            each.close()


@pytest.fixture
def relay(postgres):
    relay = Relay()
    yield relay
    try:
        relay.close()
    except OSError:
        pass


@pytest.fixture
def relayed(relay, postgres):
    """URL of the same schema through the relay."""
    port = f":{urlsplit(POSTGRES).port}/"
    return postgres.replace(port, f":{relay.port}/")


def total(url):
    with sj.memory.open(url) as memory:
        return sum(pattern.count for pattern in memory.patterns())


def test_an_unreachable_database_is_named_without_its_password(caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConnectionError) as caught:
        sj.memory.open(NOWHERE)
    message = str(caught.value)
    assert "postgresql://127.0.0.1:1/database" in message
    assert "refused" in message and "fallback" in message
    assert "s3cret" not in message + caplog.text
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cret@127.0.0.1:port/database",
        "postgresql://user:s3cret@h@127.0.0.1:x/",
        "mysql://user:s3cret@127.0.0.1/database",
        "s3cret",
        "",
    ],
)
def test_a_bad_url_is_not_quoted(url):
    with pytest.raises(ValueError, match="`url` needs") as caught:
        sj.memory.open(url)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_refuses_the_password_does_not_make_it_known(postgres, caplog):
    caplog.set_level(logging.DEBUG)
    with psycopg.connect(postgres) as connection:
        role = (
            "sedma_test_"
            + connection.execute(
                "SELECT replace(gen_random_uuid()::text, '-', '')"
            ).fetchone()[0]
        )
    parts = urlsplit(postgres)
    url = f"postgresql://{role}:s3cret@{parts.hostname}:{parts.port}/postgres"
    with pytest.raises(ConnectionError, match=role) as caught:
        sj.memory.open(url)
    assert "s3cret" not in str(caught.value) + caplog.text


def test_with_a_fallback_patterns_go_there(tmp_path):
    fallback = f"sqlite:///{tmp_path}/fallback.db"
    with pytest.warns(RuntimeWarning, match="Patterns go to sqlite") as caught:
        memory = sj.memory.open(NOWHERE, fallback=fallback)
    assert len(caught) == 1
    assert "s3cret" not in str(caught[0].message)
    with memory:
        memory.record("k", "w", {}, [1.0, 2.0])
        assert memory.recall("k", "w")[0].mean == 1.5
    assert total(fallback) == 2


def test_a_connection_that_breaks_is_made_anew(relay, relayed, postgres):
    with sj.memory.open(relayed) as memory:
        memory.record("k", "w", {}, 1.0)
        relay.cut()
        memory.record("k", "w", {}, 1.0)
        relay.cut()
        assert memory.recall("k", "w")[0].count == 2
    assert total(postgres) == 2


def test_a_server_that_goes_away_loses_nothing_unnoticed(relay, relayed, postgres):
    with sj.memory.open(relayed) as memory:
        memory.record("k", "w", {}, 1.0)
        relay.close()
        for _ in range(2):
            with pytest.raises(ConnectionError, match=r"127\.0\.0\.1"):
                memory.record("k", "w", {}, 1.0)
        with pytest.raises(ConnectionError):
            memory.recall("k", "w")
    assert total(postgres) == 1


def test_a_server_that_goes_away_is_replaced_by_the_fallback(
    relay, relayed, postgres, tmp_path
):
    fallback = f"sqlite:///{tmp_path}/fallback.db"
    with sj.memory.open(relayed, fallback=fallback) as memory:
        memory.record("k", "w", {}, 1.0, features=[1.0])
        assert len(memory.nearest("k", [1.0])) == 1
        relay.close()
        with pytest.warns(RuntimeWarning, match="Patterns go to sqlite") as caught:
            memory.record("k", "w", {}, 3.0)
        assert len(caught) == 1
        memory.record("k", "w", {}, 5.0)
        assert memory.recall("k", "w")[0].mean == 4.0
        assert memory.nearest("k", [1.0]) == []
        path = tmp_path / "out.jsonl"
        memory.export(path)
    # As the warning says: what went to the fallback is taken over, once.
    with sj.memory.open(postgres) as memory:
        memory.import_(path)
        with pytest.raises(ValueError, match="imported before"):
            memory.import_(path)
        (pattern,) = memory.patterns()
        assert (pattern.count, pattern.mean) == (3, 3.0)


def cut_before(client, server, data):
    server.shutdown(socket.SHUT_RDWR)
    client.shutdown(socket.SHUT_RDWR)


def cut_after(client, server, data):
    # The answer does not come back: only PostgreSQL knows.
    client.shutdown(socket.SHUT_RDWR)
    server.sendall(data)


@pytest.mark.parametrize("cut", [cut_before, cut_after])
def test_a_connection_that_breaks_at_the_commit_doubles_and_loses_nothing(
    relay, relayed, postgres, cut
):
    with sj.memory.open(relayed) as memory:
        for count in range(1, 4):
            relay.on_commit = cut
            memory.record("k", "w", {}, 1.0)
            assert relay.on_commit is None
            assert total(postgres) == count
            assert memory.recall("k", "w")[0].count == count


def test_a_commit_in_doubt_is_said_to_be(relay, relayed):
    def cut_for_good(client, server, data):
        relay.close()

    with sj.memory.open(relayed) as memory:
        relay.on_commit = cut_for_good
        with pytest.raises(ConnectionError, match="may be there or not"):
            memory.record("k", "w", {}, 1.0)


def damaged_files(intact):
    """Name and content of files that look more and more like a memory."""
    size = len(intact)
    yield "text", b"no database\n"
    yield "noise", bytes(range(256)) * 64
    yield "header", intact[:16] + b"\xff" * (size - 16)
    yield "cut", intact[: size // 2]
    yield "page", intact[:4096] + b"\xa5" * 4096 + intact[8192:]
    yield "end", intact[: size - 8192] + b"\xa5" * 8192


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    path = tmp_path_factory.mktemp("intact") / "m.db"
    with sj.memory.open(f"sqlite:///{path}") as memory:
        for i in range(200):
            memory.record("k", f"w{i}", {"text": "x" * 200}, 1.0)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["text", "noise", "header", "cut", "page", "end"])
def test_a_damaged_file_is_refused_and_left_alone(intact, tmp_path, name):
    content = dict(damaged_files(intact))[name]
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or something else") as caught:
        sj.memory.open(f"sqlite:///{path}", fallback=f"sqlite:///{tmp_path}/other.db")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["m.db"]


def test_an_empty_file_becomes_a_memory(tmp_path):
    path = tmp_path / "m.db"
    path.touch()
    with sj.memory.open(f"sqlite:///{path}") as memory:
        memory.record("k", "w", {}, 1.0)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConnectionError, match="unable to open"):
        sj.memory.open(f"sqlite:///{tmp_path}/missing/m.db")
    with pytest.raises(ValueError, match="exists"):
        sj.memory.open(f"sqlite:///{tmp_path}/m.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_newer_tables_are_refused_and_left_alone(url, tmp_path):
    with sj.memory.open(url) as memory:
        memory.record("k", "w", {}, 1.0)
    path = tmp_path / "memory.db"
    newer = "UPDATE sedma_schema SET version_num = '0999'"
    if url.startswith("sqlite"):
        with sqlite3.connect(path) as connection:
            connection.execute(newer)
        connection.close()
        before = path.read_bytes()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(newer)
    with pytest.raises(ValueError, match="'0999', from a newer sedma-jax"):
        sj.memory.open(url, fallback=f"sqlite:///{tmp_path}/other.db")
    if url.startswith("sqlite"):
        assert path.read_bytes() == before
    else:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count, generation FROM sedma_patterns")
            assert found.fetchall() == [(1, 1)]
    assert not (tmp_path / "other.db").exists()


def test_a_full_disk_is_an_error_and_the_memory_stays_intact(tmp_path):
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db") as memory:
        memory.record("k", "w", {}, 1.0)
        raw = memory._store._database._raw
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ConnectionError, match="full"):
            for i in range(1000):
                memory.record("k", "w", {"text": "x" * 10_000, "i": i}, 1.0)
        raw.execute(f"PRAGMA max_page_count = {pages + 1000}")
        kept = len(memory)
        assert kept == len(memory.patterns()) == 1 + i
        memory.record("k", "w", {"text": "x" * 10_000, "i": -1}, 1.0)
        assert len(memory) == kept + 1
