"""Columns that a site maps under other names than a study's, and which of the study's features each may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from client.onboarding.column_guesses import likeness
from client.onboarding.vocabulary import meanings
from client.readers.table import TableReader

if TYPE_CHECKING:
    from client.config.site import SiteConfig
    from shared_models.task import Task

SHOWN = 6


def advice(site: SiteConfig, task: Task, modality: str, unmapped: Sequence[str]) -> str:
    """What to do about a study's features that the site does not map, with columns that the site has for them.

    Args:
        site: The site's settings.
        task: The study's.
        modality: One of its tables.
        unmapped: Features of that table.
    """
    offers = list(_offers(site, task, modality, unmapped))
    more = f"; and {len(offers) - SHOWN} more" if len(offers) > SHOWN else ""
    here = f" The YAML has {'; '.join(offers[:SHOWN])}{more}: give each the study's name there." if offers else ""
    return f"if the hospital records them, name their columns in modalities.{modality}.{here}".removesuffix(".")


def _offers(site: SiteConfig, task: Task, modality: str, unmapped: Sequence[str]) -> Iterator[str]:
    kinds = {feature.name: feature.categories for feature in task.tables[modality].features}
    asked_for = {(name, feature.name) for name, kind in task.tables.items() for feature in kind.features}
    mapped = [
        (where, name, reader.features[name].column)
        for where, reader in site.modalities.items()
        if isinstance(reader, TableReader)
        for name in reader.features
        if (where, name) not in asked_for
    ]
    for wanted in unmapped:
        for where, name, column in mapped:
            if (
                name == wanted
                or max(likeness(wanted, name), likeness(wanted, column)) > 1
                or _mean_the_same(wanted, name)
            ):
                codes = f", with `codes` to {', '.join(kinds[wanted])}" if kinds[wanted] else ""
                yield f"{name} in modalities.{where}, which may be {wanted}{codes}"


def _mean_the_same(one: str, other: str) -> bool:
    return bool(meanings(one) & meanings(other))
