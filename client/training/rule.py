"""Half of an aggregation rule at a site: what a file in `rules/` has, and how a round uses it.

Most rules have none: their sites train as the settings say. One that has changes the gradients of each step, and sends
one number for each weight beside the update:

    def check(received: Arrays, network: nn.Module) -> None: ...    # before patients are read

    def begin(received: Arrays, network: nn.Module, own: OwnState) -> Half: ...

`received` is the state of the rule's half at the center (`server/study/aggregation/rule.py`), empty before round 1.
What the half at a site remembers between rounds lies in `own.folder`. A round may be asked again, and what a site
answered may not have counted: so a round's state is in a file of its own, and the center's state says which count.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from torch import nn

from shared_models.messages import Arrays
from shared_models.study_settings import StudySettings


@dataclass(frozen=True)
class OwnState:
    """Where a half keeps what it remembers.

    Attributes:
        site: The site's name, as the center's state has it.
        folder: Of the study, for its owner alone; may be missing.
        local: Names of weights that the study leaves to the site, and that are of no other.
        summed: With secure aggregation, by the site's own record, rounds of which one is the last whose sum it is in:
            by modality of an encoder, `""` for what all sites share, 0 for none. None without.
    """

    site: str
    folder: Path
    local: Sequence[str] = ()
    summed: Mapping[str, Collection[int]] | None = None


class Half(Protocol):
    """A round of it.

    Attributes:
        steps: How many were taken.
    """

    steps: int

    def correct(self, weights: Sequence[nn.Parameter]) -> None:
        """Changes the gradients of a step; private training has noised them, and has all weights in one vector."""
        ...

    def finish(self, server_round: int) -> Arrays:
        """Stores its state after a round, and returns what is sent: a number for each weight that is a fraction."""
        ...


class SiteRule(Protocol):
    """What a file of `rules/` has."""

    def check(self, received: Arrays, network: nn.Module) -> None:
        """Refuses a state that is not this rule's, or not of this network.

        Raises:
            ValueError: With the reason.
        """
        ...

    def begin(self, received: Arrays, network: nn.Module, own: OwnState) -> Half:
        """A round, from the state as it was sent.

        Raises:
            SiteError: If the site has lost its own.
        """
        ...


def site_rule(config: StudySettings) -> SiteRule | None:
    """The half of the study's rule at the sites; None where it has none."""
    name = f"client.training.rules.{config.strategy.replace('-', '_')}"
    if "." in config.strategy or importlib.util.find_spec(name) is None:
        return None
    return cast(SiteRule, importlib.import_module(name))


def check_rule_state(received: Arrays, network: nn.Module, config: StudySettings) -> None:
    """Refuses a rule's state that the study's rule cannot use.

    Raises:
        ValueError: With the reason.
    """
    rule = site_rule(config)
    if rule is not None:
        rule.check(received, network)
    elif received:
        msg = f"it holds the state of a rule, and {config.strategy} has no half at the sites"
        raise ValueError(msg)
