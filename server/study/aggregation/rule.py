"""Aggregation rules: what a file in `rules/` has, and how a study finds and takes its step.

A rule is one file. Its name is the strategy's name in the settings, `-` for `_`; its docstring's first line stands in
docs/run_config.md. It says what it needs to see of the updates, what it remembers between rounds, and makes the next
model:

    NEEDS: Needs = "single updates"        # or "sums", which secure aggregation gives, too

    @dataclass(frozen=True)
    class State:                           # or `State = NoState`
        velocity: Arrays = field(default_factory=dict)

    def aggregate(this: Round, state: State) -> tuple[Arrays, State]:
        ...

The state's arrays lie in the checkpoint, so that a resumed study goes on as if it had never stopped.

What else travels: nothing, for the rules that are here. A rule whose sites need more than the model, such as SCAFFOLD
(Karimireddy 2020, arXiv:1910.06378), is a file here, one more field in both training messages
(`shared_models/messages.py`), and a file at the site that corrects the gradients:

* `State` has `control: Arrays`, the server's control variate, zeros at first.
* The training request carries `state.control` beside the model, in a record of its own.
* The site keeps its own variate in its state folder, adds `control - own` to each gradient, and sends the change of its
  own variate, times its training patients, among `results` as `control.NAME`. Those are sums over patients: they add up
  in secure aggregation as weights do, so `NEEDS` is `"sums"`.
* The guard puts them into the `Update`, `aggregate` adds their mean to `state.control`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np

from server.study.aggregation.guard import Update
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
    """

    number: int
    model: Arrays
    updates: Sequence[Update]
    config: StudySettings


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


def rule_names() -> list[str]:
    """The strategies there are: the files of `rules/`."""
    package = importlib.import_module("server.study.aggregation.rules")
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


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


def take_step(rule: Rule, this: Round, kept: Arrays) -> tuple[Arrays, Arrays]:
    """The next global model, and the rule's state for the checkpoint, from its state in the last one."""
    fields: dict[str, Arrays] = {field.name: {} for field in dataclasses.fields(rule.State)}
    for key, array in kept.items():
        group, _, name = key.partition("/")
        fields[group][name] = array
    model, state = rule.aggregate(this, rule.State(**fields))
    kept = {f"{group}/{name}": np.asarray(array) for group in fields for name, array in getattr(state, group).items()}
    return model, kept
