"""Approval summary of a study at this site: data read, data sent, duration, epsilon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.cohort.load import SPLIT_UNUSED
from client.cohort.rows import needed_columns, open_rows
from client.cohort.subgroup_columns import reader_of
from client.governance.policy_checks import refusals
from client.private_files import write_private
from client.readers.extracted import ExtractedReader
from client.readers.table import TableReader
from client.verbs.approval_gaps import gaps
from client.verbs.approval_privacy import privacy_spent, protection_of_sums, trains_here
from shared_models.agreed import settings_hash
from shared_models.comparison import settings_compared
from shared_models.folds import folds_of
from shared_models.messages import (
    EvaluateComparisonReply,
    EvaluateExternalReply,
    EvaluateValidationReply,
    PrepareReply,
    Reply,
    TrainReply,
)
from shared_models.messages.payload import fields_of
from shared_models.messages.tables import BINS, ERRORS, IN_SUMS, replies
from shared_models.secure_aggregation.choice import choose_secure_aggregation, named_training_sites
from shared_models.secure_aggregation.groups import RULE_CHANGE
from shared_models.task import Bag, Table, load_task
from shared_models.trained_parts import build_network, trained_state

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from torch import Tensor, nn

    from client.config.site import SiteConfig
    from shared_models.study_settings import StudySettings
    from shared_models.task import Task

Summary = Mapping[str, Sequence[str]]


def make_summary(site: SiteConfig, config: StudySettings, task: Task) -> Summary:
    """The page's headings with the lines below each.

    The site's tables are read to count its patients; images are not.

    Raises:
        SiteError: If the tables cannot be read, the ledger is damaged, or no noise reaches the study's epsilon.
    """
    rows = open_rows(site, task)
    patients = len(rows.patients)
    lacking = list(gaps(rows, task))
    refused = refusals(site.policy, config, task)
    reads = [*_reads(site, task)]
    for other in settings_compared(config)[1:] if config.compares else ():
        second = load_task(other)
        refused += [text for text in refusals(site.policy, other, second) if text not in refused]
        reads += [line for line in _reads(site, second) if line not in reads]
    return {
        f"{site.site}: the study {config.study}": [f"task {task.name}", f"settings {settings_hash(config)}"],
        "It reads here": [f"{patients} patients", *reads],
        **({"NOT READY here: `check --study` says what to do": lacking} if lacking else {}),
        "It sends to the center": list(_sends(site, config, task)),
        "The network starts from": list(_start(config, task)),
        "It takes": _takes(site, config),
        "Privacy": list(privacy_spent(site, config, patients)),
        "This hospital's policy": [f"REFUSES {text}" for text in refused] or ["allows it"],
    }


def print_summary(summary: Summary, console: Console) -> None:
    """Prints the page."""
    for heading, lines in summary.items():
        console.print(
            heading,
            style="bold red" if heading.startswith("NOT READY") else "bold",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        for line in lines:
            style = "red" if line.startswith("REFUSES") else None
            console.print(f"  {line}", style=style, soft_wrap=True, highlight=False, markup=False)


def store_summary(summary: Summary, path: Path) -> None:
    """Writes the page as one HTML file that loads nothing, readable for its owner only.

    Raises:
        SiteError: If it cannot be written.
    """
    import io

    from rich.console import Console

    console = Console(record=True, file=io.StringIO(), width=120)
    print_summary(summary, console)
    write_private(path, console.export_html(inline_styles=True))


def _reads(site: SiteConfig, task: Task) -> Iterator[str]:
    for name, columns in needed_columns(site, task).items():
        source = site.tables[name]
        named = dict.fromkeys(filter(None, [source.patient_id, *columns]))
        yield f"table {name} ({source.name}), columns: {', '.join(named)}"
    for name, kind in task.modalities.items():
        reader = site.modalities.get(name)
        if reader is None:
            yield f"{name}: not at this site"
            continue
        if isinstance(kind, Table):
            features = ", ".join(feature.name for feature in kind.features)
            yield f"{name} ({reader.reader}): {len(kind.features)} features ({features})"
        else:
            yield f"{name} ({reader.reader}): images, as a tensor of {' x '.join(map(str, kind.shape))} a patient"
        if isinstance(reader, ExtractedReader):
            reader = site.modalities[reader.images]
        if not isinstance(reader, TableReader):  # with its files, masks, and the columns of boxes in a table
            yield f"{name} from: {reader.model_dump_json(exclude_defaults=True, exclude={'reader'})}"
    for grouping in task.subgroups:
        there = "" if reader_of(site, task, grouping) else ": not at this site"
        yield f"subgroups of test patients by {grouping.feature.name} ({', '.join(grouping.names)}){there}"
    for name in task.targets:
        yield f"outcome {name}: {_definition(site, name)}"


def _definition(site: SiteConfig, target: str) -> str:
    """How this site defines an outcome: other hospitals of the study may define it otherwise."""
    if target not in site.targets:
        return "not at this site"
    return (
        site.targets[target].definition or f"not defined; `endpoint` and `deaths` below targets.{target} would say it"
    )


def _sends(site: SiteConfig, config: StudySettings, task: Task) -> Iterator[str]:
    """All that the messages let out, each with this study's numbers."""
    from client.training.rule import site_rule

    details = _details(site, config, task)
    secure, why = choose_secure_aggregation(config, named_training_sites(config))
    for reply in replies():
        if not _asked(reply, config):
            continue
        if issubclass(reply, TrainReply | EvaluateValidationReply) and not trains_here(site, config):
            continue
        if config.canary and not issubclass(reply, PrepareReply | TrainReply):
            continue
        for name, facts in fields_of(reply).items():
            if name == RULE_CHANGE and site_rule(config) is None:
                continue
            sums = f"; with secure aggregation {IN_SUMS[facts['in_sums']]}" if secure else ""
            yield f"{reply.WHEN}: {facts['what']}{details.get(name, '')}{sums}"
    yield f"scores are {BINS}"
    if not trains_here(site, config):
        yield (
            "no weights leave: nothing is trained here"
            if config.trains_nothing
            else "no weights: this site only validates"
        )
    yield why
    yield from protection_of_sums(site, config) if secure else ()
    if not secure:
        least = site.policy.minimum_count
        yield f"of scores and outcomes no cell of fewer than {least} patients: small ones are merged or left out"
    yield ERRORS


