"""Section on reproducibility: settings and their hash, versions, split, seeds, weights, command."""

from __future__ import annotations

from server.report.study import Study
from shared_models.agreed import CENTERS_OWN, settings_hash
from shared_models.pages.elements import Facts, Row, Section, Table
from shared_models.settings import SettingsError
from shared_models.study_settings import StudySettings, parse_study_settings


def section(study: Study) -> Section:
    """What somebody else needs to run the study again."""
    results, setting = study.results, study.setting
    parts = f"{setting('validation-fraction')} validation, {setting('test-fraction')} test"
    facts: list[tuple[str, str | None]] = [
        ("Settings, SHA-256", _hash(study)),
        ("Versions", _versions(study)),
        ("Split", f"by patient, seed {setting('split-seed')}: {parts}, unless a site has a split of its own"),
        ("Seed", f"{setting('seed')}, of weights, batches and dropout"),
        (
            "Weights",
            f"{results.checkpoints.get('best', 'best.safetensors')}, round {results.best_round}"
            if results.best_round
            else None,
        ),
        ("Data fingerprints", " · ".join(f"{s.site} {s.fingerprint}" for s in results.sites if s.fingerprint) or None),
        ("Networks scored on the test patients", _scorings(study)),
        ("Dates", _dates(study)),
        ("Hardware", _hardware(study)),
        ("Command", f"python -m server run STUDY.toml --follow; python -m server report {results.study}"),
    ]
    lead = "The same settings, split and data give the same patients in the same splits."
    if results.privacy.unit:
        lead += " The noise of private training is not reproducible, on purpose."
    return Section("Reproducibility", lead, [Facts(facts), _settings(study)])


def _versions(study: Study) -> str:
    """The center's, and those sites that ran others."""
    results = study.results
    other = [f"{site.site}: {site.software}" for site in results.sites if site.software not in ("", results.software)]
    same = "the same at every site that says it" if not other else "; ".join(other[:8])
    return f"breast-federation {results.package_version}; {results.software}; {same}"


def _scorings(study: Study) -> str | None:
    """How often test patients were scored, of any study: a choice among several networks by them flatters."""
    counts = [f"{site.site} {site.scorings}" for site in study.results.sites if site.scorings]
    return f"{', '.join(counts[:40])}; of this study or others, as each site counts" if counts else None


def _dates(study: Study) -> str | None:
    results = study.results
    return f"{results.started[:19]} to {results.finished[:19]} UTC" if results.started else None


def _hardware(study: Study) -> str | None:
    machines = [
        f"center: {study.results.hardware}",
        *(f"{s.site}: {s.hardware}" for s in study.results.sites if s.hardware),
    ]
    return "; ".join(machines[:12]) if study.results.hardware else None


def _config(study: Study) -> StudySettings | None:
    try:
        return parse_study_settings(study.results.config)
    except SettingsError:  # of another release
        return None


def _hash(study: Study) -> str | None:
    config = _config(study)
    return f"{settings_hash(config)}, as hospitals approved them" if config else None


def _settings(study: Study) -> Table:
    """Settings that differ from their defaults; the file has all."""
    defaults = StudySettings().to_flat()
    config = study.results.config
    rows = [
        Row(key, [_short(config[key]), _short(defaults[key]) if key in defaults else "–"])
        for key in config
        if key not in CENTERS_OWN and config[key] != defaults.get(key)
    ]
    same = len(config) - len(rows)
    caption = f"Settings other than the defaults; {same} more are as by default or concern the center alone."
    return Table(["Setting", "value", "default"], rows, caption, text_columns=2)


def _short(value: object) -> str:
    text = " ".join(str(value).split()) if value != "" else "empty"
    return text if len(text) <= 160 else f"{text[:150]} … ({len(text)} characters)"
