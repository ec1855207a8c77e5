"""Count of the networks whose scores of a site's test patients have left it.

What is chosen after a look at test scores is optimistic, whichever study looked: so a site counts the networks that
were scored on the test part of each of its splits, and the results say how many there were. The count is
`state_dir/SITE/scorings.jsonl`, chained by hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.governance.chained_log import locked

if TYPE_CHECKING:
    from client.config.site import SiteConfig

SCORED = "test patients scored"


def count_scoring(site: SiteConfig, tested: str, study: str, question: str) -> int:
    """Counts a network before its scores leave, and says how many there were with it; the same one counts once.

    Args:
        site: The site.
        tested: Who is scored: the test part of a split, by its name.
        study: The study's name.
        question: Hash of the network and its thresholds.

    Raises:
        SiteError: If it cannot be written down. Then the scores must not leave.
    """
    with locked(site.state_dir / "scorings.jsonl") as log:
        before = {line["question"] for line in log.lines() if line["event"] == SCORED and line["tested"] == tested}
        if question not in before:
            log.append({"event": SCORED, "tested": tested, "study": study, "question": question})
        return len(before | {question})
