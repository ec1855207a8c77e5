"""Network of a study with its standardisation before it and its predictions behind it, as other programs run it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from server.errors import CenterError, ExitCode
from shared_models.features import MAX_Z_SCORE, FeatureStatistics
from shared_models.targets import Target, TimeToEvent
from shared_models.task import Modality, Table
from shared_models.trained_parts import build_network

if TYPE_CHECKING:
    from shared_models.trained_model import TrainedModel

PRESENT = "present"
MAX_DIFFERENCE, PATIENTS = 1e-4, 3


class Standardisation(nn.Module):
    """z-scores and missing flags of a table's columns, as `FeatureStatistics.standardise` gives them."""

    mean: Tensor
    deviation: Tensor
    flagged: Tensor

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(statistics.mean.astype(np.float64)))
        self.register_buffer("deviation", torch.from_numpy(statistics.deviation.astype(np.float64)))
        self.register_buffer("flagged", torch.from_numpy(statistics.known < statistics.patients))

    def forward(self, columns: Tensor) -> Tensor:
        """`(N, 2C)` of columns `(N, C)`, NaN where missing."""
        missing = columns.isnan()
        z = (torch.where(missing, self.mean, columns.double()) - self.mean) / self.deviation
        flags = missing & self.flagged
        return torch.cat([z.clamp(-MAX_Z_SCORE, MAX_Z_SCORE).float(), flags.float()], dim=1)


class Predictor(nn.Module):
    """Inputs in the study's units to predictions.

    Its inputs are the modalities in the task's order, a table as its columns with NaN where missing, and `present`
    `(N, M)`, 1 where a patient has the modality. Its outputs are a prediction for each target, and of a time to event
    the risk by the end of each interval.

    Args:
        model: The network, its task and its statistics.
    """

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.names = list(model.task.modalities)
        self.targets: Mapping[str, Target] = model.task.targets
        features = {name: Standardisation(model.statistics.features[name]) for name in model.task.tables}
        self.standardisation = nn.ModuleDict(features)
        self.network = build_network(model.task, model.config)
        self.network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in model.weights.items()})
        self.requires_grad_(False)
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Predictions in the order of `output_names`, of the modalities and of presence."""
        *modalities, present = inputs
        read = {
            name: self.standardisation[name](value) if name in self.standardisation else value
            for name, value in zip(self.names, modalities, strict=True)
        }
        outputs = self.network(read, present)
        made: list[Tensor] = []
        for name, target in self.targets.items():
            made.append(target.predict(outputs[name]))
            if isinstance(target, TimeToEvent):
                made.append(torch.stack([target.risk_by(outputs[name], days) for days in target.edges_days], dim=1))
        return tuple(made)

    @property
    def input_names(self) -> list[str]:
        """Of its inputs, in their order."""
        return [*self.names, PRESENT]

    @property
    def output_names(self) -> list[str]:
        """Of its outputs, in their order."""
        names: list[str] = []
        for name, target in self.targets.items():
            names += [name, f"{name}_risk_by_interval"] if isinstance(target, TimeToEvent) else [name]
        return names


def example_inputs(model: TrainedModel, patients: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Random inputs of some patients, tables about their training means and with gaps, all modalities present."""
    rng = torch.Generator().manual_seed(seed)
    made = [_example(kind, name, model, patients, rng) for name, kind in model.task.modalities.items()]
    return (*made, torch.ones(patients, len(made)))


def _example(kind: Modality, name: str, model: TrainedModel, patients: int, rng: torch.Generator) -> Tensor:
    standard_normal = torch.randn((patients, *kind.shape), generator=rng)
    if not isinstance(kind, Table):
        return standard_normal
    statistics = model.statistics.features[name]
    columns = (
        standard_normal * torch.from_numpy(statistics.deviation).float() + torch.from_numpy(statistics.mean).float()
    )
    gaps = torch.rand(columns.shape, generator=rng) < 0.2
    return torch.where(gaps, torch.full_like(columns, torch.nan), columns)


def each_subset(inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """The same inputs with each subset of the modalities present, none of them among these."""
    *modalities, present = inputs
    for there in itertools.product((0.0, 1.0), repeat=present.shape[1]):
        yield (*modalities, torch.tensor(there).expand(len(present), -1).contiguous())


def compare(predictor: Predictor, run: Callable[[Sequence[Tensor]], Sequence[Any]], model: TrainedModel) -> float:
    """The largest difference of two computations over every subset of the modalities.

    Raises:
        CenterError: If it is larger than predictions may differ.
    """
    worst = 0.0
    for inputs in each_subset(example_inputs(model, PATIENTS, seed=1)):
        with torch.no_grad():
            wanted = [np.asarray(value) for value in predictor(*inputs)]
        pairs = zip(run(inputs), wanted, strict=True)
        worst = max(worst, *(float(np.abs(np.asarray(got) - want).max()) for got, want in pairs))
    if worst > MAX_DIFFERENCE or np.isnan(worst):
        raise CenterError(
            what="the exported network does not predict as the study's does",
            found=f"predictions that differ by {worst:.3g}",
            expected=f"at most {MAX_DIFFERENCE:g}",
            fix="nothing was written; report it with the study's settings",
            exit_code=ExitCode.RUN_FAILED,
        )
    return worst
