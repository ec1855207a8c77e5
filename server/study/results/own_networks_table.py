"""Table of the sites' own networks beside the study's, of a study with `personal`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from server.study.results.fold_table import cell
from server.study.results.schema import Results
from server.study.results.sites_section import SiteResults
from shared_models.metrics.names import NAMES

if TYPE_CHECKING:
    from rich.table import Table

_COMPARED = ("c_index", "auc", "macro_f1", "mae")
"""What is compared, by the first of these that a target has."""


def own_networks_table(results: Results, target: str) -> Table | None:
    """A row a site that has a network of its own: the study's and its own on the same test patients."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    sites = [site for site in results.sites if target in site.personal]
    if not sites:
        return None
    metric = next(name for name in _COMPARED if name in sites[0].personal[target])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("site", overflow="fold")
    for heading in ("patients", f"study's\n{NAMES[metric]}", f"its own\n{NAMES[metric]}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for site in sites:
        common, own = site.targets.get(target, {}), site.personal[target]
        table.add_row(Text(site.site), cell(common, "patients", 0), cell(common, metric, 2), cell(own, metric, 2))
    return table


def without_own_network(results: Results) -> Iterator[str]:
    """Which sites that trained have no network of their own, in a sentence each."""
    if results.config.get("personal", "off") == "off":
        return
    for site in results.sites:
        if site.role == "train" and site.targets and (lacking := _lacking(site)):
            yield (
                f"{site.site}: no network of its own for {', '.join(lacking)}: fewer of its training patients than its "
                "`minimum_count` have one of the outcomes; the study's network is used there."
            )


def _lacking(site: SiteResults) -> list[str]:
    return [name for name in site.targets if name not in site.personal]
