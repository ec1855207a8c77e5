"""Program of torch.export of a network: one file that PyTorch runs without this package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from server.export.predictor import Predictor, compare, example_inputs

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from shared_models.trained_model import TrainedModel

FILE = "model.pt2"
MAX_PATIENTS = 4096


def export_program(model: TrainedModel, predictor: Predictor) -> ExportedProgram:
    """The network as a program, for any number of patients up to 4,096."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(
            predictor, example_inputs(model, 2), dynamic_shapes=patients_vary(predictor), strict=False
        )


def patients_vary(predictor: Predictor) -> dict[str, Any]:
    """That the first axis of each input is the patients."""
    patients = torch.export.Dim("patients", min=1, max=MAX_PATIENTS)
    return {"inputs": tuple({0: patients} for _ in predictor.input_names)}


def write_program(model: TrainedModel, folder: Path) -> list[str]:
    """Writes the file, compares it with the network, and says how far they differ.

    Raises:
        CenterError: If they differ.
    """
    predictor = Predictor(model)
    program = export_program(model, predictor)
    torch.export.save(program, folder / FILE)
    loaded = torch.export.load(folder / FILE).module()
    worst = compare(predictor, lambda inputs: loaded(*inputs), model)
    return [f"{FILE}: differs from the study's network by at most {worst:.1g}, on every subset of the modalities"]
