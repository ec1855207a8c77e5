from __future__ import annotations

from types import SimpleNamespace

import pytest

from client.checks.exam_list import patients_of_remarks
from client.checks.exam_suspicions import exam_suspicions
from client.contract.paths import Instance
from client.imaging.exam_comparison import remark_warnings
from client.imaging.exam_facts import ExamFacts


@pytest.mark.parametrize(
    ("shown", "remarks", "expected"),
    [
        (None, (), []),  # no mask says where the tumour is
        (1.0, (), []),
        (0.5, (), ["50% of the tumour is within the study's grid"]),
        (0.5, ("no times",), ["no times", "50% of the tumour is within the study's grid"]),
        (None, ("no times",), ["no times"]),
    ],
)
def test_each_remark_names_its_patients(shown: float | None, remarks: tuple[str, ...], expected: list[str]) -> None:
    exam = ExamFacts({}, 1, (), (8, 8, 8), (1.0, 1.0, 1.0), "LPS", 0.0, 0.0, remarks, tumour_shown=shown)
    rows = SimpleNamespace(keys=[Instance("oak-1"), Instance("oak-2", "left")])
    listed = patients_of_remarks(rows, {"mri": {0: exam, 1: exam}})  # type: ignore[arg-type]
    assert listed == [("mri", remark, ["oak-1", "oak-2 left"]) for remark in expected]


def test_each_warning_of_exams_has_the_rows_that_it_concerns() -> None:
    def exam(intent: str, remarks: tuple[str, ...] = (), shown: float = 1.0) -> ExamFacts:
        size, spacing_mm = (8, 8, 8), (1.0, 1.0, 1.0)
        return ExamFacts({"intent": intent}, 1, (), size, spacing_mm, "LPS", 0.0, 0.0, remarks, tumour_shown=shown)

    exams = {0: exam("RAW"), 3: exam("SHOWN", ("no times",)), 4: exam("SHOWN", shown=0.5), 9: exam("SHOWN")}
    others = {1: exam("RAW", shown=0.5), 2: exam("SHOWN", ("no times",))}  # of another modality
    warnings = [
        *remark_warnings("modalities.mri", exams.values()),
        "mri: 1 of 4 exams are shown without a part of the tumour",
    ]
    concerned = {
        one.text.split(": ")[1]: one.rows for one in exam_suspicions(warnings, {"mri": exams, "other": others})
    }
    assert concerned == {
        "mammograms are mixed": (0,),
        "1 exam": (3,),
        "1 of 4 exams are shown without a part of the tumour": (4,),
    }
