"""Skews of a simulation: one cohort's patients over sites by unequal labels or sizes, and sites that lack a modality.

A Dirichlet distribution of concentration `A` gives each site its share: of each class of the first target's labels
(Hsu 2019, arXiv:1909.06335), or of all patients. Small concentrations skew more; 100 is nearly none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.cohort.outcomes import read_truth
from client.cohort.rows import open_rows
from client.config.site import load_site
from shared_models.settings import SettingsError, nearest
from shared_models.study_settings import StudySettings
from shared_models.targets import Regression
from shared_models.task import load_task
from simulation.splits import Sites, divide, with_outcome, write_site

FORMS = "dirichlet:A, quantity:A or missing:MODALITY:SHARE, as dirichlet:0.3 or missing:mri:0.5"
MIN_PATIENTS = 10
"""Of a site: with fewer, no part of its split tells anything."""
DRAWS = 1000
"""How often shares are drawn until each site has enough patients."""
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Skew:
    """How sites differ.

    Attributes:
        kind: What is divided unequally: labels (`dirichlet`), sizes (`quantity`), or nothing.
        concentration: Of the Dirichlet distribution.
        missing: Modalities, and the share of the sites that lack each.
    """

    kind: Literal["", "dirichlet", "quantity"] = ""
    concentration: float = math.inf
    missing: tuple[tuple[str, float], ...] = ()


def parse_skew(words: Sequence[str]) -> Skew:
    """The skew that a command line's words ask for.

    Raises:
        SettingsError: If one is of no known form, a number is out of its bounds, or patients are to be divided twice.
    """
    skew = Skew()
    for word in words:
        kind, *values = word.split(":")
        if kind in ("dirichlet", "quantity") and len(values) == 1 and 0.001 <= _number(values[0]) <= 1e6:
            if skew.kind:
                msg = f"--skew: {skew.kind} and {kind} both divide the patients; give one of them"
                raise SettingsError(msg)
            skew = Skew("dirichlet" if kind == "dirichlet" else "quantity", float(values[0]), skew.missing)
        elif kind == "missing" and len(values) == 2 and 0 < _number(values[1]) <= 1:
            skew = Skew(skew.kind, skew.concentration, (*skew.missing, (values[0], float(values[1]))))
        else:
            hint = "" if kind in ("dirichlet", "quantity", "missing") else f" ({nearest(kind, _KINDS)})"
            msg = f"--skew: expected {FORMS}, with A from 0.001 to 1e6 and SHARE above 0 up to 1; found {word!r}{hint}"
            raise SettingsError(msg)
    return skew


_KINDS = ("dirichlet", "quantity", "missing")


def divide_unequally(
    file: Path, folder: Path, into: int, skew: Skew, config: StudySettings, data_root: Path | None = None
) -> Sites:
    """Makes several sites of one, whose labels or sizes differ; the same ones for the same `split-seed`.

    Args:
        file: The settings of the undivided site.
        folder: Where the new settings files go.
        into: How many sites.
        skew: How they differ.
        config: The study.
        data_root: Replaces the file's own.

    Raises:
        SettingsError: If there are too few patients for so many sites or so strong a skew.
    """
    site = load_site(file, data_root)
    config = with_outcome(config, {site.site: file})
    task = load_task(config)
    rows = open_rows(site, task)
    patients = np.array(sorted(rows.patients, key=lambda patient: hashlib.sha256(patient.encode()).digest()))
    order = {patient: index for index, patient in enumerate(rows.patients)}
    name, target = next(iter(task.targets.items()))
    truth = read_truth(rows, name, target)
    labels = truth.reshape(len(truth), -1)[:, -1].astype(np.float64)
    if skew.kind == "quantity":
        labels = np.zeros(len(labels))
    elif isinstance(target, Regression):
        labels = np.digitize(labels, np.nanquantile(labels, QUARTERS)).astype(np.float64)
    classes = np.nan_to_num(labels, nan=-1.0)[[order[patient] for patient in patients]]
    assigned = _assign(classes, into, skew, config.split_seed)
    groups = {f"{number + 1}": patients[assigned == number].tolist() for number in range(into)}
    column = site.tables[site.patients_table].patient_id
    return divide(file, folder, by=f"{site.patients_table}:{column}", groups=groups, data_root=data_root)


def _assign(classes: NDArray[np.float64], sites: int, skew: Skew, seed: int) -> NDArray[np.int64]:
    """`(N,)` the site of each of N patients."""
    if not 2 <= sites <= len(classes) // MIN_PATIENTS:
        msg = f"--into: {sites} sites of {len(classes)} patients; expected 2 or more, each of {MIN_PATIENTS} patients"
        raise SettingsError(msg)
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS):
        assigned = np.empty(len(classes), dtype=np.int64)
        for label in np.unique(classes):
            (members,) = np.nonzero(classes == label)
            ends = np.cumsum(rng.dirichlet(np.full(sites, skew.concentration))) * len(members)
            assigned[members] = np.searchsorted(ends[:-1], np.arange(len(members)) + 0.5)
        if np.bincount(assigned, minlength=sites).min() >= MIN_PATIENTS:
            return assigned
    msg = (
        f"--skew: {skew.kind}:{skew.concentration:g} left a site of {sites} with fewer than {MIN_PATIENTS} patients in "
        f"{DRAWS} draws; choose a larger concentration, or fewer sites"
    )
    raise SettingsError(msg)


def without_modalities(sites: Sites, skew: Skew, config: StudySettings, folder: Path) -> Sites:
    """The sites, of which a share lacks each missing modality; which ones follows from `split-seed`.

    Raises:
        SettingsError: If the study has no such modality, no site would have it, or a site would have none at all.
    """
    task, rng, lacking = load_task(config), np.random.default_rng(config.split_seed), dict[str, set[str]]()
    for name, share in skew.missing:
        if name not in task.modalities:
            msg = f"--skew: the study has no modality {name!r}; {nearest(name, task.modalities)}"
            raise SettingsError(msg)
        having = [site for site, file in sites.items() if name in load_site(file).modalities]
        count = max(1, round(share * len(having)))
        if count >= len(having):
            msg = f"--skew: missing:{name}:{share:g} leaves no site of {len(having)} that has {name}; lower the share"
            raise SettingsError(msg)
        for site in rng.permutation(having)[:count]:
            lacking.setdefault(str(site), set()).add(name)
    changed = dict(sites)
    for name, lost in lacking.items():
        site = load_site(sites[name])
        left = {key: value for key, value in site.model_dump(mode="json")["modalities"].items() if key not in lost}
        if not any(key in task.modalities for key in left):
            msg = f"--skew: {name} would lack all modalities of the study: {', '.join(sorted(lost))}"
            raise SettingsError(msg)
        given = site.model_dump(mode="json", exclude_defaults=True)["modalities"]
        changed[name] = write_site(site, folder, modalities={key: given[key] for key in left})
    return changed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
