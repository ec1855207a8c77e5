"""Map of a site's columns to the features of its modalities, and what became of every other column."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from client.onboarding.box_columns import box_columns
from client.onboarding.code_meanings import BINARY
from client.onboarding.column_guesses import GENE, MANY_COLUMNS, Guess, guesses, likeness, under_own_name
from client.onboarding.table_discovery import DiscoveredTable
from client.onboarding.vocabulary import KNOWN
from shared_models.features import Feature
from shared_models.targets import Categorical
from shared_models.task import Task

OWN = "clinical"  # the modality of a column that no task asks for
GENES, RADIOMICS = "genomic", "radiomics"
MANY_GENES = 2000  # from which a table's genes are offered only as far as tasks know them
MAMMOGRAPHY = "mammography"
_BOX = "not used: a tumour's box; `mask` of images names it"
# How columns of an omics table are called that are numbered, or miRNAs.
_PREFIXES = {"expr": "expression", "rna": "expression", "mrna": "expression", "mirna": "mirna", "hsa-mir": "mirna",
             "hsa-let": "mirna"}  # fmt: skip
_RADIOMIC = ("original_", "wavelet", "log-sigma", "squareroot_", "diagnostics_")


@dataclass(frozen=True)
class MappedFeature:
    """A feature of a modality: the table it is in, and how."""

    table: DiscoveredTable
    guess: Guess


@dataclass
class FeatureMap:
    """What was made of the columns.

    Attributes:
        modalities: Of each tabular modality its features by name.
        uses: Of each table by name: what became of a column.
        left_out: Modalities of which too little was found, in sentences.
        by_hand: Columns under their own names, whose codes tell no category, and which feature of a task each may be.
    """

    modalities: dict[str, dict[str, MappedFeature]] = field(default_factory=dict)
    uses: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    left_out: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def add(self, modality: str, name: str, table: DiscoveredTable, one: Guess) -> None:
        """Notes a feature and, beside it, what its columns are used for."""
        self.modalities.setdefault(modality, {})[name] = MappedFeature(table, one)
        for column in {one.entry["column"], one.entry.get("since")} - {None}:
            before = self.uses[table.name].get(column)
            use = f"{modality}: {name}"
            self.uses[table.name][column] = f"{before}; {use}" if before else use


def map_features(
    tables: Sequence[DiscoveredTable], tasks: Sequence[Task], taken: Mapping[tuple[str, str], str]
) -> FeatureMap:
    """Offers every column: under the name that a task or the vocabulary has for it, else under its own.

    Args:
        tables: Those whose rows are the cohort's; where several have a column, the first counts.
        tasks: All tasks; a feature of theirs goes to their modality.
        taken: What columns are used for that no feature may be made of, by table and column.
    """
    feature_map = FeatureMap()
    wanted = _wanted(tasks)
    for modality, features in wanted.items():
        best = _best(features, tables, taken)
        if _enough(modality, best, wanted):
            for name, one in best.items():
                feature_map.add(modality, name, one.table, one.guess)
        elif best:
            feature_map.left_out.append(
                f"{modality}: of its {len(features)} features only {', '.join(best)}: too few to be meant; what else "
                "became of their columns is said above"
            )
    for (table_name, column), use in taken.items():
        feature_map.uses[table_name][column] = use
    classes = {
        name: Feature(name, kind.classes)
        for task in tasks
        for name, kind in task.targets.items()
        if isinstance(kind, Categorical)
    }
    for table in tables:
        _add_others(feature_map, table, {**wanted, "targets": classes})
    return feature_map


def _wanted(tasks: Iterable[Task]) -> dict[str, dict[str, Feature]]:
    """All features of each tabular modality of any task; the clinical ones with what the vocabulary knows besides."""
    wanted: dict[str, dict[str, Feature]] = defaultdict(dict)
    for task in tasks:
        for modality, kind in task.tables.items():
            for feature in kind.features:
                wanted[modality].setdefault(feature.name, replace(feature, log=False))
    theirs = {name for modality, features in wanted.items() if modality != OWN for name in features}
    for name, thing in KNOWN.items():
        if not GENE.fullmatch(name) and name not in theirs and (thing.categories or thing.plausible):
            wanted[OWN].setdefault(name, Feature(name, thing.categories))
    return wanted


def _best(
    features: Mapping[str, Feature], tables: Sequence[DiscoveredTable], used: Iterable[tuple[str, str]]
) -> dict[str, MappedFeature]:
    """The best column of each feature; a column goes to the feature whose name is most like it."""
    offers = [
        (-one.guess.score, order, position, feature.name, one)
        for order, table in enumerate(tables)
        for position, feature in enumerate(features.values())
        for one in (MappedFeature(table, guess) for guess in guesses(feature, table))
    ]
    chosen: dict[str, MappedFeature] = {}
    taken = set(used)
    for _, _, _, name, one in sorted(offers, key=lambda offer: offer[:3]):
        # an age counts from the date of birth to that of the diagnosis, which an outcome may count from, too
        place = (one.table.name, one.guess.entry.get("since") or one.guess.entry["column"])
        if name not in chosen and (place not in taken or _again(name, one)):
            chosen[name] = one
            taken.add(place)
    return {name: chosen[name] for name in features if name in chosen}


def _again(name: str, one: MappedFeature) -> bool:
    """Whether a column may be two features: how many nodes there are, and whether there are any."""
    return name in {"nodes", "nodes_positive"} and one.guess.score > 2


def _enough(modality: str, best: Mapping[str, MappedFeature], wanted: Mapping[str, Mapping[str, Feature]]) -> bool:
    """Whether what was found speaks for a modality: half of its features, or two that no other one has."""
    if modality == OWN:
        return bool(best)
    others = {name for other, features in wanted.items() if other != modality for name in features}
    return 2 * len(best) >= len(wanted[modality]) or len(set(best) - others) >= 2


def _add_others(feature_map: FeatureMap, table: DiscoveredTable, wanted: Mapping[str, Mapping[str, Feature]]) -> None:
    """Every column that no known feature has taken, under its own name; of very many, as of all genes, none."""
    uses = feature_map.uses[table.name]
    uses.setdefault(table.patient_id, "the patient's identifier")
    uses |= {column: _BOX for ends in box_columns(table).values() for column in ends}
    genes = _is_of_genes(feature_map, table)
    for column in table.columns:
        if column in uses:
            continue
        modality = _modality_of(column, genes=genes)
        many = len(table.columns) > (MANY_COLUMNS if modality == OWN else MANY_GENES)
        offer = f"one of {len(table.columns)} columns" if many else under_own_name(column, table)
        if isinstance(offer, str):
            uses[column] = f"not used: {offer}"
            continue
        name = offer[0] if modality in {OWN, MAMMOGRAPHY} else column
        others = feature_map.modalities.get(modality, {})
        if twin := next((other for other in others if other == name or likeness(other, column) > 2), ""):
            uses[column] = f"not used: {modality}: {twin} is in another column"
        else:
            known = _known_by_tasks(column, wanted)
            feature_map.add(modality, name, table, _as_tasks_know_it(offer[1], *known) if known else offer[1])
            if known:
                feature_map.by_hand.append(f"{column} as {known[1].name} of {known[0]}")


def _known_by_tasks(column: str, wanted: Mapping[str, Mapping[str, Feature]]) -> tuple[str, Feature] | None:
    """A feature of a task, with its modality, that a column under its own name may be: its texts tell no category."""
    alike = (
        (modality, feature)
        for modality, features in wanted.items()
        for feature in features.values()
        if feature.categories and feature.categories != BINARY and likeness(feature.name, column) > 1
    )
    return next(alike, None)


def _as_tasks_know_it(offer: Guess, modality: str, feature: Feature) -> Guess:
    """The offer, and beside it the categories that tasks have."""
    kinds = ", ".join(feature.categories)
    return replace(offer, why=f"the codes: in this release's tasks {feature.name} of {modality} is {kinds}")


def _modality_of(column: str, *, genes: bool) -> str:
    """Where a column belongs that no task knows by its name: by how measured things are called, else it is clinical."""
    if column.startswith(_RADIOMIC):
        return RADIOMICS
    if prefixed := re.fullmatch(r"([A-Za-z]+)_\d+|(hsa-(?:mir|let)).*", column):
        return _PREFIXES.get((prefixed[1] or prefixed[2]).lower(), OWN)
    of_mammogram = max(likeness(name, column) for name in ("shape", "margin", "density")) > 1
    return MAMMOGRAPHY if of_mammogram else GENES if genes and GENE.fullmatch(column) else OWN


def _is_of_genes(feature_map: FeatureMap, table: DiscoveredTable) -> bool:
    """Whether a table's columns are genes: it has two that tasks know, and hardly anything clinical."""

    def count(modality: str) -> int:
        return sum(one.table is table for one in feature_map.modalities.get(modality, {}).values())

    return "genes" in table.form or (max(count(GENES), count("expression")) >= 2 and count(OWN) < 3)
