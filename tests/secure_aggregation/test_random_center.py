"""A center that chooses at random, per site: rosters, keys, deals, envelopes, questions, survivors, order and restarts.

Most of what it chooses is as it should be, so that its schedules come far enough to do harm.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from algebra import violations
from federation import Federation, pick, question, with_groups
from hostile_sum import Forged, Try, same_round_of
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

KINDS = ("train", "train", "train", "evaluate.validation", "query.prepare")
SIZES = [*[(3, 1)] * 4, *[(4, 1)] * 3, (4, 2), (5, 1), (5, 2), (6, 1), (6, 2), (7, 2), (8, 3)]
# of so many choices of a site's part, one is not as it should be
DEVIATION = st.sampled_from(["", "", "", "", "", "one", "some", "each"])
QUESTIONS = [
    *(question("train", round_, attempt, model) for round_, attempt, model in [(1, 1, 1.0), (1, 2, 1.0), (2, 1, 2.0)]),
    *(question("train", round_, 1, model) for round_, model in [(1, 1.0 + 2**-52), (2, 1.0), (3, 2.0)]),
    *(question("evaluate.validation", round_, 1, model) for round_, model in [(1, 1.0), (2, 2.0), (4, 3.0)]),
    *(question("query.prepare", round_, attempt, 0.0) for round_, attempt in [(0, 1), (0, 2), (1, 1)]),
]


class HostileCenter(RuleBasedStateMachine):
    """One schedule."""

    folder: ClassVar[Path]
    world: Federation
    tried: list[Try]

    @initialize(size=st.sampled_from(SIZES), members=st.integers(1, 5), data=st.data())
    def begin(self, size: tuple[int, int], members: int, data: st.DataObject) -> None:
        self.world, self.data = with_groups(self.folder, *size, members), data
        self.tried = [self._new_sum(data)]

    def _new_sum(self, data: st.DataObject) -> Try:
        """Enrolment and deals; now and then with keys of the center's or of an older sum."""
        names = list(self.world.facts)
        left_out = data.draw(st.sampled_from(["", "", "", *self.world.honest]), "not asked")
        run = data.draw(st.sampled_from(["1", "1", "2"]), "run")
        tried = Try(self.world, pick(names, left_out)).enrol(run=run, names=names)
        kind = data.draw(st.sampled_from(KINDS), "kind of the deal")
        deviation = data.draw(DEVIATION, "keys")
        old = [older for older in getattr(self, "tried", []) if older.keys]
        stranger = Forged(self.world, tried, self.world.honest[-1]) if deviation else None

        def keys(name: str, honest: dict[str, Any]) -> list[Any]:
            if not self._deviates(deviation, name):
                return list(honest.values())
            victim = self.world.honest[-1]
            substitutes = [None, stranger and stranger.to_json, *(older.keys.get(victim) for older in old)]
            other = data.draw(st.sampled_from(range(len(substitutes))), "substitute")
            rest = [one for site, one in honest.items() if site != victim]
            return rest if substitutes[other] is None else [*rest, substitutes[other]]

        return tried.deal(kind=lambda name: kind, keys=keys)

    def _deviates(self, deviation: str, name: str) -> bool:
        place = list(self.world.facts).index(name)
        return {"": False, "one": place == 0, "some": place % 2 == 0, "each": True}[deviation]

    def _some(self, data: st.DataObject, names: list[str], deviation: str, name: str) -> list[str]:
        """Names, less some of them for a site that is told something else."""
        if not self._deviates(deviation, name) or not names:
            return names
        gone = data.draw(st.sets(st.sampled_from(names), max_size=2), f"left out for {name}")
        return [one for one in names if one not in gone]

    def _choose(self, data: st.DataObject) -> Try:
        return self.tried[data.draw(st.integers(0, len(self.tried) - 1), "sum")]

    @rule(data=st.data())
    def new_sum(self, data: st.DataObject) -> None:
        self.tried.append(self._new_sum(data))

    @rule(data=st.data(), deviation=DEVIATION, other=DEVIATION)
    def answer(self, data: st.DataObject, deviation: str, other: str) -> None:
        tried = self._choose(data)
        asked, another = (data.draw(st.sampled_from(QUESTIONS), "question") for _ in range(2))
        tried.answer(
            asked=lambda name: another if self._deviates(other, name) else asked,
            present=lambda name, there: self._some(data, there, deviation, name),
        )

    @rule(data=st.data(), everyone=st.booleans(), deviation=DEVIATION)
    def confirm(self, data: st.DataObject, everyone: bool, deviation: str) -> None:
        tried = self._choose(data)
        there = sorted(tried.deals if everyone else tried.views)
        over = self._some(data, there, "each", tried.names[0])
        tried.confirm(survivors=lambda name, _: self._some(data, over, deviation, name))

    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        self._choose(data).open()

    @rule(data=st.data())
    def whole_sum(self, data: st.DataObject) -> None:
        """As an honest center would, over all but some."""
        asked = data.draw(st.sampled_from(QUESTIONS), "question")
        gone = data.draw(st.sampled_from(["", *self.world.honest]), "lost")
        tried = Try(self.world, list(self.world.facts)).enrol().deal(kind=lambda name: asked.kind)
        self.tried.append(tried)
        tried.answer(asked=lambda name: asked).confirm(survivors=lambda name, there: pick(there, gone)).open()

    @precondition(lambda self: len(self.tried) < 8)
    @rule(data=st.data())
    def second_process(self, data: st.DataObject) -> None:
        """From here on, the sites of a sum are asked with the memory that they have now, beside what they do."""
        tried = self._choose(data)
        memories = {name: self.world.fork(name) for name in self.world.facts}
        fresh = {"views": defaultdict(list), "view_signatures": defaultdict(list)}
        fresh |= {"survivor_signatures": defaultdict(list)} if data.draw(st.booleans(), "forget signatures") else {}
        self.tried.append(replace(tried, sessions=memories, **fresh))

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.world.restart(data.draw(st.sampled_from(list(self.world.facts)), "site"))

    @rule()
    def another_round(self) -> None:
        used = {event.question.round for event in self.world.events}
        if len(used) < self.world.terms.rounds:
            asked = same_round_of(self.world)
            tried = Try(self.world, list(self.world.facts)).enrol().deal()
            self.tried.append(tried.answer(asked=asked).confirm().open())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert violations(self.world) == []


@pytest.mark.parametrize(
    ("schedules", "shard"), [(25, 0), *(pytest.param(500, shard, marks=pytest.mark.slow) for shard in range(1, 5))]
)
def test_no_schedule_of_a_center_shows_a_single_hospital(quick_disk: Path, schedules: int, shard: int) -> None:
    HostileCenter.folder = quick_disk
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=schedules, stateful_step_count=5, deadline=None, suppress_health_check=checks, database=None
    )
    run_state_machine_as_test(seed(shard)(HostileCenter) if shard else HostileCenter, settings=limits)
