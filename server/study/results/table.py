"""Table of a study's results in a terminal, a row a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from server.study.endpoints import differing
from server.study.results.fold_table import cell, fold_table, of_all_folds
from server.study.results.importance_section import ImportanceResults, shuffled_modalities
from server.study.results.own_networks_table import own_networks_table, without_own_network
from server.study.results.schema import Results
from server.study.results.sites_section import SiteResults
from server.study.results.targets_section import BetweenSites, TargetResults
from shared_models.metrics.names import NAMES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


LOOSE, COARSE = 0.01, 0.03
"""Of a certificate: what is said, and what is not a matter of bins alone."""


def print_table(results: Results, console: Console | None = None) -> None:
    """Prints a table for each target with a row a site, one of all pairs within sites, and one of all sites pooled."""
    from rich.console import Console

    console = console or Console()
    if results.untested:
        console.print(_partial(results), style="bold yellow", highlight=False, markup=False)
    for name, target in results.targets.items():
        _print_target(results, name, target, console)
    if results.folds:
        console.print(of_all_folds(results.folds), highlight=False, markup=False)
    else:
        chosen = f"round {results.best_round} of {results.rounds_completed}"
        console.print(f"Weights of {chosen}, chosen by: {results.selected_by}.")
    if results.unscored:
        console.print(results.unscored, style="bold yellow", highlight=False, markup=False)
    for sentence in (*_unlike_others(results), *_scored_before(results), *without_own_network(results)):
        console.print(sentence, style="yellow", highlight=False, markup=False)
    for sentence in filter(None, (results.start.said, results.aggregation.said, results.privacy.said)):
        console.print(sentence, highlight=False, markup=False)
    for sentence in _not_as_enrolled(results):
        console.print(sentence, style="yellow", markup=False)


def _print_target(results: Results, name: str, target: TargetResults, console: Console) -> None:
    """A target's tables, and what a reader of them must know."""
    console.print(_table(results, name, target))
    if results.folds:
        console.print(fold_table(results.folds, name))
    if own := own_networks_table(results, name):
        kind = results.config["personal"]
        console.print(
            f"Each site's own network ({kind}), beside the study's on the same test patients:", highlight=False
        )
        console.print(own)
    if target.threshold is not None:
        console.print(f"Threshold {target.threshold:.3f}, from: {target.threshold_source}.")
    for metric, spread in target.between_sites.items():
        console.print(_between(metric, spread), highlight=False, markup=False)
    for role, rows in target.importance.items():
        for used in _used(role, shuffled_modalities(rows)):
            console.print(used, highlight=False, markup=False)
    for line in (*_loose(target), *_knows_the_hospital(target, len(results.sites)), *_unused(target)):
        console.print(line, style="yellow", highlight=False, markup=False)
    if target.internal.get("free_at_horizon") == 0 and target.internal.get("patients"):
        console.print(_none_at_horizon(target), style="yellow", markup=False)
    if any(value is None for site in results.sites for value in site.targets.get(name, {}).values()):
        console.print("-  not defined, or of fewer patients of a class than the site lets out (`minimum_count`).")


def _unlike_others(results: Results) -> Iterator[str]:
    """Outcomes that sites define differently, and sites whose tables or outcomes are unlike the others'."""
    yield from (f"{sentence}." for sentence in differing({site.site: site.endpoints for site in results.sites}))
    for site in results.sites:
        yield from (f"{site.site} is unlike the other sites: {difference}." for difference in site.differences)


def _not_as_enrolled(results: Results) -> Iterator[str]:
    """Patients and sites that are not in the figures, or not from the first round on, and why."""
    for site in results.sites:
        if site.excluded:
            yield f"{site.site}: {site.excluded} patients with files that cannot be used were excluded there."
        if site.since_round > 1:
            yield _late(site)
    for name, problem in {**results.not_enrolled, **results.problems, **results.missing}.items():
        absent = "missing, " if name in results.missing else ""
        yield f"{name}: {absent}{problem}"


def _partial(results: Results) -> str:
    """That not every site was tested, before any figure of those that were."""
    tested, sites = len(results.sites) - len(results.untested), len(results.sites)
    tested_sites = f"{tested} of {sites} sites gave test scores{' in every fold' if results.folds else ''}"
    untested = ", ".join(results.untested)
    return f"PARTIAL TEST: {tested_sites}; the figures lack test patients of {untested}, for reasons below."


def _late(site: SiteResults) -> str:
    """That a site enrolled late, and what that means."""
    return (
        f"{site.site} enrolled late, and took part from round {site.since_round} on: its patients are not in the "
        "feature statistics, which were frozen before round 1."
    )


def _none_at_horizon(target: TargetResults) -> str:
    """Why there is no AUC at the horizon, in a sentence."""
    return (
        f"No patient was followed to the horizon of {target.horizon_days:g} days without the event, so there is no AUC "
        "there: follow-up may end just before it. A study with a smaller `horizon-days` has one."
    )


def _scored_before(results: Results) -> Iterator[str]:
    """Which sites' test patients have been scored by more networks than this study's."""
    for site in results.sites:
        if site.scorings > 1:
            networks = f"{site.scorings} networks have been scored on these test patients"
            yield f"{site.site}: {networks}, of this study or others: a choice among them by these figures flatters."


MEASURES = {"auc": "AUC", "c_index": "C-index", "auc_by_class": "AUC of the classes"}


