"""Parquet tables, of which only the wanted columns are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from client.tables.source import MAX_BYTES, MAX_ROWS, Row, Source, library_errors, unreadable

BATCH_ROWS, MAX_PARTS = 1024, 500


@contextmanager
def open_parquet(paths: Sequence[Path], where: str) -> Iterator[Source]:
    """A Parquet file, or the parts of one that Spark or Arrow wrote as a folder, in the order of their names.

    Raises:
        SiteError: If it cannot be read, its parts have other columns than the first, or a wanted column holds lists or
            other things that are no plain values.
    """
    from pyarrow.parquet import ParquetFile

    if len(paths) > MAX_PARTS:
        raise unreadable(where, f"{len(paths)} parts", f"at most {MAX_PARTS}", "write the table again in fewer files")
    with ExitStack() as stack:
        with library_errors(where, "a Parquet file"):
            files = [stack.enter_context(ParquetFile(path)) for path in paths]
        header = tuple(files[0].schema_arrow.names)
        if odd := [path for path, file in zip(paths, files, strict=True) if tuple(file.schema_arrow.names) != header]:
            raise unreadable(where, f"other columns in {odd[0].name} than in {paths[0].name}", "the same in all parts")
        if (count := sum(file.metadata.num_rows for file in files)) > MAX_ROWS:
            raise unreadable(where, f"{count:,} rows", f"at most {MAX_ROWS:,} rows")
        yield Source((header,), lambda positions: _all_rows(files, positions, where))


def parquet_parts(folder: Path) -> list[Path]:
    """The parts of a table in a folder, without what their writers note beside them.

    >>> parquet_parts(Path("/dev/null"))
    []
    """
    parts = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(path for path in parts if not path.name.startswith(("_", ".")))


def _all_rows(files: Sequence[Any], positions: Sequence[int], where: str) -> Iterator[Row]:
    before = 0
    for file in files:
        yield from ((before + number, cells) for number, cells in _rows(file, positions, where))
        before += file.metadata.num_rows


def _rows(file: Any, positions: Sequence[int], where: str) -> Iterator[Row]:
    import pyarrow.types as is_type

    names, schema = file.schema_arrow.names, file.schema_arrow
    for position in positions:
        kind = schema.field(position).type
        kind = kind.value_type if is_type.is_dictionary(kind) else kind
        if is_type.is_nested(kind) or is_type.is_binary(kind) or is_type.is_large_binary(kind):
            raise unreadable(where, f"column {names[position]!r} of {kind}", "text, numbers, dates or booleans")
    wanted = list(dict.fromkeys(names[position] for position in positions))
    _check_size(file, set(wanted), where)
    number = 1  # as in a file with a header row, which is row 1
    with library_errors(where, "a Parquet file that is whole"):
        for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
            # a name that appears twice comes twice, in the file's order
            columns = [
                batch.column(
                    batch.schema.get_all_field_indices(names[position])[names[:position].count(names[position])]
                )
                for position in positions
            ]
            for cells in zip(*map(_values, columns), strict=True) if columns else ():
                number += 1
                yield number, cells


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):  # nanoseconds would come as pandas' own
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


def _check_size(file: Any, names: set[str], where: str) -> None:
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in names)
    if size > MAX_BYTES:
        raise unreadable(where, f"{size / 2**30:.1f} GiB of values", f"at most {MAX_BYTES // 2**30} GiB")
