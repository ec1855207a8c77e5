"""Documents beside an exported network: model card, licence, and how its inputs are made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.report.sections import model_card
from server.report.study import Outcome, Study
from shared_models.installation import FOLDER
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Facts, Panels, Section, Table
from shared_models.pages.numbers import count, with_interval
from shared_models.report_answers import parse_answers
from shared_models.targets import Target, TimeToEvent
from shared_models.task import Modality, Volume
from shared_models.task import Table as TableKind
from shared_models.trained_model import RESEARCH_ONLY

if TYPE_CHECKING:
    from server.study.results.schema import Results
    from shared_models.trained_model import TrainedModel

CARD, LICENCE, INPUTS = "MODEL_CARD.md", "LICENSE", "inputs.json"


def write_documents(model: TrainedModel, results: Results | None, folder: Path) -> None:
    """Writes the three into a folder."""
    (folder / CARD).write_text("\n".join(card(model, results)) + "\n", encoding="utf-8")
    (folder / LICENCE).write_text(licence(), encoding="utf-8")
    (folder / INPUTS).write_text(json.dumps(inputs(model), indent=1) + "\n", encoding="utf-8")


def licence() -> str:
    """The licence of the code that makes the network; what the weights may be used for is in the card.

    Raises:
        FileNotFoundError: If the installation has none.
    """
    for name in ("licenses/LICENSE", "LICENSE"):
        if text := distribution("breast-federation").read_text(name):
            return text
    return (FOLDER / "LICENSE").read_text(encoding="utf-8")


def card(model: TrainedModel, results: Results | None) -> Iterator[str]:
    """The lines of the model card."""
    yield f"# {model.config.study}: network of {model.task.name}, round {model.round}"
    yield f"\n**{RESEARCH_ONLY[0].upper()}{RESEARCH_ONLY[1:]}.**\n"
    yield f"- SHA-256 of weights, standardisation and thresholds: `{model.sha256}`"
    yield f"- trained by federated learning at {len(model.trained_at)} hospitals, with release {model.package_version}"
    for site, day in model.withdrawn.items():
        yield f"- **{site} withdrew from the study ({day}): the network was trained on its patients, too**"
    if results is None:
        yield "\nThere are no results of the study beside its checkpoint: how well it predicts is not told here."
        return
    study = Study(results, parse_answers(str(results.config.get("report", ""))))
    yield "\n## Performance\n"
    yield "| outcome | patients | which | measure | value (95 % interval) |\n|---|---|---|---|---|"
    for outcome in study.outcomes:
        yield from _performance(outcome)
    yield from _as_text(model_card.section(study))
    yield "\nThe weights' own licence is what the authors say above; `LICENSE` is that of the code."


def _performance(outcome: Outcome) -> Iterator[str]:
    for role in ROLES:
        metrics = outcome.metrics(role)
        if metrics.get("patients"):
            name, _ = outcome.primary(metrics)
            whose = "test patients where it was trained" if role == "internal" else "hospitals that did not train it"
            cells = [outcome.full_label, count(metrics.get("patients")), whose, name.replace("_", " ")]
            yield f"| {' | '.join([*cells, with_interval(metrics, name)])} |"


def _as_text(section: Section) -> Iterator[str]:
    """A section of the report as Markdown."""
    yield f"\n## {section.title}\n"
    for element in section.elements:
        if isinstance(element, Facts):
            yield from (f"- {term}: {text or element.missing}" for term, text in element.rows)
        elif isinstance(element, Panels):
            for panel in element.panels:
                if isinstance(panel, Table):
                    continue
                title, lines = panel
                yield f"\n### {title}\n"
                yield from (f"- {line}" for line in lines)


def inputs(model: TrainedModel) -> dict[str, Any]:
    """What the network takes and gives, in order, in the study's units."""
    return {
        "use": RESEARCH_ONLY,
        "study": model.config.study,
        "task": model.task.name,
        "sha256": model.sha256,
        "modalities": {name: _modality(kind) for name, kind in model.task.modalities.items()},
        "present": "(N, modalities), 1 where a patient has the modality, in the order above; 0 and zeros where not",
        "standardised_by_the_network": "tables: columns in the study's units, NaN where missing",
        "targets": {name: _target(target, model.thresholds.get(name)) for name, target in model.task.targets.items()},
        "settings": model.config.to_flat(),
    }


def _modality(kind: Modality) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": type(kind).__name__.lower(), "shape": ["N", *kind.shape]}
    if isinstance(kind, TableKind):
        features = [{"name": f.name, "log1p": f.log, "categories": list(f.categories)} for f in kind.features]
        return facts | {"columns": list(kind.columns), "features": features}
    if isinstance(kind, Volume):
        return facts | {"spacing_mm": list(kind.spacing_mm), "field_of_view": kind.field_of_view}
    return facts


def _target(target: Target, threshold: float | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": type(target).__name__, "threshold": threshold}
    if isinstance(target, TimeToEvent):
        return facts | {"horizon_days": target.horizon_days, "interval_ends_days": list(target.edges_days)}
    return facts | {"classes": list(getattr(target, "classes", ()))}
