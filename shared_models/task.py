"""Task: its modalities, its targets, and the network between them.

Adding a task is adding one file to `shared_models/tasks/` that defines `TASK`; its file name is its name.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_models.features import parse_features
from shared_models.grids import parse_grids
from shared_models.modalities import Bag, Modality, Table, Volume
from shared_models.settings import SettingsError, nearest
from shared_models.subgroups import Grouping, parse_subgroups

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shared_models.study_settings import StudySettings
    from shared_models.targets import Target


__all__ = [
    "MAX_FEATURES_SHUFFLED",
    "SHUFFLES",
    "TRAINING_ON_IMAGES",
    "Bag",
    "Modality",
    "Table",
    "Task",
    "Volume",
    "load_task",
    "task_names",
]

TRAINING_ON_IMAGES: Mapping[str, str | int | float] = {
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "learning_rate_schedule": "cosine",
    "local_epochs": 3,  # a hospital of 80 patients makes some ten steps a pass
    "batch_size": 8,
    "wide_learning_rate_factor": 20.0,
    "clip_gradients": 1.0,
}
"""What images of some hundred patients are learned with, where a task has no reason for another."""


SHUFFLES = 5
"""How often a modality or a feature is shuffled to see what the network loses without it; the losses are averaged."""
MAX_EXPLAINED = 1_000
"""Features with Shapley values."""
MAX_FEATURES_SHUFFLED = 2_000


@dataclass(frozen=True)
class Task:
    """What is learned.

    Attributes:
        modalities: Input name to its kind, in the order of the presence mask's columns.
        targets: Output name to its kind.
        build_model: Makes the network. Its `forward(inputs, present)` takes `inputs[name]` for each modality,
            `(N, C, D, H, W)`, `(N, T, W)` or `(N, width)`, and `present` `(N, modalities)`, 1 where a patient has it,
            and returns `{target: (N, outputs)}`.
        weights: Weight of a target's loss where it is not 1.
        on_request: Modalities that take part only where a study's `modalities` names them.
        training: Study settings that the task is trained with, without privacy, where a study does not set them.
        subgroups: Columns by which a study's test patients are divided, set by `load_task`.
        name: The file's name, set by `load_task`.
    """

    modalities: Mapping[str, Modality]
    targets: Mapping[str, Target]
    build_model: Callable[[Task, StudySettings], nn.Module]
    weights: Mapping[str, float] = field(default_factory=dict)
    on_request: tuple[str, ...] = ()
    training: Mapping[str, str | int | float] = field(default_factory=dict)
    subgroups: tuple[Grouping, ...] = ()
    name: str = ""

    @property
    def tables(self) -> dict[str, Table]:
        """The tabular modalities."""
        return {name: kind for name, kind in self.modalities.items() if isinstance(kind, Table)}

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        truths: Mapping[str, Tensor],
        class_weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Weighted mean of the targets' losses, `(N,)`.

        The divisor is constant: dividing by how many labels a patient has would let one patient's label change
        the scale of another's gradient under masking, and break the per-patient sensitivity of private training.

        Args:
            outputs: `{target: (N, outputs)}`.
            truths: `{target: (N,) or (N, 2)}`, NaN where unknown.
            class_weights: `{target: (classes,)}` of those targets whose classes weigh unequally.
        """
        losses = []
        for name, kind in self.targets.items():
            loss = self.weights.get(name, 1.0) * kind.loss(outputs[name], truths[name])
            if class_weights and name in class_weights:
                loss = loss * class_weights[name][truths[name].nan_to_num().long()]
            losses.append(loss)
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / sum(self.weights.get(name, 1.0) for name in self.targets)


def load_task(config: StudySettings) -> Task:
    """The task that the settings name, with the study's modalities, targets, features, voxels and time edges.

    Raises:
        SettingsError: If there is no such task, or the study asks for something that it does not have.
    """
    if config.task not in task_names():
        msg = f"task: there is no task {config.task!r}; {nearest(config.task, task_names())}"
        raise SettingsError(msg)
    task: Task = importlib.import_module(f"shared_models.tasks.{config.task}").TASK
    chosen = _chosen(task, config)
    modalities = _on_grids(_with_features(chosen, config), config)
    targets = {name: _with_times(target, config) for name, target in chosen.targets.items()}
    if config.backbone != "task" and not any(isinstance(kind, Volume) for kind in modalities.values()):
        msg = f"backbone: {config.task} has no images in this study that {config.backbone} could encode"
        raise SettingsError(msg)
    if config.oversampling != "none":
        _check_oversampling(dataclasses.replace(chosen, targets=targets), config)
    if config.harmonisation != "none":
        _check_harmonisation(modalities, config)
    if config.importance in ("features", "shap"):
        _check_importance(modalities)
    if config.importance == "shap":
        _check_shap(modalities)
    tables = [kind for kind in modalities.values() if isinstance(kind, Table)]
    subgroups = parse_subgroups(config.subgroups, [feature for table in tables for feature in table.features])
    return dataclasses.replace(chosen, name=config.task, modalities=modalities, targets=targets, subgroups=subgroups)