def _asked(reply: type[Reply], config: StudySettings) -> bool:
    """Whether a study asks for a reply: one that only scores finished networks asks for nothing else."""
    if config.trains_nothing:
        return reply is (EvaluateComparisonReply if config.compares else EvaluateExternalReply)
    return reply not in (EvaluateComparisonReply, EvaluateExternalReply)


def _details(site: SiteConfig, config: StudySettings, task: Task) -> dict[str, str]:
    """What a study makes of some of the messages' fields, by name."""
    model = build_network(task, config)
    numbers = sum(value.numel() for value in trained_state(model).values())
    columns = ", ".join(f"{len(kind.columns)} columns of {name}" for name, kind in task.tables.items())
    return {
        "model": f": {numbers:,} numbers of the network {type(model).__name__}",
        "features": f": {columns or 'no table'}",
        "counts": f": {', '.join(task.targets)}",
        "metrics": f": here {site.policy.minimum_count}",
    }


def _start(config: StudySettings, task: Task) -> Iterator[str]:
    """Whose weights come first, what of them stays, and what this site checks."""
    if config.validates:
        yield f"the finished network of the study {config.validates}, SHA-256 {config.validates_sha256}"
        yield "this site scores no other: one network, with its standardisation and thresholds, frozen"
        return
    if config.compares:
        yield f"the finished networks of the studies {config.compares}, together SHA-256 {config.compares_sha256}"
        yield "this site scores no others: two networks, each with its standardisation and thresholds, frozen"
        yield f"of the second study other than of the first: {config.compares_settings}"
        return
    if config.initial_weights == "file":
        yield f"weights of a file ({config.initial_weights_format}), SHA-256 {config.initial_weights_sha256}"
        yield "this site takes no part if the first weights have another hash"
    else:
        yield f"random weights of seed {config.seed}"
    network = build_network(task, config)
    frozen, numbers = (sum(array.numel() for array in state.values()) for state in _states(network))
    if frozen < numbers:
        yield f"{numbers - frozen:,} of its {numbers:,} numbers stay as they start, and come to this site once"
    if any(isinstance(kind, Bag) for kind in task.modalities.values()):
        yield f"features of tiles: {_tiles(config)}"


def _states(network: nn.Module) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    return trained_state(network), network.state_dict()


def _tiles(config: StudySettings) -> str:
    if config.tile_network != "file":
        return f"{config.tile_network}, a small network with random weights"
    return f"ResNet-50, this site's file; its SHA-256 must be {config.tile_weights_sha256 or 'none in particular'}"


def _takes(site: SiteConfig, config: StudySettings) -> list[str]:
    if config.trains_nothing:
        often = f"up to {config.round_attempts} times" if config.round_attempts > 1 else "once"
        what = "two networks' scores of test patients" if config.compares else "scores of all with a known outcome"
        return [f"one question, answered {often}: {what}", _limit(config)]
    if config.canary:
        return [
            f"a canary of the study with {config.sites}: one round at all of them, or none; no test patient is scored",
            "its weights are used for nothing: the center stores only whether each site works",
            _limit(config),
        ]
    passes = f"{config.local_epochs} pass{'es' if config.local_epochs > 1 else ''} over the training patients each"
    tries = f"a round that too few sites answer is tried up to {config.round_attempts} times"
    sites = f"with {config.sites or 'whoever is there'}, {config.min_sites} sites at least"
    once = "one run of the study: nothing beyond is answered until it is approved again"
    return [sites, *_folds(site, config), f"{config.rounds} rounds, {passes}", tries, once, _limit(config)]


def _limit(config: StudySettings) -> str:
    return f"at most {config.round_timeout_s:g} s for one answer"


def _folds(site: SiteConfig, config: StudySettings) -> Iterator[str]:
    """What of a study is done in each of several folds."""
    folds = folds_of(config)
    if not folds:
        return
    often = f"{len(folds)} folds, each a training and a test of its own: all that is said of rounds holds in each"
    if config.leave_out == "each":
        yield f"{often}; in turn one site does not train, and all its patients are tested: {config.sites}"
        return
    yield f"{often}; every patient is tested in one of {config.folds}, and trained on or validated in the others"
    if config.repeats > 1:
        yield f"all of it {config.repeats} times, with other folds"
    if site.split:
        yield SPLIT_UNUSED
