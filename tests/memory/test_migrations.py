"""Memories that earlier versions wrote."""

import math
import sqlite3

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import sedma_jax as sj
from sedma_jax.memory import _migrate, _schema


@pytest.fixture
def version_1(url, tmp_path, pytestconfig):
    """URL of a memory with the tables and three patterns of version 1."""
    script = pytestconfig.rootpath / "tests" / "data" / "memory_version_1.sql"
    text = script.read_text()
    if url.startswith("sqlite"):
        with sqlite3.connect(tmp_path / "memory.db") as connection:
            connection.executescript(text)
        connection.close()
    else:
        text = text.replace("BLOB", "BYTEA").replace("DOUBLE", "DOUBLE PRECISION")
        with psycopg.connect(url) as connection:
            connection.execute(text.replace("X'", "'\\x"))
    return url


def test_version_1_opens_with_its_data(version_1):
    with sj.memory.open(version_1) as memory:
        assert len(memory) == 3
        best, second = memory.recall("partition", "dense")
        assert (best.choice, best.count, best.mean) == ({"rows": 128}, 1, 9.0)
        assert (second.choice, second.count, second.mean) == ({"rows": 64}, 4, 2.5)
        assert second.spread == pytest.approx(math.sqrt(5 / 3), rel=1e-15)
        assert second.features == (1.0, 2.0)
        assert second.updated.isoformat() == "2023-11-14T22:13:20+00:00"
        assert memory.nearest("partition", [1.0, 2.0])[0].choice == {"rows": 64}
        # The same choice is the same pattern.
        memory.record("partition", "dense", {"rows": 64}, 2.5)
        assert len(memory) == 3
        assert memory.recall("partition", "dense")[1].count == 5
        # Of the other two, 64 uses weigh less 38 half-lives earlier.
        assert memory.prune(2) == 1
        assert memory.patterns("lambda") == []
    with sj.memory.open(version_1) as memory:
        assert len(memory) == 2


def test_a_step_that_fails_changes_nothing(version_1, monkeypatch):
    def fail(connection):
        connection.exec_driver_sql("ALTER TABLE sedma_patterns ADD COLUMN x INTEGER")
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr("sedma_jax.memory._connection.migrate", fail)
        with pytest.raises(RuntimeError, match="out of luck"):
            sj.memory.open(version_1)
    with sj.memory.open(version_1) as memory:
        assert len(memory.patterns()) == 3
    names = _columns(version_1)
    assert "value" in names and "x" not in names


def _engine(url):
    return sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def _columns(url):
    engine = _engine(url)
    with engine.connect() as connection:
        columns = sqlalchemy.inspect(connection).get_columns("sedma_patterns")
    engine.dispose()
    return {column["name"] for column in columns}


@pytest.mark.parametrize("start", ["new", "version 1"])
def test_the_steps_lead_to_the_tables_that_the_statements_name(url, start, request):
    if start == "version 1":
        request.getfixturevalue("version_1")
    sj.memory.open(url).close()
    engine = _engine(url)
    with engine.connect() as connection:
        options = {"version_table": _migrate.TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert context.get_current_revision() == _migrate.VERSIONS[-1]
        assert compare_metadata(context, _schema.metadata) == []
    engine.dispose()