def task_names() -> list[str]:
    """The tasks there are: the files of `shared_models/tasks/`."""
    package = importlib.import_module("shared_models.tasks")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def _chosen(task: Task, config: StudySettings) -> Task:
    """The task with the modalities and the targets that the study names, in the task's order."""
    for key, asked, there in (
        ("modalities", config.chosen_modalities, task.modalities),
        ("targets", config.chosen_targets, task.targets),
    ):
        for name in asked:
            if name not in there:
                msg = f"{key}: {config.task} has no {name!r}; {nearest(name, list(there))}"
                raise SettingsError(msg)
    modalities = config.chosen_modalities or tuple(name for name in task.modalities if name not in task.on_request)
    targets = config.chosen_targets or tuple(task.targets)
    return dataclasses.replace(
        task,
        modalities={name: kind for name, kind in task.modalities.items() if name in modalities},
        targets={name: target for name, target in task.targets.items() if name in targets},
    )


def _check_oversampling(task: Task, config: StudySettings) -> None:
    from shared_models.targets import Binary

    images = [name for name, kind in task.modalities.items() if not isinstance(kind, Table)]
    name, target = next(iter(task.targets.items()))
    if images or not isinstance(target, Binary):
        no_label = f'{name} is not a binary target (outcome = "binary" makes one of a time to event)'
        what = f"{images[0]} is not a table" if images else no_label
        msg = f"oversampling: {what}; {config.oversampling} makes synthetic patients of two classes from tables"
        raise SettingsError(msg)


def _check_harmonisation(modalities: Mapping[str, Modality], config: StudySettings) -> None:
    tables = [name for name, kind in modalities.items() if isinstance(kind, Table)]
    stray = [name for name in config.harmonised_tables if name not in tables]
    if stray or not config.harmonised_tables:
        what = f"no table {', '.join(stray)} in this study" if stray else "no table is named"
        msg = f"harmonised: {what}; {config.task} has {', '.join(tables) or 'none'}"
        raise SettingsError(msg)


def _check_shap(modalities: Mapping[str, Modality]) -> None:
    """Refuses Shapley values of what is no table, or of so many features that they would take days.

    Raises:
        SettingsError: If so.
    """
    tables = [kind for kind in modalities.values() if isinstance(kind, Table)]
    features = sum(len(kind.features) for kind in tables)
    if len(tables) < len(modalities):
        images = ", ".join(name for name, kind in modalities.items() if not isinstance(kind, Table))
        pixels = sum(math.prod(kind.shape) for kind in modalities.values() if not isinstance(kind, Table))
        msg = (
            f"importance: shap explains networks of tables alone, and this one reads {images}, {pixels:,} numbers a "
            'patient; choose tables by `modalities`, or importance = "features"'
        )
        raise SettingsError(msg)
    if features > MAX_EXPLAINED:
        msg = f'importance: shap explains at most {MAX_EXPLAINED} features, and there are {features:,}; take "features"'
        raise SettingsError(msg)


def _check_importance(modalities: Mapping[str, Modality]) -> None:
    count = sum(len(kind.features) for kind in modalities.values() if isinstance(kind, Table))
    if not 0 < count <= MAX_FEATURES_SHUFFLED:
        problem = f"the tables have {count:,} features" if count else "the study has no table"
        why = f'each is scored {SHUFFLES} times and {MAX_FEATURES_SHUFFLED:,} at most are; importance = "modalities"'
        msg = f"importance: {problem}; {why} shuffles whole modalities"
        raise SettingsError(msg)


def _with_features(task: Task, config: StudySettings) -> dict[str, Modality]:
    listed = parse_features(config.features)
    if stray := set(listed) - set(task.tables):
        msg = f"features: {config.task} has no table {', '.join(sorted(stray))}; it has {', '.join(task.tables)}"
        raise SettingsError(msg)
    if not listed:
        return dict(task.modalities)
    # A table that the study does not list is no part of it: the network is built without it.
    return {
        name: Table(listed[name]) if isinstance(kind, Table) else kind
        for name, kind in task.modalities.items()
        if name in listed or not isinstance(kind, Table)
    }


def _on_grids(modalities: Mapping[str, Modality], config: StudySettings) -> dict[str, Modality]:
    """The images on the grids, with the field of view and the network of tiles that the study names."""
    network: dict[str, Any] = {"network": config.tile_network, "weights_sha256": config.tile_weights_sha256}
    on_grids = dict(modalities)
    for name, kind in modalities.items():
        if isinstance(kind, Volume):
            on_grids[name] = dataclasses.replace(kind, field_of_view=config.field_of_view)
        elif isinstance(kind, Bag):
            on_grids[name] = dataclasses.replace(kind, **network)
    for name, (size, spacing_mm) in parse_grids(config.grids).items():
        image = on_grids.get(name)
        if not isinstance(image, Volume):
            images = [other for other, kind in on_grids.items() if isinstance(kind, Volume)]
            there = ", ".join(images) or "none"
            msg = (
                f"grids: {config.task} has no image {name!r} in this study; it has {there}. Leave its grid out, or "
                "name it among `modalities`"
            )
            raise SettingsError(msg)
        on_grids[name] = dataclasses.replace(image, shape=(image.shape[0], *size), spacing_mm=spacing_mm)
    return on_grids


def _with_times(target: Target, config: StudySettings) -> Target:
    from shared_models.targets import Binary, TimeToEvent

    if not isinstance(target, TimeToEvent):
        return target
    if config.outcome == "binary":
        return Binary(horizon_days=config.horizon_days)
    return TimeToEvent(config.edges or target.edges_days, config.horizon_days)
