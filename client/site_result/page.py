"""The site's own page of a study: its place among the others, its exact figures, a few cases, and what left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from client.differences import own_and_others, unlike_others
from client.governance.audit import audit_of
from client.governance.chained_log import read
from client.governance.ledger import spent_on
from client.governance.policy_checks import ledger_of
from client.session import StudySession
from client.site_result.cases import cases
from client.site_result.figures import TestedTarget
from client.training.dataset import PatientDataset
from shared_models.features import FeatureStatistics
from shared_models.messages import EvaluateTestRequest
from shared_models.pages.drawing import Role
from shared_models.pages.elements import Card, Element, Facts, Figure, Notice, Row, Section, Table, Verdict
from shared_models.pages.forest import Line, draw_forest
from shared_models.pages.layout import Head, draw_figures, lay_out
from shared_models.pages.numbers import count, number
from shared_models.task import Task

MAX_COLUMNS = 24
MIN_KNOWN = 10
HEADINGS = ("column", "here", "elsewhere")
BANNER = (
    "Stays at the hospital.",
    "Exact figures of its patients; nothing of this page or of the files beside it is sent.",
)


def draw_page(
    study: StudySession,
    request: EvaluateTestRequest,
    patients: PatientDataset,
    targets: Sequence[TestedTarget],
    files: Mapping[str, str],
) -> str:
    """The page.

    Args:
        study: The study, with the network that was tested.
        request: What the center sent with it.
        patients: The P test patients.
        targets: Their predictions and outcomes.
        files: What the files beside the page hold, by name.
    """
    made = {"place": _place(study)}
    made |= {f"target_{one.name}": one.section() for one in targets}
    scores = {one.name: one.scores for one in targets}
    if shown := cases(study.model(request.round), study.task, patients, scores):
        made["cases"] = shown
    made |= {"left": _left(study), "files": _files(study, request, files)}
    return lay_out(_head(study, len(patients), targets), made, draw_figures(made))


def _head(study: StudySession, patients: int, targets: Sequence[TestedTarget]) -> Head:
    says = [f"{one.full_label}: {one.judging(one.metrics)}." for one in targets]
    says = says or ["No patient of this hospital was in the test part: there are no figures."]
    parts = {name: len(rows) for name, rows in study.cohort.parts.items()}
    excluded = len({one.patient for one in study.cohort.excluded})
    cards = (
        Card(count(patients), "test patients", "whom the figures are of"),
        *(Card(count(parts[name]), f"{name} patients") for name in parts if name != "test"),
        Card(count(excluded), "excluded", "excluded.csv says why"),
    )
    role = "" if study.trains else ", at a hospital that did not train"
    return Head(
        title=f"{study.config.study} at {study.site.site}",
        kind="own result",
        line=f"Own result · {study.config.task}{role} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC · research only",
        verdict=Verdict(tuple(says), (), cards),
        failed=False,
        banner=BANNER,
        footer="Made at this hospital of its own records. It shows its patients: do not send it.",
    )


def _place(study: StudySession) -> Section:
    """How the site's patients differ from all the others', and where the others' figures are."""
    sentences = unlike_others(study)
    elements: list[Element] = [Notice("Unlike the other hospitals.", f"{one}.", "warning") for one in sentences]
    if lines := _column_lines(study):
        elements.append(
            Figure(
                name="place_among_others",
                draw=lambda: draw_forest(lines, HEADINGS, "difference of means, in SD", 0.0, "SD"),
                alt="Means of this hospital's columns beside those of all other hospitals",
                caption=f"Means of this hospital's patients less those of all others, divided by the deviation; the "
                f"{MAX_COLUMNS} largest. They are of the sums that the center sends for standardising.",
                columns=(*HEADINGS, "difference in SD"),
                values=[(line.label, *line.cells, line.value) for line in lines],
            )
        )
    elements.append(
        Notice(
            "The others' figures.",
            "The center sends a hospital the network, the settings and sums over all, and no other hospital's figures. "
            "Those are in the study's report, one row for each hospital: ask its lead, and read this page beside it.",
        )
    )
    lead = "Check units, codes and columns of what is unlike; patients may differ, too." if sentences else ""
    return Section("Place among the others", lead, elements)


def _column_lines(study: StudySession) -> list[Line]:
    """A row for each column of a table that is far from the others' mean, farthest first."""
    own, others = own_and_others(study)
    role: Role = "internal" if study.trains else "external"
    compared = own.statistics.keys() & others.statistics.keys()
    lines = [
        line
        for name in study.task.tables
        if name in compared
        for line in _of_table(study.task, name, own.statistics[name], others.statistics[name], role)
    ]
    return sorted(lines, key=lambda line: -abs(line.value or 0.0))[:MAX_COLUMNS]


def _of_table(task: Task, name: str, own: FeatureStatistics, others: FeatureStatistics, role: Role) -> list[Line]:
    columns = [column for feature in task.tables[name].features for column in feature.columns]
    deviation = np.sqrt((own.variance + others.variance) / 2)
    enough = (np.minimum(own.known, others.known) >= MIN_KNOWN) & (deviation > 0)
    apart = np.divide(own.mean - others.mean, deviation, out=np.zeros_like(deviation), where=enough)
    return [
        Line(
            columns[at],
            [f"{own.mean[at]:.4g}", f"{others.mean[at]:.4g}"],
            float(apart[at]),
            estimate=number(float(apart[at]), 2, sign=True),
            role=role,
        )
        for at in np.flatnonzero(enough)
    ]


def _left(study: StudySession) -> Section:
    """What the audit log has of this study, by kind of message, and the epsilon that it cost."""
    lines = [line for line in read(audit_of(study.site)) if line.get("study") == study.config.study]
    sent = [line for line in lines if line["event"] == "sent"]
    times, sizes = Counter(line["message"] for line in sent), Counter[str]()
    for line in sent:
        sizes[line["message"]] += line["bytes"]
    rows = [Row(kind, [count(times[kind]), count(sizes[kind])]) for kind in times]
    refused = sum(line["event"] == "refused" for line in lines)
    epsilon = spent_on(ledger_of(study.site), study.config.study, study.site.policy.limit)
    facts: list[tuple[str, str | None]] = [
        ("privacy", f"{study.config.privacy}; epsilon {epsilon:.3g} at delta {study.site.policy.limit.delta:g}")
        if study.config.privacy != "none"
        else ("privacy", "none: no noise was added to the weights"),
        ("refused requests", count(refused)),
        ("in full", f"python -m client audit --site {study.site.site}, which shows each message's hash, and its time"),
    ]
    caption = "Of the audit log, before the answer with the test's figures: that follows this page."
    return Section("What left", "", [Table(["Message", "times", "bytes"], rows, caption), Facts(facts)])


def _files(study: StudySession, request: EvaluateTestRequest, files: Mapping[str, str]) -> Section:
    facts: list[tuple[str, Any]] = [*files.items()]
    facts += [("settings", f"{study.config.task}, seed {study.config.seed}"), ("weights", f"of round {request.round}")]
    return Section("Files beside this page", "Only their owner may read them.", [Facts(facts)])
