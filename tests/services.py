"""Servers that tests talk to: real ones, skipped where they are missing.

Under SEDMA_REQUIRE_SERVICES=1 a missing one fails. README says how to start each.
"""

import os
import uuid
from contextlib import contextmanager

import psycopg
import redis
from missing import missing

POSTGRES = os.environ.get("SEDMA_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")
REDIS = os.environ.get("SEDMA_TEST_REDIS", "redis://127.0.0.1:6379")


@contextmanager
def postgres_schema():
    """URL of an empty schema, which goes afterwards."""
    schema = f"sedma_test_{uuid.uuid4().hex}"
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError as error:
        missing("PostgreSQL is missing", error)
    with connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield f"{POSTGRES.rstrip('/')}/postgres?options=-csearch_path%3D{schema}"
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def redis_server():
    """URL of a Redis. Keys carry the random name of a memory, and go afterwards."""
    try:
        client = redis.Redis.from_url(REDIS)
        before = set(client.scan_iter("sedma:*"))
    except redis.RedisError as error:
        missing("Redis is missing", error)
    with client:
        try:
            yield REDIS
        finally:
            if new := set(client.scan_iter("sedma:*")) - before:
                client.delete(*new)
