"""The file that a broker keeps its state in: an SQLite database of one process."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from local.broker.model import BrokerError, BrokerInUseError, BrokerStorageError

_SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE entities (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_sequence INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL REFERENCES entities (id),
    sequence INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    state INTEGER NOT NULL,             -- a MessageState; written as a number where an index needs it
    due INTEGER,                        -- when a schedule or a lock ends
    expires INTEGER,
    time_to_live INTEGER,
    lock_token BLOB,
    delivery_count INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL,
    scheduled INTEGER,
    message_id TEXT,
    content_type TEXT,
    subject TEXT,
    correlation_id TEXT,
    dead_letter_source TEXT,
    properties TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX messages_by_sequence ON messages (entity, sequence);
CREATE INDEX messages_ready ON messages (entity, sequence) WHERE state = 0;
CREATE INDEX messages_due ON messages (due) WHERE state <> 0;
CREATE INDEX messages_expiring ON messages (expires) WHERE expires IS NOT NULL;
CREATE UNIQUE INDEX messages_locked ON messages (lock_token) WHERE lock_token IS NOT NULL;
CREATE TABLE history (
    entity INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (entity, message_id)
) WITHOUT ROWID;
CREATE INDEX history_until ON history (until);
"""


def open_file(path: Path | None) -> sqlite3.Connection:
    """Open the file for this process alone and make its tables; None: in memory.

    Raises:
        BrokerInUseError: another process has the file open.
        BrokerError: the file cannot be opened, is not a broker's, or is without its write-ahead log.
    """
    if path is not None:
        try:
            _require_log(path)
            _keep_to_owner(path)
        except OSError as error:
            raise BrokerError(f"{path} cannot be opened as the broker's file: {error.strerror}") from error
    try:
        # After a kill it may take a moment until the file is unlocked.
        database = sqlite3.connect(
            ":memory:" if path is None else path, isolation_level=None, check_same_thread=False, timeout=1
        )
    except sqlite3.OperationalError as error:
        raise BrokerError(f"{path} cannot be opened as the broker's file: {error}") from error
    try:
        _prepare(database, path)
    except sqlite3.OperationalError as error:
        close_file(database)
        if "locked" in str(error):
            raise BrokerInUseError(
                f"{path} is in use by another process: wait until it has ended, or give another file"
            ) from error
        raise BrokerError(f"{path} cannot be opened as the broker's file: {error}") from error
    except sqlite3.DatabaseError as error:
        close_file(database)
        raise BrokerError(f"{path} is not a broker's file: give another one ({error})") from error
    except BaseException:
        close_file(database)
        raise
    return database


def close_file(database: sqlite3.Connection) -> None:
    """Close the file in order: its write-ahead log is merged into it and removed."""
    with suppress(sqlite3.Error):
        database.execute("PRAGMA journal_mode = MEMORY")
    database.close()


def is_storage_failure(error: BaseException) -> bool:
    """Whether an error is of the file, not of a statement, which has error classes of its own."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def as_storage_error(path: Path | None, error: BaseException) -> BrokerStorageError:
    """The error to raise if the file fails."""
    return BrokerStorageError(f"{path} cannot be read or written ({error}): see whether its disk is full")


def _require_log(path: Path) -> None:
    """Raise BrokerError for a file whose write-ahead log is missing, which holds the last calls.

    The version numbers in the file tell
    (https://www.sqlite.org/fileformat2.html#file_format_version_numbers): it is in write-ahead mode from the moment it
    is opened until it is closed in order.
    """
    with suppress(FileNotFoundError):
        with path.open("rb") as file:
            versions = file.read(20)[18:20]
        if versions == b"\2\2" and not path.with_name(f"{path.name}-wal").exists():
            raise BrokerError(
                f"{path} is incomplete: its write-ahead log, {path.name}-wal, is missing, and what was done last was"
                " in it: put that file back beside it, or see in the vault's jobs what was done and start anew"
            )


def _keep_to_owner(path: Path) -> None:
    """Let only its owner read the file: it holds signed URLs. SQLite gives its write-ahead log the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for each in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            if each.is_file():
                each.chmod(0o600)


def _prepare(database: sqlite3.Connection, path: Path | None) -> None:
    # Exclusive before anything is read, so that no second process can release locks that are in use.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version != _SCHEMA_VERSION and (version or tables):
        raise BrokerError(
            f"{path} is not a file of this broker's version: "
            "give another file, or delete this one to start anew"
        )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA temp_store = MEMORY")
    if not version:
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
