"""Comparison of a site's exams: copies, exams of other patients, mixed intents and parts of the body."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from client.contract.identifiers import loose_identifier
from client.imaging.exam_facts import ExamFacts

COPIED = "the images are those of another patient, too; check the identifiers, and delete one of the two"
ANOTHERS = "the files say that they are of another patient of this site; check which of the two they are of"
MIXED = {
    "intent": "mammograms are mixed: {counts}; give those of one intent, whose grey values are alike",
    "body_part": "the files name several parts of the body: {counts}; check that all exams are of the same",
}


UNLIKE_HEADER = "voxels measure exactly 1 x 1 x 1 mm, unlike those of the site's other exams; was the header lost?"
UNLIKE_SIZE = "the exam is far larger or smaller in mm than the site's others, which are alike; check its voxel size"
MIN_OTHERS, ALIKE, FAR = 4, 1.3, 1.75  # exams; factors between the extents of the others, and to an odd one


def compared_exams(facts: Mapping[int, ExamFacts], patients: Sequence[str]) -> dict[int, ExamFacts]:
    """The facts of R rows, with remarks on exams that are another patient's, or whose grid is unlike all others'."""
    unlike = _unlike_grids(facts)
    owners: dict[str, set[str]] = defaultdict(set)
    for row, one in facts.items():
        owners[one.voxels_hash].add(patients[row])
    identifiers = {loose_identifier(patient) for patient in patients}
    compared = {}
    for row, one in facts.items():
        remarks = [COPIED] * (one.voxels_hash != "" and len(owners[one.voxels_hash]) > 1)
        remarks += unlike.get(row, [])
        header = loose_identifier(one.choice.get("patient", ""))
        remarks += [ANOTHERS] * (header in identifiers - {loose_identifier(patients[row])})
        compared[row] = dataclasses.replace(one, remarks=(*one.remarks, *remarks))
    return compared


def _unlike_grids(facts: Mapping[int, ExamFacts]) -> dict[int, list[str]]:
    """Exams in three dimensions whose voxel size or extent is far from what all others have in common."""
    grids = {row: (one.spacing_mm, one.size) for row, one in facts.items() if len(one.size) == 3 and one.size[2] > 1}
    distinct = {(one.voxels_hash, *grids[row]): row for row, one in facts.items() if row in grids}  # lesions share one
    if len(distinct) <= MIN_OTHERS:
        return {}
    rows = list(distinct.values())
    extents = np.log([np.multiply(*grids[row]) for row in rows])
    of_1_mm = [set(grids[row][0]) == {1.0} for row in rows]
    unlike: dict[tuple[Any, ...], list[str]] = {}
    for at, row in enumerate(rows):
        others = np.delete(extents, at, axis=0)
        if of_1_mm[at] and sum(of_1_mm) == 1:
            unlike[grids[row]] = [UNLIKE_HEADER]
        elif (np.ptp(others, axis=0) < np.log(ALIKE)).all() and (
            np.abs(extents[at] - others.mean(axis=0)).max() > np.log(FAR)
        ):
            unlike[grids[row]] = [UNLIKE_SIZE]
    return {row: unlike[grid] for row, grid in grids.items() if grid in unlike}


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
