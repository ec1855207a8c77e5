"""Section on the flow of patients: left out, excluded, in each split, and by outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from server.report.study import Outcome, Study
from server.report.tables import by_site
from server.study.endpoints import differing
from server.study.results.patients_section import Counted, CountedOutcomes, PatientFlow
from shared_models.pages.drawing import BLUE, HOLLOW, INK, ORANGE, SOFT, WIDTH_INCHES
from shared_models.pages.elements import Facts, Figure, Notice, Row, Section, Table, not_recorded
from shared_models.pages.numbers import count, duration, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PARTS = ("train", "validation", "test")
REASONS = {
    "no_known_outcome": "no known outcome",
    "no_modality": "no modality of the study",
}
FEW = "few"
Flows = Sequence[PatientFlow | None]


def section(study: Study) -> Section:
    """How many patients there are, who was left out and why, and their outcomes."""
    sites = study.results.sites
    if not sites:
        return not_recorded("Flow of patients", "no site had answered when the study ended.")
    boxes = _boxes(study)
    inside = sum(boxes[name] for name in (*PARTS, "external"))
    lead = (
        f"{count(inside)} patients of {in_words(len(sites), 'hospital')} are in the study, "
        f"{count(boxes['test'] + boxes['external'])} of them for testing."
    )
    if out := _left_out(study):
        lead += f" Left out: {'; '.join(f'{number} {why}' for why, number in out.items())}."
    differ = [
        Notice("Other endpoints:", f"{sentence}.".replace("`", ""), "warning")
        for sentence in differing({s.site: s.endpoints for s in sites})
    ]
    differ += [
        Notice(
            f"{site.site} is unlike the other hospitals",
            f"{difference}. Units, codes or columns may differ.",
            "warning",
        )
        for site in sites
        for difference in site.differences
    ]
    return Section("Flow of patients", lead, [*differ, *_endpoints(study), _figure(study, boxes), *_tables(study)])


def _endpoints(study: Study) -> Iterator[Facts]:
    """How each site defines the outcomes, where one does."""
    rows = [
        (f"{target.replace('_', ' ')} at {site.site}", definition or None)
        for target in study.results.targets
        for site in study.results.sites
        if (definition := site.endpoints.get(target, ""))
        or any(one.endpoints.get(target) for one in study.results.sites)
    ]
    if rows:
        yield Facts(rows, missing="not defined by the hospital")


def _boxes(study: Study) -> dict[str, int]:
    boxes = {part: sum(site.patients.get(part, 0) for site in study.training) for part in PARTS}
    boxes["external"] = sum(sum(site.patients.values()) for site in study.external)
    return boxes


def _left_out(study: Study) -> dict[str, str]:
    """Why patients are in no split, and how many; of counts that a site withholds, that there are more."""
    flows = [flow for flow in study.results.flow.values() if flow is not None]
    counts = {}
    for why, reason in REASONS.items():
        counted = [flow.left_out[why] for flow in flows if why in flow.left_out]
        if any(one.patients for one in counted):
            counts[reason] = _sum(counted, sum(flow.sites for flow in flows))
    excluded = sum(site.excluded for site in study.results.sites)
    return {**counts, **({"whose files cannot be used": count(excluded)} if excluded else {})}


def _sum(counted: Sequence[Counted], sites: int) -> str:
    known = count(sum(one.patients or 0 for one in counted))
    return known if sum(one.sites for one in counted) == sites else f"{known} or more"


def _figure(study: Study, boxes: dict[str, int]) -> Figure:
    out = _left_out(study)
    return Figure(
        name="flow",
        draw=lambda: _draw(study, boxes, out),
        alt=f"Flow of patients: {count(sum(boxes.values()))} in the study",
        caption="Flow of patients, all hospitals. Who has no known outcome of one target may still have another.",
        columns=("box", "patients"),
        values=[*out.items(), *boxes.items()],
    )


def _draw(study: Study, boxes: dict[str, int], out: dict[str, str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(WIDTH_INCHES, 2.9))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    trained, tested = (in_words(len(sites), "hospital") for sites in (study.training, study.external))
    _box(axes, 22, 86, 34, ["Patients read", in_words(len(study.results.sites), "hospital")])
    reasons = [f"{number} {why}" for why, number in out.items()] or ["no patient, or none that is told"]
    _box(axes, 62, 66, 37, ["Left out", *reasons])
    inside = [f"{count(sum(boxes.values()))} in the study"]
    _box(axes, 22, 46, 34, inside, BLUE, "#eef4fa")
    _arrow(axes, 39, 76, 39, 54)
    _arrow(axes, 39, 66, 61.6, 66)
    lower = [
        (f"{count(boxes['train'])} train", trained, HOLLOW, "white"),
        (f"{count(boxes['validation'])} validation", "round and threshold", HOLLOW, "white"),
        (f"{count(boxes['test'])} internal test", trained, BLUE, "#eef4fa"),
        (f"{count(boxes['external'])} external test", tested, ORANGE, "#fdf3ec"),
    ]
    lower = lower if study.external else lower[:3]
    step, width = 100 / len(lower), 100 / len(lower) - 3
    middles = [step * (index + 0.5) for index in range(len(lower))]
    axes.plot([39, 39], [38, 31], color=HOLLOW, linewidth=1)
    axes.plot([min(39, middles[0]), max(39, middles[-1])], [31, 31], color=HOLLOW, linewidth=1)
    for middle, (head, text, edge, face) in zip(middles, lower, strict=True):
        _arrow(axes, middle, 31, middle, 22.5)
        _box(axes, middle - width / 2, 12, width, [head, text], edge, face)
    return drawing


def _box(
    axes: Axes,
    left: float,
    middle: float,
    width: float,
    lines: list[str],
    edge: str = HOLLOW,
    face: str = "white",
) -> None:
    """A box with a bold first line; units are hundredths of the figure."""
    from matplotlib.patches import FancyBboxPatch

    step = 8.2
    height = step * len(lines) + 4
    style = "round,pad=0,rounding_size=0.9"
    patch = FancyBboxPatch((left, middle - height / 2), width, height, boxstyle=style, edgecolor=edge, facecolor=face)
    patch.set_mutation_aspect(3)
    axes.add_patch(patch)
    for index, line in enumerate(lines):
        weight, colour = ("bold", INK) if index == 0 else ("normal", SOFT)
        y = middle + step * ((len(lines) - 1) / 2 - index)
        axes.text(left + 1.2, y, line, va="center_baseline", fontweight=weight, color=colour)


def _arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    arrow = {"arrowstyle": "-|>", "color": HOLLOW, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)


def _tables(study: Study) -> Iterator[Table]:
    sites = study.results.sites
    names, flows = [site.site for site in sites], [site.flow for site in sites]
    rows = [Row("In the study", [count(sum(site.patients.values())) for site in sites], "chosen")]
    rows += [Row(part, [count(site.patients.get(part)) for site in sites], "sub") for part in PARTS]
    rows.append(Row("Excluded: files that cannot be used", [count(site.excluded) for site in sites]))
    if any(flows):
        rows += [Row(f"Left out: {reason}", [_count(flow, why) for flow in flows]) for why, reason in REASONS.items()]
        for outcome in study.outcomes:
            rows += _outcome_rows(outcome, flows)
    caption = (
        "Patients by hospital, as each counted them. “few”: a number that the site does not tell, because it or one "
        "that would follow from it is of few patients."
    )
    yield by_site("Patients", names, rows, caption)
    roles = {role: flow for role, flow in study.results.flow.items() if flow is not None}
    if roles:
        rows = [row for outcome in study.outcomes for row in _role_rows(outcome, list(roles.values()))]
        columns = [f"{role}, {part}" for role in roles for part in PARTS]
        yield Table(["Outcomes of all sites", *columns], rows, "Sums over those sites that tell them.")


def _count(flow: PatientFlow | None, why: str) -> str:
    counted = flow.left_out.get(why) if flow else None
    return FEW if counted is None or counted.patients is None else count(counted.patients)


def outcome_label(outcome: Outcome, name: str) -> str:
    """What is known of a patient's outcome, in words."""
    at = f" {duration(outcome.results.horizon_days)}" if outcome.results.horizon_days else ""
    words = {"event": f"event within{at}", "free": f"free of it at{at}", "censored": f"censored before{at}"}
    return words.get(name, {"with": "with it", "without": "without it"}.get(name, name))


def _outcome_rows(outcome: Outcome, flows: Flows) -> list[Row]:
    tests = [flow.outcomes.get(outcome.name, {}).get("test") if flow else None for flow in flows]
    names = list(dict.fromkeys(name for one in tests if one and one.patients for name in one.patients))
    rows = [Row(outcome_label(outcome, name), [_outcome(one, name) for one in tests], "sub") for name in names]
    return [Row(f"Test patients, {outcome.label}", [""] * len(flows), "head"), *rows] if rows else []


def _outcome(counted: CountedOutcomes | None, name: str) -> str:
    return FEW if counted is None or counted.patients is None else count(counted.patients.get(name))


def _role_rows(outcome: Outcome, flows: Sequence[PatientFlow]) -> list[Row]:
    counted = [flow.outcomes.get(outcome.name, {}).get(part) for flow in flows for part in PARTS]
    names = list(dict.fromkeys(name for one in counted if one and one.patients for name in one.patients))
    rows = [Row(outcome_label(outcome, name), [_outcome(one, name) for one in counted], "sub") for name in names]
    return [Row(outcome.full_label, kind="group"), *rows] if rows else []
