import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from client.cache.entry import Entry
from client.cohort.cohort_cache import cached
from client.cohort.load import load_cohort
from client.cohort.rows import open_rows
from client.config.site import load_site
from client.errors import ExitCode, SiteError
from client.tables.read import read_table
from shared_models.features import Feature
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task

WIDE = [["Sample", "ESR1", "erbb2", "MKI67"], ["a", "1", "3", "0"], ["b", "2", "", "7"], ["c", "4", "5", "1"]]
TALL = [list(column) for column in zip(*WIDE, strict=True)]


@pytest.fixture
def matrix(hospital):
    """The columns of a gene matrix, in whichever way it stands."""

    def read(rows, genes, references, **settings):
        hospital.write(rows, "genes.csv")
        genes = {"orientation": "genes_in_rows" if rows[0][1] == "a" else "genes_in_columns", **genes}
        patient = {} if genes["orientation"] == "genes_in_rows" else {"patient_id": "Sample"}
        hospital.settings["tables"]["genes"] = {"file": "genes.csv", "genes": genes, **patient, **settings}
        return read_table(hospital.site(), "genes", references)

    return read


@pytest.fixture
def genomic(hospital):
    """A site whose 40 patients have a matrix with genes in rows, and the reader's settings."""
    patients = [f"secret-{index:03d}" for index in range(40)]
    rows = [["Hugo_Symbol", *patients], ["ESR1", *range(40)], ["PGR", *[0.5] * 39, ""], ["TTN", *["x"] * 40]]
    hospital.write(rows, "genes.csv")
    hospital.settings["tables"]["genes"] = {"file": "genes.csv", "genes": {"orientation": "genes_in_rows"}}
    hospital.settings["modalities"] = {"rna": {"reader": "table", "table": "genes", "same_names": True}}
    return hospital


def rna(*features):
    return Task({"rna": Table(features)}, {"recurrence": TimeToEvent()}, build_model=lambda *_: None)


@pytest.mark.parametrize("rows", [WIDE, TALL])
def test_either_way_a_gene_is_found_by_its_symbol_in_any_case(matrix, rows):
    table = matrix(rows, {}, ["ESR1", "ERBB2"])
    assert table.patients == ("a", "b", "c")
    assert table.cells == {"ESR1": ("1", "2", "4"), "ERBB2": ("3", "", "5")}
    assert table.rows == (2, 3, 4)


@pytest.mark.parametrize("rows", [WIDE, TALL])
def test_aliases_lead_to_symbols(matrix, hospital, rows):
    renamed = [[{"erbb2": "HER2", "MKI67": "KI-67"}.get(cell, cell) for cell in row] for row in rows]
    hospital.write([["alias", "symbol"], ["KI-67", "MKI67"]], "hgnc.csv")
    genes = {"aliases": {"her2": "ERBB2"}, "aliases_file": "hgnc.csv"}
    assert matrix(renamed, genes, ["ERBB2", "MKI67"]).cells == {"ERBB2": ("3", "", "5"), "MKI67": ("0", "7", "1")}
    # the other way round: the study asks by the old name
    assert matrix(rows, genes, ["HER2"]).cells == {"HER2": ("3", "", "5")}


def test_an_alias_of_two_genes_and_a_symbol_lead_nowhere(matrix, hospital):
    hospital.write([["alias", "symbol"], ["P1", "ESR1"], ["P1", "PGR"], ["MKI67", "ESR1"], ["x", "MKI67"]], "hgnc.csv")
    genes = {"aliases_file": "hgnc.csv"}
    assert matrix(WIDE, genes, ["MKI67"]).cells["MKI67"] == ("0", "7", "1")
    with pytest.raises(SiteError, match="a gene is missing"):
        matrix([["Sample", "P1"], ["a", "1"]], genes, ["ESR1"])


