"""Rows of comparisons in the report: each count beside the patients that it is of."""

from __future__ import annotations

from server.report.sections.comparisons import _lead, _matrix, _table
from server.study.results.comparison_section import MatrixCell, ModelComparison
from shared_models.pages.numbers import NONE

ROW = ModelComparison(
    target="er",
    model="other",
    patients=120,
    measure="auc",
    value=0.7,
    value_low=0.6,
    value_high=0.8,
    by_site={},
    difference=0.1,
    difference_low=0.02,
    difference_high=0.18,
    p=0.01,
    p_holm=0.01,
    only_study_right=3,
    only_other_right=12,
    mcnemar_p=0.035,
    mcnemar_p_holm=0.035,
    mcnemar_patients=80,
)


def test_mcnemars_counts_stand_beside_the_patients_whom_hospitals_tell_of() -> None:
    none = dict.fromkeys(("only_study_right", "only_other_right", "mcnemar_p", "mcnemar_patients"))
    withheld = ROW.model_copy(update=none)
    of_rows = ROW.model_copy(update={"mcnemar_patients": None})
    table = _table("er", [ROW, of_rows, withheld])
    place = table.headings.index("of patients") - 1
    assert [row.cells[place] for row in table.rows] == ["80", "120", NONE]
    assert {len(row.cells) for row in table.rows} == {len(table.headings) - 1}


def test_a_model_that_was_not_tested_at_a_hospital_has_no_number_there() -> None:
    """As a hospital's own where each is left out in turn."""
    cells = [
        MatrixCell(
            target="er",
            trained_on=one,
            tested_on=other,
            patients=90,
            measure="auc",
            value=0.7,
            value_low=0.6,
            value_high=0.8,
        )
        for one, other in (("oak", "elm"), ("elm", "oak"))
    ]
    assert [[NONE in cell for cell in row.cells] for row in _matrix("er", cells).rows] == [[False, True], [True, False]]


def test_what_could_not_be_tested_is_counted() -> None:
    untested = ROW.model_copy(update={"p": None, "p_holm": None, "difference": None})
    assert "could not be tested" not in _lead([ROW])
    assert "Of 2 comparisons" in _lead([ROW, untested])
    assert "1 of them could not be tested" in _lead([ROW, untested])
