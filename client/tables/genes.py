"""Gene expression matrices: symbols, aliases, duplicate genes and gene sets.

A matrix may hold every gene and a row for each; it is read row by row, and only the study's genes are retained.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.contract.columns import Genes, TableSource
from client.contract.paths import inside_data_root
from client.errors import ExitCode, SiteError
from client.tables.headers import by_name, column_position, header_columns, names_made_dates
from client.tables.number_formats import as_number
from client.tables.source import PatientRows, Source, bounded, cell_text, extracted, load_rows, unreadable
from client.tables.text import open_text
from client.tables.values import LARGEST, without_missing

if TYPE_CHECKING:
    from client.contract.protocols import Site

PUBLIC = "a gene matrix of the site cannot be used"
Symbol = Callable[[str], str]
_VERSION = re.compile(r"(?<=\d{11})\.\d+$")


class Line(NamedTuple):
    """A gene's row or column in the file, and its texts by patient."""

    place: str
    texts: Sequence[str]


class Matrix(NamedTuple):
    """The study's genes by symbol, each with its lines, and the names of all there are in the file."""

    patients: tuple[str, ...]
    numbers: tuple[int, ...]
    lines: Mapping[str, Sequence[Line]]
    names: Sequence[str]


def read_genes(
    site: Site, settings: TableSource, genes: Genes, source: Source, references: Sequence[str], where: str
) -> PatientRows:
    """The values of genes, or means over sets of genes, as texts.

    Raises:
        SiteError: If a gene is missing or appears twice, a value is no number, or none of a set's genes is there.
    """
    symbol = _symbols(site, genes, where)
    sets = _sets(site, genes, where)
    members = {name: [symbol(gene) for gene in sets.get(name, [name])] for name in references}
    wanted = {gene for symbols in members.values() for gene in symbols}
    matrix = (_from_rows if settings.genes_in_rows else _from_columns)(settings, genes, source, symbol, wanted, where)
    _check_present(members, sets, matrix, where)
    _check_single(genes, matrix, where)
    values = {gene: _values(lines, settings, genes, where) for gene, lines in matrix.lines.items()}
    columns = []
    for symbols in members.values():
        mean = _mean([values[gene] for gene in dict.fromkeys(symbols) if gene in values])
        columns.append(tuple(cell_text(float(value), settings.decimal) for value in mean))
    return PatientRows(matrix.patients, matrix.numbers, tuple(columns))


def _symbols(site: Site, genes: Genes, where: str) -> Symbol:
    """What makes one symbol of all names of a gene.

    An alias of two genes is none, and neither is one that is itself the symbol of a gene.
    """
    listed: dict[str, set[str]] = defaultdict(set)
    if genes.aliases_file:
        path = _file(site, genes.aliases_file, f"{where}, genes.aliases_file")
        settings = TableSource(file=genes.aliases_file, patient_id="alias")
        with open_text(path, settings, str(genes.aliases_file)) as source:
            if {len(cells) for cells in source.header} != {2}:
                found = f"a header of {len(source.header[0]) if source.header else 0} columns"
                raise unreadable(str(genes.aliases_file), found, "two columns: alias and symbol")
            for _, (alias, present) in source.rows((0, 1)):
                listed[_plain(alias)].add(_plain(present))
    taken = set().union(*listed.values())
    aliases = {alias: next(iter(own)) for alias, own in listed.items() if len(own) == 1 and alias not in taken}
    aliases |= {_plain(alias): _plain(present) for alias, present in genes.aliases.items()}
    return lambda name: aliases.get(_plain(name), _plain(name))


def _plain(name: str) -> str:
    """A gene's name without capitals, and an Ensembl identifier without its version: `ENSG00000091831.24`."""
    plain = name.strip().casefold()
    return _VERSION.sub("", plain) if plain.startswith("ens") else plain


def _sets(site: Site, genes: Genes, where: str) -> dict[str, list[str]]:
    """The genes of each set of a GMT file: name, description and genes, separated by tabs."""
    if not genes.sets:
        return {}
    path = _file(site, genes.sets, f"{where}, genes.sets")
    if path.stat().st_size > 2**26:
        raise unreadable(str(genes.sets), "more than 64 MiB", "a GMT file")
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise unreadable(str(genes.sets), str(error), "a GMT file in UTF-8") from None
    short = [number for number, cells in enumerate(lines, start=1) if len(cells) < 3]
    if short:
        found = f"line {short[0]} with {len(lines[short[0] - 1])} cells"
        raise unreadable(str(genes.sets), found, "name, description and genes, separated by tabs")
    return {name: [gene for gene in names if gene.strip()] for name, _, *names in lines}


def _file(site: Site, path: Path, place: str) -> Path:
    file = inside_data_root(site, path, place)
    if not file.is_file():
        raise unreadable(place, f"no file {file}", "a file under data_root", "correct the name, or put the file there")
    return file


def _from_columns(
    settings: TableSource, genes: Genes, source: Source, symbol: Symbol, wanted: set[str], where: str
) -> Matrix:
    columns = header_columns(source.header)
    patient = column_position(settings.patient_id, columns, by_name(columns), where)
    names = [next((cell for cell in reversed(column) if cell), "") for column in columns]
    symbols = [symbol(name) for name in names]
    positions = [at for at, name in enumerate(symbols) if name in wanted and at != patient]
    read = load_rows(settings, source, patient, positions, where)
    lines = defaultdict(list)
    for position, texts in zip(positions, read.columns, strict=True):
        lines[symbols[position]].append(Line(f"column {position + 1} ({names[position]})", texts))
    return Matrix(read.patients, read.numbers, lines, names)


