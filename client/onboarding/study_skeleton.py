"""Settings of a first study for `init --study`: the task and the features that a site's own data allow.

It holds names of features and of categories, as every study's settings do, and no value of a patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from client.onboarding.column_texts import known_texts, numbers_of
from client.onboarding.feature_map import MappedFeature
from client.onboarding.yaml_lines import Findings
from shared_models.targets import TimeToEvent
from shared_models.task import Table, Task, Volume

SKEWED = 3.0  # skewness from which a number is taken as log(1 + x), where that at least halves it
MIN_SHARE = 0.1
LEAST = 5  # values from which a skewness is estimated


def study_text(site: Path, findings: Findings, tasks: Sequence[Task]) -> tuple[str, str]:
    """The task of a study that a simulation can run on this site alone, and the study's TOML; both empty without one.

    Args:
        site: The site's YAML to be.
        findings: What it holds.
        tasks: All tasks.
    """
    offer = _task(findings, tasks)
    if offer is None:
        return "", ""
    task, modalities = offer
    targets = [name for name in task.targets if name in findings.targets]
    name, task_name = f"{site.stem}_first", _name_of(task)
    lines = [
        f"# A first study of {site.stem}, written by `python -m client init`. It names features and categories, and no",
        "# value of a patient. Three hospitals made of this one:",
        f"#   python -m simulation --study THIS_FILE --split {site} --into 3",
        f'study = "{"".join(letter if letter.isalnum() else "_" for letter in name)}"',
        f'task = "{task_name}"',
        f'modalities = "{", ".join(modalities)}"',
    ]
    if len(targets) < len(task.targets):
        lines.append(f'targets = "{", ".join(targets)}"')
    if all("label" in findings.targets[name].entry for name in targets) and any(
        isinstance(kind, TimeToEvent) for kind in task.targets.values()
    ):
        lines.append('outcome = "binary"')
    tables = [name for name in modalities if isinstance(task.modalities[name], Table)]
    if tables:
        lines += ['features = """', *(f"{name}: {', '.join(_features(findings, name))}" for name in tables), '"""']
    return task_name, "\n".join(lines) + "\n"


def _task(findings: Findings, tasks: Sequence[Task]) -> tuple[Task, list[str]] | None:
    """The task with most of what was found, and those of its modalities; None where none learns a target of these."""
    offers = []
    for task in tasks:
        there = [name for name, kind in task.modalities.items() if _has(findings, name, kind)]
        targets = sum(name in findings.targets for name in task.targets)
        if there and targets:
            images = sum(not isinstance(task.modalities[name], Table) for name in there)
            features = sum(
                feature.name in findings.features.modalities[name]
                for name, kind in task.tables.items()
                if name in there
                for feature in kind.features
            )
            offers.append(((images, len(there), targets, features), task, there))
    if not offers:
        return None
    # of the same data, the task whose network is meant for tables alone
    _, task, there = max(offers, key=lambda offer: (offer[0], -len(offer[1].modalities)))
    return task, there


def _has(findings: Findings, name: str, kind: object) -> bool:
    """Whether a modality was found; images count where their number of phases is known to be the task's."""
    if isinstance(kind, Table):
        return name in findings.features.modalities
    if name not in findings.images or not isinstance(kind, Volume):
        return False
    phases = findings.images[name][0].get("phases", ())
    return len(phases) == kind.shape[0] - kind.tumour or (kind.shape[0] - kind.tumour == 1 and len(phases) > 1)


def _name_of(task: Task) -> str:
    """A task's name: `load_task` gives it one, its file does not."""
    from importlib import import_module

    from shared_models.task import task_names

    return next(name for name in task_names() if import_module(f"shared_models.tasks.{name}").TASK is task)


def _features(findings: Findings, modality: str) -> Iterator[str]:
    """Those of a modality that are known of enough patients that each of a few hospitals has some."""
    for name, one in findings.features.modalities[modality].items():
        texts = one.table.columns[one.guess.entry["column"]]
        if len(known_texts(one.table, one.guess.entry["column"])) < MIN_SHARE * len(texts):
            continue
        categories = one.guess.categories
        yield f"{name}{{{'|'.join(categories)}}}" if categories else f"{name}{':log' if _is_skewed(one) else ''}"


def _is_skewed(one: MappedFeature) -> bool:
    """Whether a number spreads over orders of magnitude, as a volume or the amount of a receptor."""
    entry = one.guess.entry
    read = numbers_of(known_texts(one.table, entry["column"]), one.table.decimal)
    if read is None or "codes" in entry or "since" in entry or min(read[0]) < 0 or len(set(read[0])) < LEAST:
        return False
    values = np.asarray(read[0])
    plain = _skewness(values)
    return plain > SKEWED and _skewness(np.log1p(values)) < plain / 2


def _skewness(values: np.ndarray) -> float:
    spread = float(values.std())
    return float(((values - values.mean()) ** 3).mean() / spread**3) if spread > 0 else 0.0
