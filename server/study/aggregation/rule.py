"""Aggregation rules: what a file in `rules/` has, and how a study finds and takes its step.

A rule is one file. Its name is the strategy's name in the settings, `-` for `_`; its docstring's first line is in
docs/study_settings.md. It says what it needs to see of the updates, what it remembers between rounds, and makes the
next model:

    NEEDS: Needs = "single updates"        # or "sums", which secure aggregation gives, too

    @dataclass(frozen=True)
    class State:                           # or `State = NoState`
        velocity: Arrays = field(default_factory=dict)

    def aggregate(this: Round, state: State) -> tuple[Arrays, State]:
        ...

The state's arrays lie in the checkpoint, so that a resumed study continues as if it had never stopped.

A rule with `AT_SITES = True` has a half at the sites, too: the file of the same name in `client/training/rules/`. The
rule's whole state then travels to the sites with the weights (`rule_state` of the training request), empty before round
1, and each site's half answers with one number for each weight (`rule_change` of the reply). That is checked and
clipped as the weights are, is in secure aggregation averaged over patients as they are, and comes to `aggregate` in
each `Update`. The two messages say to hospitals what it is. `scaffold` is such a rule. In secure aggregation the
weights of such a rule come as the sites' mean change of a step, times their mean number of steps: two sums in which a
site weighs differently would show the sites of another number of steps by themselves.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np

from server.study.aggregation.guard import Update
from server.study.aggregation.rules import rule_names
from server.study.enrolment import Enrolment
from shared_models.messages import Arrays
from shared_models.secure_aggregation.choice import uses_secure_aggregation
from shared_models.settings import SettingsError, nearest
from shared_models.study_settings import StudySettings

Needs = Literal["single updates", "sums"]


@dataclass(frozen=True)
class Round:
    """What a rule is given.

    Attributes:
        number: The round, from 1.
        model: The global weights that the sites started from.
        updates: What the sites sent, checked and clipped; with secure aggregation one that stands for all.
        config: The study's settings.
        enrolled: What each site counted before round 1, whether it is in this round or not.
    """

    number: int
    model: Arrays
    updates: Sequence[Update]
    config: StudySettings
    enrolled: Mapping[str, Enrolment]


@dataclass(frozen=True)
class NoState:
    """The state of a rule that remembers nothing between rounds."""


class Rule(Protocol):
    """What a file of `rules/` has.

    Attributes:
        NEEDS: Each site's own update, or only their sum.
        State: A frozen dataclass of named arrays, which can be made without arguments: before round 1 they are empty.
    """

    NEEDS: Needs
    State: type[Any]

    def aggregate(self, this: Round, state: Any) -> tuple[Arrays, Any]:
        """The next global model, and the state after it."""
        ...


def load_rule(config: StudySettings) -> Rule:
    """The rule that the study's `strategy` names.

    Raises:
        SettingsError: If there is none, or it needs single updates where the study has secure aggregation.
    """
    if config.strategy not in rule_names():
        msg = f"strategy: there is no rule {config.strategy!r}; {nearest(config.strategy, rule_names())}"
        raise SettingsError(msg)
    rule = cast(Rule, importlib.import_module(f"server.study.aggregation.rules.{config.strategy.replace('-', '_')}"))
    if uses_secure_aggregation(config) and rule.NEEDS == "single updates":
        msg = (
            f"strategy: {config.strategy} compares the sites' single updates, of which secure-aggregation shows only "
            'the sum; choose fedavg, or secure-aggregation = "off"'
        )
        raise SettingsError(msg)
    return rule


def at_sites(rule: Rule) -> bool:
    """Whether a rule has a half at the sites."""
    return bool(getattr(rule, "AT_SITES", False))


def take_step(rule: Rule, this: Round, stored: Arrays) -> tuple[Arrays, Arrays]:
    """The next global model, and the rule's state for the checkpoint, from its state in the last one."""
    fields: dict[str, Arrays] = {field.name: {} for field in dataclasses.fields(rule.State)}
    for key, array in stored.items():
        group, _, name = key.partition("/")
        fields[group][name] = array
    model, state = rule.aggregate(this, rule.State(**fields))
    stored = {f"{group}/{name}": np.asarray(array) for group in fields for name, array in getattr(state, group).items()}
    return model, stored
