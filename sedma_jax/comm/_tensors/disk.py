"""Tensors in a folder: one file each, and an index of what is known of them.

A file holds the bytes of a tensor, its manifest, and a footer, so that it says by itself
what it is. It appears under its CID once it is whole; the index names it only afterwards. A
process that is killed in between leaves a file that nobody names, which goes at the next
start. An index that is damaged is made again from the files. Every byte that is read is
checked against the digests of the manifest.
"""

import errno
import fcntl
import json
import logging
import os
import sqlite3
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .entry import Entry
from .manifest import (
    CHUNK,
    LARGEST_MANIFEST,
    Manifest,
    bytes_of,
    empty_aligned,
    read_manifest,
)

log = logging.getLogger("sedma_jax.comm")

FOOTER = struct.Struct("!8sQ")  # mark, bytes of the manifest
MARK = b"sedma-t1"
FORMAT = 1  # of the index; 0 in one that is new
BLOCK = 4096  # bytes; a file takes whole blocks
_WRITTEN_AT_ONCE = 8 * 2**20
_TABLE = """CREATE TABLE IF NOT EXISTS tensors (
    cid TEXT PRIMARY KEY, manifest BLOB NOT NULL, pinned INTEGER NOT NULL,
    kept_for TEXT NOT NULL, holders TEXT NOT NULL, wanted INTEGER NOT NULL,
    leader TEXT NOT NULL, accesses REAL NOT NULL, created REAL NOT NULL,
    used REAL NOT NULL)"""
_ROW = "INSERT OR REPLACE INTO tensors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class DamagedError(OSError):
    """The disk gives other bytes than were written, or none."""


