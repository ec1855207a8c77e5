"""Sections on what differs between two studies beside their figures: settings, hospitals, privacy."""

from __future__ import annotations

from server.report.sections.privacy import spent_by_site
from server.report.side_by_side.pair import MAX_SITES, Pair, more
from server.report.study import Study
from shared_models.pages.elements import Row, Section, Table
from shared_models.pages.numbers import NONE, count, number


def settings(pair: Pair) -> Section:
    """The settings that differ, and how far each study came."""
    one, other = ({**study.results.config, "task": study.results.task} for study in pair.both)
    hidden = {"study", "report", "results-dir", "overwrite", "resume"}
    differing = [key for key in {**one, **other} if key not in hidden and one.get(key) != other.get(key)]
    reached = [_reached(study) for study in pair.both]
    rows = [Row(key, [str(each.get(key, NONE)) or NONE for each in (one, other)]) for key in differing]
    rows += [Row(key, [str(each[key]) for each in reached]) for key in reached[0] if reached[0][key] != reached[1][key]]
    lead = f"Settings that differ: {len(differing)}; all others are the same." if differing else "No setting differs."
    return Section("What differs", lead, [Table(["setting", *pair.names], rows, text_columns=2)] if rows else [])


def _reached(study: Study) -> dict[str, int | str]:
    results = study.results
    return {
        "rounds completed": results.rounds_completed,
        "round tested": results.best_round,
        "package version": results.package_version,
    }


def hospitals(pair: Pair) -> Section:
    """Who took part in which, and whether with the same data."""
    own = [{site.site: site for site in study.results.sites} for study in pair.both]
    rows = []
    for name in [*{**own[0], **own[1]}][:MAX_SITES]:
        cells = [
            f"{'trains' if site.role == 'train' else 'only tested'}, {count(site.patients.get('test'))} tested"
            if (site := each.get(name))
            else "took no part"
            for each in own
        ]
        prints = [site.fingerprint if (site := each.get(name)) else "" for each in own]
        same = (
            "not recorded"
            if not all(prints)
            else "the same"
            if prints[0] == prints[1]
            else "other data, or another split"
        )
        rows.append(Row(name, [*cells, same if name in own[0] and name in own[1] else NONE]))
    caption = (
        "A fingerprint is a hash that each site makes of the data that it read and of their split, with a secret of "
        f"its own. {more(len({**own[0], **own[1]}))}"
    )
    return Section("Hospitals", "", [Table(["hospital", *pair.names, "by fingerprint"], rows, caption, text_columns=3)])


def privacy(pair: Pair) -> Section:
    """What was protected and how."""

    def facts(study: Study) -> list[str]:
        privacy, spent = study.results.privacy, spent_by_site(study)
        most = f"{number(max(one.epsilon for one in spent.values()), 1)}" if spent else NONE
        secure = "off" if privacy.colluders is None else "on"
        return [privacy.unit or "none", privacy.mechanism or "none", most, secure]

    heads = ("unit", "mechanism", "largest ε that a site spent", "secure aggregation")
    columns = [facts(study) for study in pair.both]
    rows = [Row(head, list(cells)) for head, *cells in zip(heads, *columns, strict=True)]
    return Section("Privacy", "", [Table(["", *pair.names], rows, text_columns=2)])
