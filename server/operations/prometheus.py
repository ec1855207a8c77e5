"""Status of a center for Prometheus: a text file for the textfile collector of its node exporter.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from server.operations.center import Center
from server.study.status import STATUS, StudyProgress, read_status
from shared_models.atomic_files import write_atomically

READABLE = 0o644  # the exporter is another user
STATES = ("pending", "starting", "running", "completed", "failed", "stopped")
HELP = {
    "superlink_up": "Whether the center's SuperLink answered (1) or not (0).",
    "status_time_seconds": "When this file was written, in seconds since 1970.",
    "certificate_end_seconds": "When the server certificate ends, in seconds since 1970.",
    "sites_online": "Registered sites that are connected.",
    "site_online": "Whether a registered site is connected.",
    "study_state": "State of the study started last: 1 for the one it is in.",
    "study_rounds": "Rounds that the study is to train, of a fold where it has several.",
    "study_round": "The round that the study is in, or was last.",
    "study_round_duration_seconds": "How long the newest attempt of a round took that has ended.",
    "study_updated_seconds": "When the study last changed its status, in seconds since 1970.",
    "site_epsilon": "What the study has charged to a site's privacy ledger, at the delta of the label.",
}


class Sample(NamedTuple):
    """A value of a metric; `labels` tell it from the metric's others."""

    metric: str
    value: float
    labels: Mapping[str, str] = {}


def write_metrics(center: Center, status: Mapping[str, Any] | None, file: Path) -> None:
    """Writes a center's metrics, whole or not at all.

    Args:
        center: The center.
        status: What `server.operations.center_status.read_status` gave; None where the SuperLink did not answer.
        file: The file, readable by everybody on this machine; one that is there is replaced.

    Raises:
        CenterError: If the study's `status.json` cannot be read; the file is then as it was.
        OSError: If the file cannot be written.
    """
    samples = [Sample("superlink_up", status is not None), Sample("status_time_seconds", datetime.now(UTC).timestamp())]
    if status is not None:
        samples += _of_center(status)
        samples += _of_study(status, center.results / status["study"]["name"] / STATUS)
    write_atomically(file, exposition(samples), READABLE)


def exposition(samples: list[Sample]) -> str:
    """Samples in Prometheus's text format, in the order of `HELP`; a metric without a sample is left out."""
    lines = []
    for metric, meaning in HELP.items():
        of_metric = [sample for sample in samples if sample.metric == metric]
        name = f"federation_{metric}"
        if of_metric:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(sample.labels)} {float(sample.value)!r}" for sample in of_metric]
    return "\n".join(lines) + "\n"


def _of_center(status: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample("certificate_end_seconds", _seconds(status["certificate"]["ends"]))
    online = {site["site"]: site["state"] == "online" for site in status["sites"]}
    yield Sample("sites_online", sum(online.values()))
    yield from (Sample("site_online", value, {"site": name}) for name, value in online.items())


def _of_study(status: Mapping[str, Any], file: Path) -> Iterator[Sample]:
    """What is known of the study started last; nothing where none was."""
    study = status["study"]["name"]
    of_study = {"study": study}
    # Of the run, not of status.json: a study whose process was killed has written no end.
    states = [run["state"].rpartition(":")[2] for run in status["runs"] if run["study"] == study]
    if study and states:
        yield from (Sample("study_state", state == states[0], {**of_study, "state": state}) for state in STATES)
    if study and file.exists():
        yield from _of_progress(read_status(file), of_study)


def _of_progress(progress: StudyProgress, of_study: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample("study_rounds", progress.rounds, of_study)
    yield Sample("study_round", progress.round, of_study)
    yield Sample("study_updated_seconds", _seconds(progress.updated), of_study)
    if progress.done:
        yield Sample("study_round_duration_seconds", progress.done[-1].seconds, of_study)
    for name, site in progress.sites.items():
        if site.epsilon is not None:
            yield Sample("site_epsilon", site.epsilon, {**of_study, "site": name, "delta": f"{site.delta or 0:g}"})


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _labels(labels: Mapping[str, str]) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""
