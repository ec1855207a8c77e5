"""Exams beside each other: one that is unlike all others where these are alike, and nothing where they are not."""

from dataclasses import replace

import pytest

from client.imaging.exam_comparison import compared_exams
from client.imaging.exam_facts import ExamFacts

PATIENTS = [f"P{row}" for row in range(6)]
SIZES = (0.30, 0.31, 0.32, 0.30, 0.31)


def exam(row: int, **values: object) -> ExamFacts:
    facts = ExamFacts(
        choice={},
        phases=1,
        seconds=(),
        size=(64, 64, 30),
        spacing_mm=(2.0, 2.0, 3.0),
        orientation="LPS",
        mask_mm3=900.0,
        mask_share=0.01,
        remarks=(),
        voxels_hash=f"{row}",
        sharpness=0.3,
        contrast=0.8,
    )
    return replace(facts, **values)  # type: ignore[arg-type]


def remarks_of_last(**values: object) -> tuple[str, ...]:
    facts = {row: exam(row, sharpness=size) for row, size in enumerate(SIZES)}
    compared = compared_exams({**facts, 5: exam(5, **values)}, PATIENTS)
    assert all(compared[row].remarks == () for row in facts)
    return compared[5].remarks


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"size": (64, 64, 22)}, "images are missing"),
        ({"spacing_mm": (2.5, 2.5, 3.75)}, "voxel size"),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, "header lost"),
        ({"sharpness": 0.2}, "smoother or rougher"),
        ({"contrast": 0.4}, "grey values spread"),
        ({"mask_is_box": True}, "fills a box"),
    ],
)
def test_an_exam_unlike_all_others_is_named(values: dict[str, object], word: str) -> None:
    (remark,) = remarks_of_last(**values)
    assert word in remark


def test_what_varies_between_exams_says_nothing() -> None:
    assert remarks_of_last(sharpness=0.35, contrast=1.0, size=(64, 64, 32)) == ()
    various = {row: exam(row, sharpness=0.2 + 0.1 * row, contrast=0.5 + 0.3 * row) for row in range(5)}
    compared = compared_exams({**various, 5: exam(5, sharpness=1.0, contrast=3.0)}, PATIENTS)
    assert [one.remarks for one in compared.values()] == [()] * 6


def test_fields_of_view_and_detectors_of_usual_sizes_say_nothing() -> None:
    assert remarks_of_last(spacing_mm=(2.35, 2.35, 3.0), size=(64, 64, 35)) == ()
    detectors = {row: exam(row, size=(2294, 1914, 1), spacing_mm=(0.1, 0.1, 1.0)) for row in range(5)}
    larger = exam(5, size=(3062, 2394, 1), spacing_mm=(0.1, 0.1, 1.0))
    assert [one.remarks for one in compared_exams({**detectors, 5: larger}, PATIENTS).values()] == [()] * 6


def test_four_exams_are_too_few_to_compare() -> None:
    facts = {row: exam(row, sharpness=0.3 + (row == 3)) for row in range(4)}
    assert [one.remarks for one in compared_exams(facts, PATIENTS).values()] == [()] * 4
