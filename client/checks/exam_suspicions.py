"""Suspicions of exams: warnings of the readers of images with the rows that they concern, for the page of the site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from client.checks.exam_list import WORTH_A_LOOK
from client.checks.suspicion import Suspicion, suspicion
from client.imaging.exam_comparison import MIXED
from client.imaging.exam_facts import ExamFacts

CUT_OFF, PADDED = "shown without a part of the tumour", "padded with 0"  # as the readers' sentences say it


def exam_suspicions(warnings: Sequence[str], exams: Mapping[str, Mapping[int, ExamFacts]]) -> list[Suspicion]:
    """Each warning with the rows that it concerns, as far as the exams' facts say which.

    Args:
        warnings: The readers' sentences, in counts, each with its modality before it.
        exams: By modality and row.
    """
    return [
        suspicion(text, sorted({row for facts in _of(text, exams) for row in _concerned(text, facts)}))
        for text in warnings
    ]


def _of(text: str, exams: Mapping[str, Mapping[int, ExamFacts]]) -> Iterable[Mapping[int, ExamFacts]]:
    """The exams of a sentence's modality; all where it has none of its own, as images that features are made of."""
    name = text.partition(":")[0].removeprefix("modalities.")
    return [exams[name]] if name in exams else exams.values()


def _concerned(text: str, exams: Mapping[int, ExamFacts]) -> Iterable[int]:
    for name, sentence in MIXED.items():
        if sentence.partition("{")[0] in text:
            values = {row: one.choice[name] for row, one in exams.items() if one.choice.get(name)}
            usual = [value for value, _ in Counter(values.values()).most_common(1)]
            return [row for row, value in values.items() if value not in usual]
    if CUT_OFF in text:
        return [row for row, one in exams.items() if one.tumour_shown is not None and one.tumour_shown < WORTH_A_LOOK]
    if PADDED in text:
        return [row for row, one in exams.items() if one.grid_filled is not None and one.grid_filled < WORTH_A_LOOK]
    return [row for row, one in exams.items() if any(text.endswith(f": {remark}") for remark in one.remarks)]
