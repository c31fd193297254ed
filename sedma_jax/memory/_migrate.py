"""Bring the tables of a database to the version that this package writes."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text

VERSIONS = ("0001", "0002")
TABLE = "sedma_schema"  # Alembic's own name may be taken in a shared database
_LOCK = threading.Lock()  # Alembic keeps its state in globals


def version(connection: Connection) -> str | None:
    """The version of the tables, or None if there are none."""
    if not inspect(connection).has_table(TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {TABLE}")).scalar()
    return found if found is None else str(found)


def migrate(connection: Connection) -> None:
    """Run the missing steps in the open transaction."""
    folder = Path(__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["configuration"] = {
        "connection": connection,
        "version_table": TABLE,
    }
    with _LOCK:
        command.upgrade(config, VERSIONS[-1])