def _used(role: str, rows: Sequence[ImportanceResults]) -> Iterator[str]:
    """What is lost with each modality shuffled, in a sentence."""
    losses = []
    for row in rows:
        if row.drop is not None:
            ends = "" if row.drop_low is None or row.drop_high is None else f" ({row.drop_low:.2f}-{row.drop_high:.2f})"
            losses.append(f"{row.modality} {abs(row.drop) if abs(row.drop) < 0.005 else row.drop:.2f}{ends}")
    if losses:
        measure = MEASURES[rows[0].measure]
        yield f"The {measure} within {role} sites loses, shuffled between patients: {', '.join(losses)}."


def _unused(target: TargetResults) -> Iterator[str]:
    """Modalities whose use is not shown."""
    for role, rows in target.importance.items():
        if unused := [row.modality for row in shuffled_modalities(rows) if row.drop is not None and not row.used]:
            yield f"No use of {', '.join(unused)} is shown in {role} test patients."


def _loose(target: TargetResults) -> Iterator[str]:
    """What the bins leave open of pooled values, where that is more than `LOOSE`."""
    for role, metrics in {"internal": target.internal, "external": target.external}.items():
        for metric in ("auc", "c_index"):
            bound = metrics.get(f"{metric}_bound")
            if isinstance(bound, float) and bound > LOOSE:
                yield (
                    f"The pooled {NAMES[metric]} of {role} patients is known to within {bound:.2f} only: scores share "
                    f"bins{'' if bound < COARSE else ', or were merged into cells before they left the sites'}."
                )


def _knows_the_hospital(target: TargetResults, sites: int) -> Iterator[str]:
    """Where pooled pairs flatter: patients of two hospitals are ordered by knowing the hospital alone."""
    for role, metrics in {"internal": target.internal, "external": target.external}.items():
        for metric in ("auc", "c_index"):
            pooled, inside = metrics.get(metric), metrics.get(f"{metric}_within_sites")
            high = metrics.get(f"{metric}_within_sites_high")
            if not (isinstance(pooled, float) and isinstance(inside, float) and isinstance(high, float)):
                continue
            bound = metrics.get(f"{metric}_bound")
            if sites > 1 and pooled - (bound if isinstance(bound, float) else 0.0) > high:
                yield (
                    f"The pooled {NAMES[metric]} of {role} patients, {pooled:.2f}, also rewards knowing the hospital: "
                    f"among patients of the same hospital it is {inside:.2f}."
                )


def _between(metric: str, spread: BetweenSites) -> str:
    """How a metric differs between sites, in a sentence."""
    mean = f"{spread.mean:.2f} ({spread.mean_low:.2f}-{spread.mean_high:.2f})"
    new = "fewer than five sites say nothing of a new hospital"
    if spread.prediction_low is not None and spread.prediction_high is not None:
        new = f"expected of a new hospital {spread.prediction_low:.2f}-{spread.prediction_high:.2f}"
    over = f"{NAMES[metric]} over {spread.sites} sites, {spread.trained} of which trained"
    return f"{over}: {mean}, I2 {spread.i2:.0%}; {new}."


# What is shown of each kind of target, by the metric that only it has: heading, metric and digits.
_INTERVAL = "(95 % interval)"
_SHOWN: Mapping[str, Sequence[tuple[str, str, int]]] = {
    "c_index": (
        ("patients", "patients", 0),
        ("events", "events", 0),
        (f"C-index {_INTERVAL}", "c_index", 2),
        (f"AUC at horizon {_INTERVAL}", "auc", 2),
    ),
    "auc": (
        ("patients", "patients", 0),
        ("cases", "positives", 0),
        (f"AUC {_INTERVAL}", "auc", 2),
        ("F1", "f1", 2),
        ("sens.", "sensitivity", 2),
        ("spec.", "specificity", 2),
    ),
    "macro_f1": (("patients", "patients", 0), ("accuracy", "accuracy", 2), ("macro F1", "macro_f1", 2)),
    "mae": (("patients", "patients", 0), ("MAE", "mae", 2), ("RMSE", "rmse", 2), ("R2", "r2", 2)),
}


def _table(results: Results, name: str, target: TargetResults) -> Table:
    """A row a site, 80 columns wide at most: a long name breaks, a number never."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{results.study}: {name}, test patients ({results.strategy})"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = next(columns for metric, columns in _SHOWN.items() if metric in target.pooled)
    outside = any(site.role != "train" for site in results.sites)
    table.add_column("site", overflow="fold")
    if outside:
        table.add_column("role", no_wrap=True)
    for heading, _, _ in shown:
        # an interval's heading may take two lines, its numbers may not
        table.add_column(heading.replace(" (", "\n("), justify="right", no_wrap=True)
    for site in results.sites:
        role = ["trains" if site.role == "train" else "tests"] if outside else []
        numbers = [cell(site.targets.get(name, {}), metric, digits) for _, metric, digits in shown]
        table.add_row(Text(site.site), *role, *numbers)
    for absent in sorted(results.missing.keys() - {site.site for site in results.sites}):
        table.add_row(Text(absent), *(["missing"] if outside else []), *["missing", *[""] * (len(shown) - 1)][outside:])
    table.add_section()
    within = {metric: f"{metric}_within_sites" for _, metric, _ in shown}
    if len(results.sites) > 1 and any(name in target.internal for name in within.values()):
        in_sites = [(within[metric], digits) for _, metric, digits in shown]
        cells = (cell(target.internal, name, digits) if name in target.internal else "" for name, digits in in_sites)
        table.add_row("within sites", *([""] if outside else []), *cells)
    for row, metrics in {"internal": target.internal, "external": target.external}.items() if outside else ():
        if not metrics.get("patients"):
            continue  # with secure aggregation one or two sites are in no sum; each has its own line
        table.add_row(row, "", *(cell(metrics, metric, digits) for _, metric, digits in shown))
    if not outside:
        table.add_row("pooled", *(cell(target.pooled, metric, digits) for _, metric, digits in shown))
    return table