def _from_rows(
    settings: TableSource, genes: Genes, source: Source, symbol: Symbol, wanted: set[str], where: str
) -> Matrix:
    columns = header_columns(source.header)
    named = [at for at, (name,) in enumerate(columns) if name == genes.gene_id] if genes.gene_id else [0]
    if len(named) != 1 or not columns:  # the names there are may be patients'
        fix = "correct `genes.gene_id`, or leave it out if the symbols are in the first column"
        raise unreadable(where, f"{len(named)} columns", f"one column {genes.gene_id!r}", fix)
    gene = named[0]
    patients = {at: extracted(name, settings.patient_extract) for at, (name,) in enumerate(columns) if at != gene}
    patients = {at: patient for at, patient in patients.items() if patient}
    names, lines = [], defaultdict(list)
    for number, (name, *cells) in bounded(source.rows([gene, *patients]), where):
        names.append(cell_text(name, settings.decimal))
        if (known := symbol(names[-1])) in wanted:
            texts = [cell_text(cell, settings.decimal) for cell in cells]
            lines[known].append(Line(f"row {number} ({names[-1]})", texts))
    return Matrix(tuple(patients.values()), tuple(at + 1 for at in patients), lines, names)


def _check_present(
    members: Mapping[str, Sequence[str]], sets: Mapping[str, object], matrix: Matrix, where: str
) -> None:
    lacking = [name for name, genes in members.items() if not any(gene in matrix.lines for gene in genes)]
    if lacking:
        known = {name.casefold(): name for name in reversed(matrix.names) if name}
        near = difflib.get_close_matches(lacking[0].casefold(), known, n=4, cutoff=0.5) or list(known)[:-5:-1]
        raise SiteError(
            what="a gene is missing" if lacking[0] not in sets else "none of a set's genes is there",
            where=where,
            found=f"no {_listed(lacking)} among {len(matrix.names)} names; nearest to the first: "
            f"{', '.join(repr(known[name]) for name in near)}",
            expected="all genes of the study, in any case",
            fix=_fix_missing(matrix.names),
            public="a gene that the study needs is not in the site's table",
        )


def _fix_missing(names: Iterable[str]) -> str:
    fix = "name it under `genes.aliases`, or, if the site does not have it, under the modality's `lacks`"
    dated = names_made_dates(names)
    return f"{dated}; else {fix}" if dated else fix


def _check_single(genes: Genes, matrix: Matrix, where: str) -> None:
    twice = [" and ".join(line.place for line in lines[:3]) for lines in matrix.lines.values() if len(lines) > 1]
    if twice and genes.duplicates == "error":
        raise SiteError(
            what="a duplicate gene",
            where=where,
            found=_listed(twice),
            expected="a gene once",
            fix="say which value counts: `genes.duplicates: mean`, `max` or `first`; or delete the others",
            public=PUBLIC,
        )


def _values(lines: Sequence[Line], settings: TableSource, genes: Genes, where: str) -> NDArray[np.float64]:
    """`(R,)`: a gene's value for each patient, NaN where missing."""
    numbers = [_transformed(_numbers(line, settings, where), line, genes, where) for line in lines]
    if genes.duplicates == "max":
        return np.asarray(np.fmax.reduce(numbers))
    return numbers[0] if genes.duplicates == "first" else _mean(numbers)


def _numbers(line: Line, settings: TableSource, where: str) -> NDArray[np.float64]:
    texts = without_missing(line.texts, settings.missing, settings.decimal)
    values = np.array([as_number(text, settings.decimal) for text in texts], dtype=np.float64)
    bad = [texts[at] for at in np.flatnonzero(~(np.abs(values) < LARGEST)) if texts[at]]
    if bad:
        raise SiteError(
            what="a number cannot be read",
            where=f"{where}, {line.place}",
            found=_listed(dict.fromkeys(repr(text[:40]) for text in bad)),
            expected=f"numbers with {settings.decimal!r} as the decimal sign",
            fix="list a word for unknown under the table's `missing`; leave other columns out by `patient_extract`",
            public=PUBLIC,
        )
    return values


def _transformed(values: NDArray[np.float64], line: Line, genes: Genes, where: str) -> NDArray[np.float64]:
    if genes.transform == "none":
        return values
    if (values < 0).any():
        raise SiteError(
            what="a logarithm of negative values",
            where=f"{where}, {line.place}",
            found=f"{int((values < 0).sum())} values below 0",
            expected=f"values from 0 on, for `genes.transform: {genes.transform}`",
            fix="the table holds logarithms already: leave `transform` out",
            public=PUBLIC,
            exit_code=ExitCode.SITE_CONFIG,
        )
    return np.asarray(np.log1p(values) / (np.log(2.0) if genes.transform == "log2p1" else 1.0))


def _mean(lines: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """`(R,)`: the mean of what is known, NaN where nothing is."""
    if len(lines) == 1:
        return lines[0]
    known = (~np.isnan(lines)).sum(axis=0)
    return np.asarray(np.nansum(lines, axis=0) / np.where(known, known, np.nan))


def _listed(names: Iterable[str], shown: int = 5) -> str:
    every = list(names)
    return ", ".join(every[:shown]) + (f" and {len(every) - shown} more" if len(every) > shown else "")
