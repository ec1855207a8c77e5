"""SQL tables: one read-only query on SQLite under data_root, or on PostgreSQL.

That a query starts with SELECT or WITH is checked only to catch mistakes. What keeps the database as it is: SQLite is
opened with `mode=ro`, PostgreSQL with `default_transaction_read_only`. Give the account no other right than SELECT.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from client.contract.columns import TableSource
from client.contract.paths import inside_data_root
from client.errors import ExitCode, SiteError
from client.private_files import secret_problem
from client.tables.source import Row, Source, bounded, unreadable

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Engine

    from client.contract.protocols import Site

CONNECT_S = 10
_SQLITE = "sqlite:///"
_EXPECTED = "the rows of a SELECT"


@contextmanager
def open_query(site: Site, settings: TableSource, where: str) -> Iterator[Source]:
    """The result of a table's query.

    Raises:
        SiteError: If the database cannot be reached, or refuses the query.
    """
    with _result(site, settings, where) as result:
        header = tuple(result.keys())
        yield Source((header,), lambda positions: _rows(result, header, positions, where))


@contextmanager
def _result(site: Site, settings: TableSource, where: str) -> Iterator[CursorResult[Any]]:
    from sqlalchemy.exc import SQLAlchemyError

    engine, password = _engine(site, settings, where)
    try:
        options = {"no_parameters": True, "stream_results": True}  # a % and a : stay as they are
        with (
            engine.connect().execution_options(**options) as connection,
            closing(connection.exec_driver_sql(settings.sql)) as result,
        ):
            yield result
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _refused(settings, where, error, password) from None
    finally:
        engine.dispose()


def query_stamp(site: Site, settings: TableSource, where: str) -> str:
    """What changes when the result may have: the stamp of SQLite's files, or a hash of PostgreSQL's rows in any order.

    Raises:
        SiteError: As `open_query`.
    """
    if files := sqlite_files(site, settings, where):
        return " ".join(f"{file} {_stamp(file)}" for file in files)
    total = 0
    with _result(site, settings, where) as result:
        for _, row in bounded(enumerate(result), where):
            total += int.from_bytes(hashlib.sha256(repr(tuple(row)).encode()).digest())
        return f"{tuple(result.keys())} {total:x}"


def sqlite_files(site: Site, settings: TableSource, where: str) -> list[Path]:
    """The database's file and, beside it, what SQLite has not yet written into it; none for PostgreSQL."""
    if not settings.database.startswith(_SQLITE):
        return []
    path = inside_data_root(site, Path(settings.database.removeprefix(_SQLITE)), f"{where}, database")
    return [path, path.with_name(f"{path.name}-wal")]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    status = path.stat() if path.exists() else None
    # a reader leaves an empty -wal file behind, or removes it
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status and status.st_size else None


def _engine(site: Site, settings: TableSource, where: str) -> tuple[Engine, str]:
    """An engine that only reads, and the password, which no message may hold."""
    from sqlalchemy import NullPool, create_engine, make_url

    if files := sqlite_files(site, settings, where):
        if not files[0].is_file():
            found = f"no file {files[0]}"
            raise unreadable(where, found, "a SQLite database", "correct `database`; it starts at data_root")
        connect = _read_only_sqlite(files[0], settings.timeout_s)
        return create_engine("sqlite://", creator=connect, poolclass=NullPool), ""
    password = _password(settings, where)
    options = f"-c default_transaction_read_only=on -c statement_timeout={int(1000 * settings.timeout_s)}"
    url = make_url(settings.database).set(drivername="postgresql+psycopg", password=password or None)
    arguments = {"options": options, "connect_timeout": CONNECT_S}
    try:
        return create_engine(url, connect_args=arguments, poolclass=NullPool), password
    except ModuleNotFoundError:
        fix = 'install it: python -m pip install "psycopg[binary]>=3.2,<4"'
        raise unreadable(where, "the driver for PostgreSQL is not installed", "psycopg 3", fix) from None


def _read_only_sqlite(path: Path, timeout_s: float) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_S)
        deadline = time.monotonic() + timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        return connection

    return connect


def _password(settings: TableSource, where: str) -> str:
    """From the file or the environment; without either, PostgreSQL's own ways, such as ~/.pgpass, remain.

    Raises:
        SiteError: If it is not there, or others on this computer can read it.
    """
    problem = ""
    if settings.password_env and not (password := os.environ.get(settings.password_env, "")):
        problem = f"no environment variable {settings.password_env}"
    elif settings.password_env:
        return password
    if path := settings.password_file:
        problem = secret_problem(path)
        if not problem:
            return path.read_text(encoding="utf-8").strip()
    if not problem:
        return ""
    raise SiteError(
        what="the database's password cannot be read",
        where=where,
        found=problem,
        expected="the password in the variable, or in a file that is yours alone",
        fix="set the variable, or write the file and `chmod 600` it",
        public="one of the site's tables cannot be read",
        exit_code=ExitCode.SITE_CONFIG,
    )


def _rows(result: Any, header: Sequence[str], positions: Sequence[int], where: str) -> Iterator[Row]:
    for number, cells in bounded(enumerate(result, start=1), where):
        row = [cells[position] for position in positions]
        for position, cell in zip(positions, row, strict=True):
            if isinstance(cell, bytes | memoryview | list | dict | tuple):
                found = f"{type(cell).__name__} in column {header[position]!r}"
                raise unreadable(where, found, "text, numbers, dates or booleans", "cast it in the query")
        yield number, row


def _refused(settings: TableSource, where: str, error: Exception, password: str) -> SiteError:
    reason = str(getattr(error, "orig", None) or error)
    message = reason.replace(password, "***") if password else reason
    return unreadable(where, message, _EXPECTED, _cure(reason, settings))


def _cure(reason: str, settings: TableSource) -> str:
    if "interrupted" in reason or "statement timeout" in reason:
        return f"make the query faster, or raise `timeout_s` above {settings.timeout_s:g}"
    if "read-only" in reason or "readonly" in reason:
        return "let the query only read"
    if "password" in reason or "authentication" in reason:
        return "set `password_file` or `password_env`, or correct the user in `database`"
    return "try the query, or the connection, in the database's own program (sqlite3, psql)"
