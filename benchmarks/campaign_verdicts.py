"""Verdict on a study that met a fault: its state, rounds, weights, test, and both sides' records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.config.site import SiteConfig, load_site
from client.governance.audit import audit_of as site_audit_of
from client.governance.ledger import charges
from client.governance.policy_checks import ledger_of
from server.operations.superlink import Run
from server.study.audit import audit_of
from server.study.results.results_file import RESULTS, UNFINISHED, read_results
from server.study.results.schema import Results
from server.study.weights.checkpoint import LAST, load_checkpoint
from shared_models.chained_log import read
from shared_models.study_settings import StudySettings
from simulation.engines.rehearsal import Federation

WRONG = "WRONG: "
SAME = "the same"
REASON = "ServerApp failed with exception: "  # what Flower writes before a study's own sentence


@dataclass(frozen=True)
class Reference:
    """A study that met no fault.

    Attributes:
        weights: Its last ones.
        results: Its results.
    """

    weights: Mapping[str, np.ndarray[Any, Any]]
    results: Results

    @classmethod
    def of(cls, folder: Path) -> Reference:
        """From its folder."""
        return cls(load_checkpoint(folder / LAST).model, read_results(folder / RESULTS))


def verdict(running: Federation, config: StudySettings, run: Run, reference: Reference) -> str:
    """What became of a study that ended; begins with `WRONG` where it should not have.

    Weights and test are held against the reference's where every site counted in every round. With privacy they differ
    by noise that nobody can repeat, and the patients behind them are compared.
    """
    folder = running.center.results / config.study
    if wrong := next(wrong_records(running, config), None):
        return WRONG + wrong
    if run.state != "finished:completed":  # without a disk the reason is the SuperLink's to keep
        has_reason = (folder / UNFINISHED).exists() or REASON in run.details
        return "stopped, with the reason" if has_reason else f"{WRONG}failed without a reason"
    results = read_results(folder / RESULTS)
    final = {attempt.round: attempt for attempt in results.rounds}
    if sorted(final) != list(range(1, config.rounds + 1)):
        return f"{WRONG}a round is lost"
    everyone = set(running.sites)
    missed = [one for one in final.values() if set(one.counted) != everyone]
    if any(not one.problems and set(one.asked) == everyone for one in missed):
        return f"{WRONG}a site missed a round, and the results do not say so"
    if _tested(results) != _tested(reference.results) and not results.untested and not results.missing:
        return f"{WRONG}silently tested on other patients"
    if missed or results.not_enrolled or results.missing:
        return "completed, and says who missed a round"
    weights = load_checkpoint(folder / LAST).model
    exact = config.privacy == "none"
    if exact and any(not np.array_equal(weights[name], array) for name, array in reference.weights.items()):
        return f"{WRONG}other weights"
    if results.untested:
        return "completed, and says who was not tested"
    if exact and results.targets != reference.results.targets:
        return f"{WRONG}another test result"
    return SAME


def _tested(results: Results) -> dict[str, Any]:
    return {name: target.internal.get("patients") for name, target in results.targets.items()}


def wrong_records(running: Federation, config: StudySettings) -> Iterator[str]:
    """What the audit logs and privacy ledgers of both sides have that cannot be; a broken one is an error of its own.

    Each reply that the center had was noted at its site first; each round that counted was charged there, once for each
    time that it was asked at most.
    """
    lines = list(read(audit_of(running.center.results / config.study)))
    results = running.center.results / config.study / RESULTS
    attempts = read_results(results).rounds if results.exists() else []
    for name, file in running.sites.items():
        site = load_site(file)
        left = {line["sha256"] for line in read(site_audit_of(site)) if line["event"] == "sent"}
        own = [line for line in lines if line.get("site") == name]
        if any(line["event"] == "received" and line["sha256"] not in left for line in own):
            yield f"the center had a reply that {name} did not note"
        asked = Counter(line["round"] for line in own if line["event"] == "sent" and line["message"] == "train")
        charged = _charged(site, config.study)
        counted = {attempt.round for attempt in attempts if name in attempt.counted}
        if config.privacy == "none" and charged:
            yield f"{name} was charged for a study without privacy"
        if config.privacy != "none" and not counted <= set(charged):
            yield f"a round of {name} counted and was not charged"
        if any(times > asked[number] for number, times in charged.items()):
            yield f"a round of {name} was charged more often than it was asked"


def _charged(site: SiteConfig, study: str) -> Counter[int]:
    return Counter(int(line["round"]) for line in charges(ledger_of(site)) if line["study"] == study)