def cost(manifest: Manifest) -> int:
    """Bytes of the disk that a tensor takes."""
    size = manifest.nbytes + len(manifest.raw) + FOOTER.size
    return -(-size // BLOCK) * BLOCK


class Disk:
    """The tensors in a folder; every method blocks, and may be called from any thread.

    **Raises:** `OSError` if another node uses the folder or it cannot be written.
    """

    def __init__(self, folder: Path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._lock = folder, threading.Lock()
        self._alone = open(folder / "lock", "ab")
        try:
            fcntl.flock(self._alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._alone.close()
            raise OSError(
                "`NodeSettings` needs a `folder` of tensors that no other node uses. Got "
                f"{folder}. Stop the other node, or choose another folder."
            ) from None
        with _disk_errors(folder):
            try:
                self._index = self._opened()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                log.error("the index of %s is put aside: %s", folder, error)
                for name in ("index.db", "index.db-wal", "index.db-shm"):
                    if (folder / name).exists():
                        (folder / name).replace(folder / f"{name}.damaged")
                self._index = self._opened()
            if self._index.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                self._fill_index()

    def close(self) -> None:
        """Close the index, and let another node use the folder."""
        with self._lock:
            self._index.close()
            self._alone.close()

    def _opened(self) -> sqlite3.Connection:
        index = sqlite3.connect(
            self._folder / "index.db", check_same_thread=False, isolation_level=None
        )
        try:
            index.execute("PRAGMA journal_mode = WAL")
            index.execute("PRAGMA synchronous = FULL")
            index.execute(_TABLE)
            index.execute(_ROW.replace("INSERT OR REPLACE", "EXPLAIN INSERT"), [""] * 10)
            if index.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("the index is damaged")
        except BaseException:
            index.close()
            raise
        return index

    def _fill_index(self) -> None:
        """Name the files that are there in a new index; as pinned: none may be lost."""
        with _transaction(self._index):
            for path in self._folder.glob("*.tensor"):
                manifest = _described(path)
                if manifest is not None and manifest.cid == path.stem:
                    entry = Entry(manifest, None, pinned=True)
                    self._index.execute(_ROW, _row(manifest.cid, entry))
            self._index.execute(f"PRAGMA user_version = {FORMAT}")

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """What the folder holds, at the start; other files in it go."""
        with self._lock, _disk_errors(self._folder):
            rows = self._index.execute("SELECT * FROM tensors").fetchall()
            known = {f"{row[0]}.tensor" for row in rows}
            for path in [*self._folder.glob("*.tensor"), *self._folder.glob("*.part")]:
                if path.name not in known:
                    path.unlink()
            for row in rows:
                try:
                    entry = _entry(row)
                except (ValueError, TypeError) as error:
                    log.error("what is known of %s is damaged: %s", row[0], error)
                    manifest = _described(self._path(row[0]))
                    if manifest is None or manifest.cid != row[0]:
                        self._index.execute("DELETE FROM tensors WHERE cid = ?", row[:1])
                        self._path(row[0]).unlink(missing_ok=True)
                        continue
                    entry = Entry(manifest, None, pinned=True)
                size = entry.manifest.nbytes + len(entry.manifest.raw) + FOOTER.size
                try:
                    whole = self._path(row[0]).stat().st_size == size
                except FileNotFoundError:
                    whole = False
                entry.on_disk = whole
                yield row[0], entry

    def stage(self, array: np.ndarray) -> Path:
        """Write the bytes of a tensor to a new file, and have the disk start on them.

        **Returns:** the file, for `write`, or for `discard`.
        """
        view, handle, name = bytes_of(array), -1, ""
        with _disk_errors(self._folder):
            try:
                handle, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
                for at in range(0, len(view), _WRITTEN_AT_ONCE):
                    piece = view[at : at + _WRITTEN_AT_ONCE]
                    while piece:
                        piece = piece[os.write(handle, piece) :]
                    if hasattr(os, "posix_fadvise"):
                        # Starts writing to the disk, which `fsync` would else wait for.
                        os.posix_fadvise(
                            handle, at, _WRITTEN_AT_ONCE, os.POSIX_FADV_DONTNEED
                        )
            except BaseException:
                if name:
                    os.unlink(name)
                raise
            finally:
                if handle >= 0:
                    os.close(handle)
        return Path(name)

    def discard(self, part: Path) -> None:
        """Delete what was staged."""
        part.unlink(missing_ok=True)

    def write(self, cid: str, entry: Entry, part: Path, lost: Iterable[str]) -> None:
        """Store a staged tensor for `lost`; a pinned one outlives a loss of power."""
        self.remove(lost)
        with _disk_errors(self._folder):
            try:
                with part.open("ab") as file:
                    raw = entry.manifest.raw
                    file.write(raw + FOOTER.pack(MARK, len(raw)))
                    file.flush()
                    if entry.pinned:
                        os.fsync(file.fileno())
                part.replace(self._path(cid))
                if entry.pinned:
                    _sync(self._folder)
                with self._lock:
                    self._index.execute(_ROW, _row(cid, entry))
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def note(self, entries: Iterable[tuple[str, Entry]], *, durable: bool = False) -> None:
        """Store what is known of tensors that are there.

        **Arguments:** `durable`: their bytes, too, are to survive a loss of power.
        """
        with _disk_errors(self._folder):
            entries = list(entries)
            if durable:
                for cid, _ in entries:
                    _sync(self._path(cid))
            with self._lock, _transaction(self._index):
                self._index.executemany(_ROW, [_row(cid, entry) for cid, entry in entries])

    def remove(self, cids: Iterable[str]) -> None:
        """Delete tensors."""
        cids = list(cids)
        if not cids:
            return
        with _disk_errors(self._folder):
            with self._lock, _transaction(self._index):
                rows = [(cid,) for cid in cids]
                self._index.executemany("DELETE FROM tensors WHERE cid = ?", rows)
        for cid in cids:
            try:
                self._path(cid).unlink(missing_ok=True)
            except OSError as error:  # the next start tries again
                log.warning("%s stays on the disk: %s", cid, error)

    def read(self, manifest: Manifest, offset: int, length: int) -> np.ndarray:
        """A range of a tensor that starts at a multiple of a chunk.

        **Raises:** `DamagedError` if the disk does not give the bytes that were written.
        """
        end = min(-(-(offset + length) // CHUNK) * CHUNK, manifest.nbytes)
        out = empty_aligned(end - offset)
        view, at = out.data, 0
        try:
            with open(self._path(manifest.cid), "rb", buffering=0) as file:
                file.seek(offset)
                while at < len(view) and (count := file.readinto(view[at:])):
                    at += count
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR):
                raise  # says nothing about the file
            raise DamagedError(f"{manifest.cid} cannot be read ({error})") from error
        if at < len(view) or not manifest.matches(offset, view):
            raise DamagedError(f"{manifest.cid} is damaged on the disk")
        return out[:length]

    def _path(self, cid: str) -> Path:
        return self._folder / f"{cid}.tensor"


@contextmanager
def _transaction(index: sqlite3.Connection) -> Iterator[None]:
    index.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        index.execute("ROLLBACK")
        raise
    index.execute("COMMIT")


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Say of errors of the disk and of SQLite what can be done."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        if isinstance(error, DamagedError) or "needs" in str(error):
            raise
        raise OSError(
            f"`Node.put` needs a disk that takes tensors in {folder}. Got: {error}. Free "
            "some room there or mend the disk, or start the node without one "
            "(`--volatile`)."
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _described(path: Path) -> Manifest | None:
    """The manifest at the end of a file; None if the file is no tensor."""
    try:
        with open(path, "rb") as file:
            end = file.seek(-FOOTER.size, os.SEEK_END)
            mark, length = FOOTER.unpack(file.read(FOOTER.size))
            if mark != MARK or length > min(LARGEST_MANIFEST, end):
                return None
            file.seek(end - length)
            manifest = read_manifest(file.read(length))
            return manifest if manifest.nbytes == end - length else None
    except (OSError, ValueError):
        return None


def _row(cid: str, entry: Entry) -> tuple[Any, ...]:
    shift = time.time() - time.monotonic()
    return (
        cid,
        entry.manifest.raw,
        int(entry.pinned),
        entry.kept_for,
        json.dumps(sorted(entry.holders)),
        entry.wanted_holders,
        entry.leader,
        entry.accesses,
        entry.created + shift,
        entry.last_access + shift,
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    _, raw, pinned, kept_for, holders, wanted, leader, accesses, created, used = row
    shift, now = time.monotonic() - time.time(), time.monotonic()
    return Entry(
        read_manifest(raw),
        None,
        bool(pinned),
        kept_for,
        set(json.loads(holders)),
        wanted,
        leader,
        created=min(created + shift, now),  # the clock may have been set back
        last_access=min(used + shift, now),
        accesses=accesses,
        reported=accesses,
    )
