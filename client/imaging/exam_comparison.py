"""Comparison of a site's exams: copies, exams of other patients, mixed intents and parts of the body."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from client.contract.identifiers import loose_identifier
from client.imaging.exam_facts import ExamFacts

COPIED = "the images are those of another patient, too; check the identifiers, and delete one of the two"
ANOTHERS = "the files say that they are of another patient of this site; check which of the two they are of"
MIXED = {
    "intent": "mammograms are mixed: {counts}; give those of one intent, whose grey values are alike",
    "body_part": "the files name several parts of the body: {counts}; check that all exams are of the same",
}


def compared_exams(facts: Mapping[int, ExamFacts], patients: Sequence[str]) -> dict[int, ExamFacts]:
    """The facts of R rows, with a remark on the exams whose images, or whose headers, are another patient's."""
    owners: dict[str, set[str]] = defaultdict(set)
    for row, one in facts.items():
        owners[one.voxels_hash].add(patients[row])
    identifiers = {loose_identifier(patient) for patient in patients}
    compared = {}
    for row, one in facts.items():
        remarks = [COPIED] * (one.voxels_hash != "" and len(owners[one.voxels_hash]) > 1)
        header = loose_identifier(one.choice.get("patient", ""))
        remarks += [ANOTHERS] * (header in identifiers - {loose_identifier(patients[row])})
        compared[row] = dataclasses.replace(one, remarks=(*one.remarks, *remarks))
    return compared


def remark_warnings(place: str, facts: Iterable[ExamFacts]) -> list[str]:
    """A sentence on each kind of remark, with how many exams have it, and on what is mixed."""
    facts = list(facts)
    warnings = []
    for name, sentence in MIXED.items():
        values = Counter(value for one in facts if (value := one.choice.get(name)))
        if len(values) > 1:
            counts = ", ".join(f"{count} {value}" for value, count in values.most_common())
            warnings.append(f"{place}: {sentence.format(counts=counts)}")
    remarks = Counter(remark for one in facts for remark in one.remarks)
    return warnings + [
        f"{place}: {'1 exam' if count == 1 else f'{count} exams'}: {remark}" for remark, count in remarks.most_common()
    ]