@pytest.mark.parametrize(
    ("how", "values"), [("mean", ("2", "2", "5")), ("max", ("3", "2", "5")), ("first", ("1", "2", ""))]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_gene_that_stands_twice(matrix, how, values, turned):
    rows = [["Sample", "ESR1", "esr1"], ["a", "1", "3"], ["b", "2", "NA"], ["c", "", "5"]]
    rows = [list(column) for column in zip(*rows, strict=True)] if turned else rows
    assert matrix(rows, {"duplicates": how}, ["ESR1"], missing=["NA"]).cells["ESR1"] == values
    with pytest.raises(SiteError) as caught:
        matrix(rows, {}, ["ESR1"], missing=["NA"])
    unit = "row" if turned else "column"
    for part in ["a duplicate gene", f"{unit} 2 (ESR1) and {unit} 3 (esr1)", "`genes.duplicates: mean`"]:
        assert part in str(caught.value)


@pytest.mark.parametrize(("transform", "base"), [("log2p1", 2.0), ("log1p", math.e)])
def test_logarithms_are_taken_before_means(matrix, hospital, transform, base):
    (hospital.data / "sets.gmt").write_text("LUMINAL\thttp://x\tESR1\tERBB2\tnowhere\n")
    table = matrix(TALL, {"transform": transform, "sets": "sets.gmt"}, ["ESR1", "LUMINAL"])
    esr1 = np.log1p([1, 2, 4]) / np.log(base)
    erbb2 = np.log1p([3, np.nan, 5]) / np.log(base)
    np.testing.assert_allclose([float(text) for text in table.cells["ESR1"]], esr1)
    expected = [(esr1[0] + erbb2[0]) / 2, esr1[1], (esr1[2] + erbb2[2]) / 2]
    np.testing.assert_allclose([float(text) for text in table.cells["LUMINAL"]], expected)


def test_patients_are_taken_from_barcodes_and_other_columns_left_out(matrix):
    rows = [["gene", "a", "Entrez", "TCGA-A1-A0SB-01A", "TCGA-A1-A0SB-11A"], ["ESR1", "x", "y", "1,5", "2"]]
    table = matrix(rows, {}, ["ESR1"], patient_extract="^(TCGA-..-....)-01", decimal=",")
    assert (table.patients, table.rows, table.cells["ESR1"]) == (("TCGA-A1-A0SB",), (4,), ("1,5",))
    both = matrix(rows, {}, ["ESR1"], patient_extract="^(TCGA-..-....)", decimal=",")
    with pytest.raises(SiteError, match="columns 4 and 5 name the same patient") as caught:
        both.positions()
    assert "TCGA-A1" not in str(caught.value)


def test_the_column_of_symbols_need_not_be_the_first(matrix):
    rows = [["Entrez", "a", "Symbol"], ["2099", "1", "ESR1"]]
    assert matrix(rows, {"gene_id": "Symbol"}, ["ESR1"], patient_extract="^([a-z])$").cells == {"ESR1": ("1",)}


@pytest.mark.parametrize(
    ("rows", "genes", "message"),
    [
        (TALL, {}, ["a gene is missing", "no ESR2 among 3 names", "'ESR1'", "`lacks`"]),
        ([*TALL, ["ESR2", "1", "high", "2"]], {}, ["number cannot be read", "row 5 (ESR2)", "'high'"]),
        ([*TALL, ["ESR2", "1", "-3", "2"]], {"transform": "log2p1"}, ["negative", "row 5", "1 values", "`transform`"]),
        (WIDE, {"sets": "gone.gmt"}, ["no file", "gone.gmt"]),
        (WIDE, {"sets": "short.gmt"}, ["line 1 with 2 cells", "separated by tabs"]),
        (WIDE, {"sets": "set.gmt"}, ["none of a set's genes is there", "ESR2"]),
        (WIDE, {"aliases_file": "../secret.csv"}, ["escapes data_root", "genes.aliases_file"]),
        (WIDE, {"aliases_file": "three.csv"}, ["three.csv", "a header of 3 columns", "alias and symbol"]),
        ([*TALL, ["ESR2", "1", "2"]], {}, ["does not fit its header", "row 5", "3 cells"]),
        (TALL, {"gene_id": "gone"}, ["0 columns", "one column 'gone'"]),
    ],
)
def test_a_matrix_that_cannot_be_used_is_one_message(matrix, hospital, rows, genes, message):
    (hospital.data / "short.gmt").write_text("A\tB\n")
    (hospital.data / "set.gmt").write_text("ESR2\t\tXIST\tTSIX\n")
    (hospital.data / "three.csv").write_text("a,b,c\n")
    with pytest.raises(SiteError) as caught:
        matrix(rows, genes, ["ESR1", "ESR2"])
    for part in message:
        assert part in str(caught.value)
    assert "ESR" not in caught.value.public
    assert "'a'" not in str(caught.value)


def test_a_study_on_genes_in_rows(genomic, config):
    cohort = load_cohort(genomic.site(), rna(Feature("ESR1"), Feature("PGR", log=True)), config)
    np.testing.assert_array_equal(cohort.inputs["rna"][:, 0], np.arange(40))
    np.testing.assert_allclose(cohort.inputs["rna"][:39, 1], math.log(1.5), rtol=1e-6)
    assert np.isnan(cohort.inputs["rna"][39, 1])
    assert cohort.warnings == ()


def test_counts_where_logarithms_may_be_meant_are_a_warning(genomic, config):
    patients = [f"secret-{index:03d}" for index in range(40)]
    genomic.write([["gene", *patients], ["ESR1", *range(100, 140)], ["PGR", *range(100, 140)]], "genes.csv")
    task = rna(Feature("ESR1"), Feature("PGR", log=True))
    (warning,) = load_cohort(genomic.site(), task, config).warnings
    assert "1 genes have values above 50" in warning
    assert "secret" not in warning
    genomic.settings["tables"]["genes"]["genes"]["transform"] = "log2p1"
    with pytest.raises(SiteError, match="taken twice") as caught:
        load_cohort(genomic.site(), task, config)
    assert caught.value.exit_code is ExitCode.STUDY
    assert load_cohort(genomic.site(), rna(Feature("ESR1")), config).warnings == ()


def test_a_changed_set_of_genes_is_noticed(genomic):
    path = genomic.data / "sets.gmt"
    path.write_text("S\t\tESR1\n")
    genomic.settings["tables"]["genes"]["genes"]["sets"] = "sets.gmt"
    task, values = rna(Feature("S")), []

    def parse():
        values.append(open_rows(genomic.site(), task).tables["genes"].cells["S"][:2])
        return Entry({}, {"a": np.zeros(1)})

    cached(genomic.site(), task, parse)
    path.write_text("S\t\tESR1\tPGR\n")
    cached(genomic.site(), task, parse)
    assert values == [("0", "1"), ("0.25", "0.75")]


def test_only_the_studys_genes_are_kept_in_memory(hospital):
    """2,000 genes of 500 patients, of which 20 are asked for: far less than the 8 MB of all as numbers."""
    generator = np.random.default_rng(0)
    with (hospital.data / "genes.tsv").open("w") as file:
        file.write("gene\t" + "\t".join(f"p{index}" for index in range(500)) + "\n")
        for gene in range(2000):
            file.write(f"G{gene}\t" + "\t".join(f"{value:.4f}" for value in generator.gamma(2, 3, 500)) + "\n")
    hospital.settings["tables"]["genes"] = {"file": "genes.tsv", "genes": {"orientation": "genes_in_rows"}}
    site = hospital.site()
    tracemalloc.start()
    table = read_table(site, "genes", [f"G{gene}" for gene in range(0, 2000, 100)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table.cells) == 20
    assert len(table.patients) == 500
    assert peak < 4e6


def test_a_matrix_of_tcga_turned_on_its_side(shared_data, hospital):
    """The real matrix reads the same with genes in rows."""
    project = Path(__file__).parents[3]
    site = load_site(project / "site_configs/tcga_multiomics.yaml", shared_data / "tcga_multiomics")
    genes = [f"expr_{index:03d}" for index in range(0, 600, 50)]
    plain = read_table(site, "omics", genes)
    rows = [["gene", *plain.patients], *([gene.upper(), *plain.cells[gene]] for gene in genes)]
    hospital.write(rows, "genes.csv")
    hospital.settings["tables"]["genes"] = {"file": "genes.csv", "genes": {"orientation": "genes_in_rows"}}
    turned = read_table(hospital.site(), "genes", genes)
    assert turned.patients == plain.patients
    for gene in genes:
        np.testing.assert_array_equal(np.float64(turned.cells[gene]), np.float64(plain.cells[gene]))
