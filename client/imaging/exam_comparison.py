"""Comparison of a site's exams: copies, exams of other patients, mixed intents and parts of the body."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from client.contract.identifiers import loose_identifier
from client.imaging.exam_facts import ExamFacts
from client.imaging.odd_one import MIN_OTHERS, odd_ones

Grid = tuple[str, tuple[float, ...], tuple[int, ...]]  # an exam, by its voxels, their size and number

COPIED = "the images are those of another patient, too; check the identifiers, and delete one of the two"
ANOTHERS = "the files say that they are of another patient of this site; check which of the two they are of"
MIXED = {
    "intent": "mammograms are mixed: {counts}; give those of one intent, whose grey values are alike",
    "body_part": "the files name several parts of the body: {counts}; check that all exams are of the same",
}
UNLIKE_HEADER = "voxels measure exactly 1 x 1 x 1 mm, unlike those of the site's other exams; was the header lost?"
UNLIKE_BOX = "the mask fills a box, unlike the site's others, which are outlines; outline the tumour, or box all"
UNLIKE_SIZE = (
    "the exam is far larger or smaller in mm than the site's others, which are alike; check its voxel size, and "
    "whether images are missing"
)
UNLIKE_GRAIN = "the image is far smoother or rougher than the site's others, which are alike; export the original"
UNLIKE_CONTRAST = "grey values spread far more or less than in the site's others, which are alike; export the original"
SIZE, LOOK = 1.2, 1.4  # factors by which an exam is unlike others; one protocol adds a sixth for larger breasts


def compared_exams(facts: Mapping[int, ExamFacts], patients: Sequence[str]) -> dict[int, ExamFacts]:
    """The facts of R rows, with remarks on exams that are another patient's, or that are unlike all others."""
    unlike = _unlike_others(facts)
    owners: dict[str, set[str]] = defaultdict(set)
    for row, one in facts.items():
        owners[one.voxels_hash].add(patients[row])
    identifiers = {loose_identifier(patient) for patient in patients}
    compared = {}
    for row, one in facts.items():
        remarks = [COPIED] * (one.voxels_hash != "" and len(owners[one.voxels_hash]) > 1)
        remarks += [unlike[row]] if row in unlike else []
        header = loose_identifier(one.choice.get("patient", ""))
        remarks += [ANOTHERS] * (header in identifiers - {loose_identifier(patients[row])})
        compared[row] = dataclasses.replace(one, remarks=(*one.remarks, *remarks))
    return compared


def _unlike_others(facts: Mapping[int, ExamFacts]) -> dict[int, str]:
    """Exams that differ from what all others have in common, the first thing only."""
    grids = {row: (one.voxels_hash, one.spacing_mm, one.size) for row, one in facts.items()}
    single = {grid: facts[row] for row, grid in grids.items()}  # lesions share one
    unlike = dict.fromkeys(_of_1_mm(single), UNLIKE_HEADER)
    for values in zip(*map(_comparable, single.values()), strict=True):
        remark, factor, _ = values[0]
        odd = odd_ones(dict(zip(single, (value for *_, value in values), strict=True)), factor)
        unlike = dict.fromkeys(odd, remark) | unlike
    remarks = {row: unlike[grid] for row, grid in grids.items() if grid in unlike}
    boxes = [row for row, one in facts.items() if one.mask_is_box]
    masks = sum(one.mask_mm3 > 0 for one in facts.values())
    return dict.fromkeys(boxes if len(boxes) < masks / 2 else (), UNLIKE_BOX) | remarks


def _of_1_mm(exams: Mapping[Grid, ExamFacts]) -> list[Grid]:
    """The only one whose voxels measure 1 mm in all directions."""
    of_1_mm = [grid for grid, one in exams.items() if set(one.spacing_mm) == {1.0} and one.size[2] > 1]
    return of_1_mm if len(of_1_mm) == 1 and len(exams) > MIN_OTHERS else []


def _comparable(one: ExamFacts) -> tuple[tuple[str, float, float], ...]:
    """What exams of one protocol have in common: the remark on one that has not, by what factor, and the value."""
    several = one.size[2] > 1  # mammograms are of two formats: detectors of 18 x 24 cm and of 24 x 30 cm
    sides = [(UNLIKE_SIZE, SIZE, several * count * mm) for count, mm in zip(one.size, one.spacing_mm, strict=True)]
    return (*sides, (UNLIKE_GRAIN, LOOK, one.sharpness), (UNLIKE_CONTRAST, LOOK, one.contrast))


def remark_warnings(place: str, facts: Iterable[ExamFacts], what: str = "exam") -> list[str]:
    """A sentence on each kind of remark, with how many exams, or what else, have it, and on what is mixed."""
    facts = list(facts)
    warnings = []
    for name, sentence in MIXED.items():
        values = Counter(value for one in facts if (value := one.choice.get(name)))
        if len(values) > 1:
            counts = ", ".join(f"{count} {value}" for value, count in values.most_common())
            warnings.append(f"{place}: {sentence.format(counts=counts)}")
    remarks = Counter(remark for one in facts for remark in one.remarks)
    return warnings + [
        f"{place}: {count} {what}{'s' * (count > 1)}: {remark}" for remark, count in remarks.most_common()
    ]
