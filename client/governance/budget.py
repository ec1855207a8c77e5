"""Question budget of an approval: a durable count of the questions that were answered or tried.

A question is an answer spent. It is on the disk before the site begins to answer it, so that a crash or a failure
counts too much and never too little. An approval of R rounds and A attempts allows:

* `prepare`, A times;
* `train` for rounds 1 to R in an order that never goes back, each up to A times and with the same weights;
* scores of validation patients with one network for each round, in the same order: a `train` scores the one before it;
* scores of test patients, or in an external validation of all, with one network and its thresholds (in a comparison
  with two), up to A times.

All questions after `prepare` must standardise tables by the same feature statistics, and where some of a network's
weights stay as they are, be asked of the same ones. All are answered of the same data (`same_data.py`). A study that
resumes has what is left. A person's new approval of a study resets it.

One file holds the questions of one approval, `state_dir/SITE/budgets/STUDY-HASH.jsonl`, chained by hashes as the ledger
is; each line carries all that counts of the lines before it. Each fold of a study of several has one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.errors import ExitCode, SiteError
from client.governance.chained_log import Log, locked, read
from client.governance.secure_aggregation.record import Record
from shared_models.agreed import settings_hash
from shared_models.folds import each_fold, study_of
from shared_models.messages import (
    EVALUATE_COMPARISON,
    EVALUATE_EXTERNAL,
    EVALUATE_TEST,
    EVALUATE_VALIDATION,
    PREPARE,
    TRAIN,
)
from shared_models.secure_aggregation.study import study_hash
from shared_models.secure_aggregation.wire import ProtocolError

if TYPE_CHECKING:
    from client.config.site import SiteConfig
    from shared_models.messages import Request
    from shared_models.study_settings import StudySettings

TRAINED = "test scores of patients who were trained on: the site trained in this study, and now only evaluates"
SPENT = "spent"
AGAIN = "approved again"


@dataclass(frozen=True)
class Asked:
    """The last question of a kind, and how often it was asked.

    Attributes:
        round: Of the study; 0 before the first.
        question: Its hash.
        times: How often.
    """

    round: int = 0
    question: str = ""
    times: int = 0


@dataclass(frozen=True)
class Spent:
    """All that counts of what was asked.

    Attributes:
        prepare: How often.
        train: The last round that was trained.
        validation: The last round whose weights were scored on validation patients.
        test: The question that was put to test patients.
        statistics: Hash of the feature statistics, and of the weights that stay as they are, of every question after
            `prepare`; empty before the first.
        data: Fingerprint of the data that all questions are of; empty before the first.
    """

    prepare: Asked = Asked()
    train: Asked = Asked()
    validation: Asked = Asked()
    test: Asked = Asked()
    statistics: str = ""
    data: str = ""

    @classmethod
    def carried(cls, line: Mapping[str, Any]) -> Spent:
        """As a line holds it; one of an earlier release has no data."""
        kinds = {name: Asked(**line[name]) for name in {*KINDS.values()}}
        return cls(**kinds, statistics=str(line["statistics"]), data=str(line.get("data", "")))

    @classmethod
    def so_far(cls, log: Log) -> Spent:
        """What a record says last; nothing where it is new."""
        last = log.newest(SPENT)
        return cls.carried(last["so_far"]) if last else cls()


KINDS = {
    PREPARE: "prepare",
    TRAIN: "train",
    EVALUATE_VALIDATION: "validation",
    EVALUATE_TEST: "test",
    EVALUATE_EXTERNAL: "test",
    EVALUATE_COMPARISON: "test",
}


def budget_of(site: SiteConfig, settings: StudySettings) -> Path:
    """The file of an approval: of these very settings of this study."""
    return site.state_dir / "budgets" / f"{settings.study}-{settings_hash(settings)[:16]}.jsonl"


def budgets_of(site: SiteConfig) -> list[Path]:
    """The files of all approvals under which something was asked."""
    return sorted((site.state_dir / "budgets").rglob("*.jsonl"))


def trained_in(site: SiteConfig, study: str) -> bool:
    """Whether this site was asked to train in a study, under any approval of it.

    Raises:
        SiteError: If a record is damaged.
    """
    files = (site.state_dir / "budgets").glob(f"{study}-{'[0-9a-f]' * 16}.jsonl")
    return any(
        Spent.carried(line["so_far"]).train != Asked()
        for file in files
        for line in read(file)
        if line["event"] == SPENT
    )


def spend(site: SiteConfig, settings: StudySettings, request: Request[Any]) -> None:
    """Counts a question before it is answered.

    Args:
        site: The site.
        settings: The study's, as they were approved.
        request: What is asked: its kind, round, question and what the study has frozen, by their hashes.

    Raises:
        SiteError: If the approval does not allow it, with what it allows; or if it cannot be written down. Then it must
            not be answered.
    """
    path = budget_of(site, settings)
    with locked(path) as log:
        before = Spent.so_far(log)
        only_tests = site.role == "evaluate" or site.site in settings.never_train
        after, refused = _after(before, settings, request, only_tests)
        if refused:
            raise _refusal(path, settings, request.KIND, refused)
        log.append(spent_line(settings, request.KIND, request.round, after))


def renew(site: SiteConfig, settings: StudySettings) -> None:
    """Resets the budget, because a person has approved the study again.

    Raises:
        SiteError: If it cannot be written down.
    """
    sums = sums_of(site)
    folds = each_fold(settings)
    for one in dict.fromkeys([settings, *folds, *map(study_of, folds)]):  # a name among its sites may be spaced anew
        _renew(site, one, sums)


def _renew(site: SiteConfig, settings: StudySettings, sums: Path) -> None:
    path = budget_of(site, settings)
    if path.exists():
        with locked(path) as log:
            log.append(spent_line(settings, AGAIN, 0, Spent()))
    if sums.exists():
        try:
            Record(sums, settings_hash(settings), study_hash(settings)).begin_again()
        except ProtocolError as error:
            raise SiteError(
                what="the study cannot begin again",
                where=str(sums),
                found=str(error),
                fix="free some room, correct the permissions, or bring the file back from a backup; then approve again",
            ) from None


def sums_of(site: SiteConfig) -> Path:
    """The record of secure aggregation, of all approvals."""
    return site.state_dir / "secure_aggregation.sqlite"


def spent_line(settings: StudySettings, what: str, round: int, so_far: Spent) -> dict[str, Any]:
    """A line of the record."""
    return {"event": SPENT, "study": settings.study, "message": what, "round": round, "so_far": asdict(so_far)}


def _after(before: Spent, settings: StudySettings, request: Request[Any], only_tests: bool) -> tuple[Spent, str]:
    """What will have been spent with a question, and why it may not be asked; one of them says nothing."""
    kind, most = request.KIND, settings.round_attempts
    if kind == PREPARE:
        asked, refused = _again(before.prepare, Asked(0, "", 1), most)
        return replace(before, prepare=asked), refused
    if kind not in KINDS:
        return before, "a message of a kind that no approval allows"
    if before.statistics not in ("", request.frozen_hash):
        return before, "the feature statistics or frozen weights are not those of the study's first question"
    if not 1 <= request.round <= settings.rounds:
        return before, f"a round that is not one of the {settings.rounds} approved"
    after, new = replace(before, statistics=request.frozen_hash), Asked(request.round, request.question, 1)
    if kind in (EVALUATE_TEST, EVALUATE_EXTERNAL, EVALUATE_COMPARISON):
        asked, refused = _again(before.test, new, most)
        refused = TRAINED if before.train != Asked() and only_tests else refused
        return replace(after, test=asked), refused
    if kind == EVALUATE_VALIDATION:
        asked, refused = _later_or_again(before.validation, new, most)
        return replace(after, validation=asked), refused
    asked, refused = _later_or_again(before.train, new, most)
    scored, not_scored = _later_or_again(before.validation, Asked(request.round - 1, request.question), most)
    return replace(after, train=asked, validation=scored), refused or not_scored


def _later_or_again(last: Asked, new: Asked, most: int) -> tuple[Asked, str]:
    if last != Asked() and new.round < last.round:
        return last, "a round before the last one that was asked for"
    return (new, "") if new.round > last.round else _again(last, new, most)


def _again(last: Asked, new: Asked, most: int) -> tuple[Asked, str]:
    """The same question once more, or the first one."""
    if last == Asked():
        return new, ""
    if (new.round, new.question) != (last.round, last.question):
        return last, "another question in place of one that was answered"
    if last.times + new.times > most:
        return last, f"the same question more than {most} times"
    return replace(last, times=last.times + new.times), ""


def _refusal(path: Path, settings: StudySettings, kind: str, found: str) -> SiteError:
    return SiteError(
        what="the center asks more than was approved",
        where=f"{path}, study {settings.study}, {kind if kind in KINDS else 'another message'}",
        found=found,
        expected=f"{settings.rounds} rounds, each up to {settings.round_attempts} times; one question to test patients",
        fix="nothing, unless the hospital wants the study run again: then approve it again",
        public=f"more than the site has approved: {found}",
        exit_code=ExitCode.STUDY,
    )
