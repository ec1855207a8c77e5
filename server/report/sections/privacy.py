"""Section on privacy: what was protected and how, and what left the hospitals."""

from __future__ import annotations

from server.report.study import Study
from server.study.results.rounds_section import Spent
from shared_models.pages.elements import Element, Facts, Notice, Panels, Row, Section, Table
from shared_models.pages.numbers import names, number


def section(study: Study) -> Section:
    """The mechanism, what left under noise, in sums, and alone."""
    privacy = study.results.privacy
    facts: list[tuple[str, str | None]] = [
        ("Unit", privacy.unit or "none: no differential privacy"),
        ("Mechanism", privacy.mechanism or "none"),
        ("ε and δ", _epsilon(study)),
        ("Secure aggregation", _secure(study)),
    ]
    left = [f"{what}, with noise" for what in privacy.covered_by_noise] + privacy.not_covered_by_noise
    sums = privacy.only_in_sums_of_three_sites_or_more
    panels = Panels(
        [
            ("What left the hospitals", left),
            (
                "What the center saw only in sums of three sites or more",
                sums or ["nothing: it saw all of it site by site"],
            ),
        ],
        "Never left: a row of a table, an image, a mask, an identifier.",
    )
    elements: list[Element] = [Facts(facts), *_spent_table(study), panels]
    if keys := privacy.sites_with_unverified_keys:
        elements.append(
            Notice(
                "Keys came from the center.",
                f"{names(keys)} had the others' public keys from the center, which must have been honest at the start.",
                "warning",
            )
        )
    return Section("Privacy", _lead(study), elements)


def _lead(study: Study) -> str:
    privacy = study.results.privacy
    noise = (
        "The weights were trained with differential privacy per patient."
        if privacy.unit
        else "No differential privacy: the weights carry no noise."
    )
    if privacy.only_in_sums_of_three_sites_or_more:
        return f"No row, image or identifier left a hospital. {noise} The center saw weights and scores only in sums."
    return f"No row, image or identifier left a hospital. {noise} The center saw each hospital's weights and counts."


def _epsilon(study: Study) -> str:
    if not study.results.privacy.unit:
        return "none"
    target = float(study.setting("target-epsilon") or 0)
    asked = (
        f"at most {number(target, 1)} at each site"
        if target
        else f"noise multiplier {study.setting('noise-multiplier')}"
    )
    spent = "the table has what each site charged" if spent_by_site(study) else "no site has told what it charged"
    return f"{asked}; {spent}"


def spent_by_site(study: Study) -> dict[str, Spent]:
    """What each site has charged for the study, as it said last; of folds in their last round."""
    return {site: one for attempt in study.results.rounds for site, one in attempt.spent.items()}


def _spent_table(study: Study) -> list[Element]:
    spent = spent_by_site(study)
    rows = [Row(site, (number(one.epsilon), f"{one.delta:g}")) for site, one in sorted(spent.items())]
    caption = (
        "What each site charged to its own privacy ledger for this study, in all its rounds and attempts, by the "
        "site's accountant. What it spent on other studies is not told."
    )
    return [Table(("site", "ε spent", "δ"), rows, caption)] if rows else []


def _secure(study: Study) -> str:
    colluders = study.results.privacy.colluders
    return (
        "off" if colluders is None else f"on; it holds against the center and up to {colluders} of the sites together"
    )
