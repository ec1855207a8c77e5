"""Tables of the messages and of what leaves a hospital, for the documents, generated from the messages themselves.

`python -m shared_models.messages.tables` in the project's folder rewrites the marked blocks (`make generate`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from shared_models.agreed import CENTERS_OWN
from shared_models.messages.comparison import EvaluateComparisonReply, EvaluateComparisonRequest
from shared_models.messages.external import EvaluateExternalReply, EvaluateExternalRequest
from shared_models.messages.fold import InFold
from shared_models.messages.payload import Payload, Reply, Request, fields_of
from shared_models.messages.release import FromRelease
from shared_models.messages.requests import REQUESTS
from shared_models.messages.secure import EXCHANGES, JoinSum

IN_SUMS = {
    "shown": "this hospital's own",
    "yes or no": "only whether there are any",
    "summed": "only in sums over three hospitals or more",
}
ERRORS = "of an error, one sentence that names no file, value or patient; the details stay in the hospital's log"
BINS = (
    "counted in bins: 1,024 bins of score, half of them where most validation patients' scores lie, separately for "
    "patients with and without the outcome; for time to event, "
    "bins of risk by bins of time, and who had the event by the horizon, was free of it, or censored before; "
    "for classes, a confusion matrix; for a continuous target, sums of errors; and in "
    "pairs: how many of its own patients' pairs are in the right order. Without secure aggregation, neighbouring bins "
    "are merged until each holds `minimum_count` patients of one outcome, and pairs leave in multiples of the number "
    "of patients"
)
VALIDATED = "what a hospital that does not train sends at the end of a study, for all patients with a known outcome"
COMPARED = (
    "how many pairs of test patients each network orders rightly, and how many patients both, one or neither call "
    "rightly, by outcome; no weights; and, of this hospital, how many networks have been scored on them"
)
NEVER_LEAVES = (
    "a row of a table, an image, a mask",
    "a patient's identifier",
    "a file or column name",
    "the hospital's YAML, its private key",
    "an error's details",
)
ALL: tuple[type[Request[Payload]], ...] = (*REQUESTS, EvaluateExternalRequest, EvaluateComparisonRequest)
MARK = re.compile(r"(?P<start><!-- generated: (?P<name>[a-z ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def replies() -> list[type[Reply]]:
    """Everything that a hospital answers about patients, in the order of a study."""
    return [request.REPLY for request in ALL if issubclass(request.REPLY, Reply)]


def messages_table() -> str:
    """Each message with what its request and its reply hold."""
    lines = ["| message | request | reply |", "|---|---|---|"]
    for request in ALL:
        lines.append(f"| `{request.KIND}` | {_listed(request)} | {_listed(request.REPLY)} |")
    lines.append(f"| each of them, and of secure aggregation's | {_listed(FromRelease)}; {_listed(InFold)} | |")
    return "\n".join(lines) + "\n"


def sums_table() -> str:
    """The messages of secure aggregation, in the same form."""
    rows = [f"| `{request.KIND}` | {_listed(request)} | {_listed(request.REPLY)} |" for request in EXCHANGES]
    masked = "`content`: its signature of all that it was asked, and keys for the next sum; `masked`: masked numbers"
    rows.insert(2, f"| one of the above, besides | {_listed(JoinSum)} | {masked} |")
    return "\n".join(["| message | request | reply |", "|---|---|---|", *rows]) + "\n"


def leaving_table() -> str:
    """What leaves a hospital, when, and why."""
    lines = ["| when | what leaves | why | with secure aggregation, the center sees |", "|---|---|---|---|"]
    for reply in replies():
        if reply is EvaluateExternalReply:
            lines.append(
                f"| {reply.WHEN} | {VALIDATED} | a finished network is evaluated elsewhere | {IN_SUMS['shown']} |"
            )
            continue
        if reply is EvaluateComparisonReply:
            summed = IN_SUMS["summed"]
            lines.append(f"| {reply.WHEN} | {COMPARED} | DeLong's and McNemar's paired tests of the two | {summed} |")
            continue
        for facts in fields_of(reply).values():
            lines.append(f"| {reply.WHEN} | {facts['what']} | {facts['why']} | {IN_SUMS[facts['in_sums']]} |")
    lines.append(f"| when something is wrong | {ERRORS} | the center knows what to ask for | {IN_SUMS['shown']} |")
    return "\n".join([*lines, "", f"Scores are {BINS}."]) + "\n"


def never_leaves() -> str:
    """What never leaves, as a sentence."""
    return f"Never leaves: {'; '.join(NEVER_LEAVES)}.\n"


def center_settings() -> str:
    """The settings of a study that no hospital approves."""
    return f"{', '.join(f'`{name}`' for name in sorted(CENTERS_OWN))}.\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "messages": messages_table,
    "messages of secure aggregation": sums_table,
    "what leaves": leaving_table,
    "what never leaves": never_leaves,
    "settings of the center alone": center_settings,
}


def generated(text: str) -> str:
    """A document's text with its marked blocks as they should be."""
    return MARK.sub(lambda mark: mark["start"] + BLOCKS[mark["name"]](), text)


def documents(root: Path) -> Iterator[Path]:
    """The documents that have marked blocks."""
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        if MARK.search(path.read_text(encoding="utf-8")):
            yield path


def _listed(payload: type[Payload]) -> str:
    lines = [f"`{name}`: {facts['what']}" for name, facts in fields_of(payload).items()]
    return "; ".join(lines) or "nothing"


if __name__ == "__main__":
    for document in documents(Path.cwd()):
        document.write_text(generated(document.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"generated: {document}")
