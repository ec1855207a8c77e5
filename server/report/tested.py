"""Patients whose curves the report draws: of all sites of a role together, and of single sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from server.report.study import Outcome, Study
from shared_models.pages.curves import Curve, Tested
from shared_models.pages.drawing import ROLES
from shared_models.pages.elements import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

MAX_SITES = 5
"""Sites whose curves are drawn side by side; the CSV has all."""


def tested_by_role(outcome: Outcome, keys: Iterable[str]) -> list[Tested]:
    """The roles whose summed patients have that curve.

    Args:
        outcome: Of which target.
        keys: Names of the curve's x and y among the metrics.
    """
    x, y = keys
    return [
        Tested(role, role, outcome.metrics(role), outcome.share(outcome.metrics(role)))
        for role in ROLES
        if Curve.of(outcome.metrics(role), x, y)
    ]


def sites_with_curves(study: Study, target: str) -> list[Tested]:
    """The sites that tell enough of that target, those of most test patients first."""
    telling = [site for site in study.results.sites if target in site.curves]
    telling.sort(key=lambda site: -site.patients.get("test", 0))
    return [
        Tested(site.site, "internal" if site.role == "train" else "external", {**site.curves[target]})
        for site in telling
    ]


def figures_of_sites(
    study: Study,
    outcome: Outcome,
    name: str,
    title: str,
    kinds: Mapping[str, tuple[str, str]],
    draw: Callable[[Sequence[Tested]], Drawing],
) -> Iterator[Figure]:
    """The figure of curves of single sites, if any tells enough of its own patients.

    Args:
        study: Whose sites.
        outcome: Of which target.
        name: Of the figure, without the target's.
        title: What curves they are.
        kinds: Names of each curve's x and y among the metrics.
        draw: Makes the drawing of some sites.
    """
    if sites := sites_with_curves(study, outcome.name):
        yield Figure(
            name=f"{name}_{outcome.name}_by_site",
            draw=lambda: draw(sites[:MAX_SITES]),
            alt=f"{title} of {outcome.full_label} at single sites",
            caption=f"The same at single sites, from the cells that each told. {_whose(len(sites))}",
            columns=("site", "role", "curve", "x", "y", "low", "high"),
            values=[
                (one.title, one.role, kind, *row)
                for one in sites
                for kind, of in kinds.items()
                for row in Curve.of(one.metrics, *of).rows
            ],
        )


def _whose(telling: int) -> str:
    """A sentence on the sites that have curves of their own, and why the others have none."""
    if telling > MAX_SITES:
        who = f"The {MAX_SITES} sites with most test patients are drawn, of {telling}; the CSV has all."
    else:
        who = "Sites whose own counts tell enough, those of most test patients first."
    return f"{who} A site is left out where its band of the ROC curve would be wider than 0.4 on average."
