"""Groups of a secure sum: who takes part in a kind of message, and which sites add to which block.

All of it follows by code from what the sites signed of themselves. The center is never asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from shared_models.secure_aggregation.statements import Enrolment, Facts
from shared_models.secure_aggregation.wire import ProtocolError

PREPARE, TRAINING = "query.prepare", "train"
EVALUATE_VALIDATION, EVALUATE_TEST = "evaluate.validation", "evaluate.test"
EVALUATE_COMPARISON = "evaluate.comparison"
KINDS = (PREPARE, TRAINING, EVALUATE_VALIDATION, EVALUATE_TEST, EVALUATE_COMPARISON)

TRAIN, VALIDATION, TEST, EXTERNAL, COMPARED = "train", "validation", "test", "external", "compared"
TESTED = "tested"
"""Test patients' sums of a table; those of training patients are over all who have it, as before round 1."""
RULE_CHANGE = "rule_change"
"""The field of a reply whose arrays are named as the network's are."""
_ENCODER = re.compile(r"\bencoders\.(?P<modality>[^.]+)\.")


def groups_of(kind: str, facts: Facts) -> frozenset[str]:
    """The groups that a site adds to in a kind of message; none: it takes no part in it.

    Raises:
        ProtocolError: If there is no such kind.
    """
    if kind not in KINDS:
        msg = "a kind of message that has no sum in secure aggregation"
        raise ProtocolError(msg)
    if kind == EVALUATE_TEST:
        return _tested(TEST if facts.trains else EXTERNAL, facts) if facts.test else frozenset()
    if kind == EVALUATE_COMPARISON:
        return _with_known(COMPARED, facts, TEST) if facts.test else frozenset()
    validation = _with_known(VALIDATION, facts, VALIDATION) if facts.validation else frozenset()
    if kind == EVALUATE_VALIDATION:
        return validation
    if not facts.trains:
        return frozenset()
    training = _with_known(TRAIN, facts, TRAIN) | {*facts.modalities}
    return training | validation if kind == TRAINING else training


def _with_known(group: str, facts: Facts, part: str) -> frozenset[str]:
    """A group, and within it one for each target and table that a site knows in a part of its split.

    A site without would add zeros, and a sum of zeros and of one hospital's numbers is that hospital's.
    """
    known = (name.partition(".") for name in facts.known)
    return frozenset({group, *(f"{group}.{name}" for which, _, name in known if which == part)})


def _tested(group: str, facts: Facts) -> frozenset[str]:
    """The groups of the test, with which outcomes in the other parts of the split are told: by part, who knows any."""
    others = frozenset(f"{group}.{known}" for known in facts.known if not known.startswith(f"{TEST}."))
    return _with_known(group, facts, TEST) | others


def all_groups(facts: Facts) -> frozenset[str]:
    """The groups that a site adds to in some kind of message."""
    return frozenset().union(*(groups_of(kind, facts) for kind in KINDS))


def participants(kind: str, roster: Iterable[Enrolment]) -> tuple[str, ...]:
    """Names of the sites that take part in a kind of message, there or not, sorted."""
    return tuple(sorted(site.name for site in roster if groups_of(kind, site.facts)))


def members(kind: str, roster: Iterable[Enrolment], among: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By group, the sites among `among` that add to it, sorted."""
    sites_by_group: dict[str, list[str]] = {}
    for site in sorted(roster, key=lambda site: site.name):
        for group in groups_of(kind, site.facts) if site.name in among else ():
            sites_by_group.setdefault(group, []).append(site.name)
    return {group: tuple(names) for group, names in sorted(sites_by_group.items())}


def large_enough(groups: Mapping[str, tuple[str, ...]], least: int) -> dict[str, tuple[str, ...]]:
    """The groups of so many members."""
    return {group: names for group, names in groups.items() if len(names) >= least}


def learned(groups: Iterable[str]) -> frozenset[str]:
    """The targets that a training is for: those that enough of the present sites know of training patients.

    One that fewer know would be in all weights that it shares with the others, and some of them it has for itself.
    """
    return frozenset(name for part, dot, name in (group.partition(".") for group in groups) if dot and part == TRAIN)


def modality_of(parameter: str) -> str:
    """The modality whose encoder a parameter of the network belongs to; empty for what all sites share."""
    match = _ENCODER.search(parameter)
    return match["modality"] if match else ""


def group_of_parameter(parameter: str) -> str:
    """The group of a parameter of the network: a modality, where it is its encoder's."""
    return modality_of(parameter) or TRAIN


def group_of_array(array: str) -> str:
    """The group of an array of results, by its name."""
    kind, _, rest = array.partition(".")
    if kind == RULE_CHANGE:
        return group_of_parameter(rest)
    if kind in ("features", "patients", "steps"):
        return rest.partition(".")[0]
    if kind == "counts":
        return f"{TRAIN}.{rest}"
    if kind not in (VALIDATION, TEST, EXTERNAL, COMPARED):
        return TRAIN
    subject = _subject_of(*rest.split("."))
    return f"{kind}.{subject}" if subject else kind


def _subject_of(first: str, *more: str) -> str:
    """The target or the table that an array of patients' results is of; empty where it is of all."""
    match first, more:
        case "patients", ("left_out" | "excluded", *_):
            return ""
        case "patients", ("outcomes", target, part) if part != TEST:
            return f"{part}.{target}"
        case "patients", ("test", table, *_):
            return f"{TESTED}.{table}"
        case ("patients", (_, subject, *_)) | ("subgroups", (_, "outcomes", subject) | (_, _, subject, *_)):
            return subject
        case "importance", (subject, *rest):
            return subject if rest else ""
    return first
