"""ONNX file of a network, and the comparison of what onnxruntime computes with what PyTorch does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from server.errors import CenterError
from server.export.predictor import Predictor, compare, example_inputs
from server.export.torch_program import export_program, patients_vary

if TYPE_CHECKING:
    from shared_models.trained_model import TrainedModel

FILE = "model.onnx"


def write_onnx(model: TrainedModel, folder: Path) -> list[str]:
    """Writes the file, compares it with PyTorch on every subset of the modalities, and says how far they differ.

    Raises:
        CenterError: If the libraries are not installed, or the two differ.
    """
    require_libraries()
    predictor = Predictor(model)
    program = export_program(model, predictor)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own code, and of names of axes
        program = program.run_decompositions(_decompositions())
        made = torch.onnx.export(
            program,
            example_inputs(model, 2),
            dynamo=True,
            input_names=predictor.input_names,
            output_names=predictor.output_names,
            dynamic_shapes=patients_vary(predictor),
            verbose=False,
        )
    assert made is not None
    made.save(folder / FILE, external_data=False)
    worst = compare(predictor, runner(folder / FILE), model)
    return [f"{FILE}: onnxruntime differs from PyTorch by at most {worst:.1g}, on every subset of the modalities"]


def runner(file: Path) -> Callable[[Sequence[Tensor]], list[np.ndarray[Any, Any]]]:
    """What computes predictions by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda inputs: session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})


def require_libraries() -> None:
    """Refuses to begin without the libraries of ONNX.

    Raises:
        CenterError: If one is not installed.
    """
    from importlib.util import find_spec

    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise CenterError(
            what="ONNX files need libraries that are not installed",
            found=f"no {', no '.join(missing)}",
            fix='python -m pip install ".[export]" --no-build-isolation, in the folder of this package',
        )


def _decompositions() -> dict[Any, Any]:
    """PyTorch's own, and that of a pooling to a given grid, which ONNX does not have."""
    table: Any = torch.export.default_decompositions()
    return {**dict(table.items()), torch.ops.aten._adaptive_avg_pool3d.default: _adaptive_average}


def _adaptive_average(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """The mean over each of a grid's boxes, which is that along one axis after the other."""
    for axis, cells in enumerate(grid, start=2):
        voxels = maps.shape[axis]
        if voxels == cells:
            continue
        cell, voxel = torch.arange(cells)[:, None], torch.arange(voxels)[None]
        first = torch.div(cell * voxels, cells, rounding_mode="floor")
        end = torch.div((cell + 1) * voxels + cells - 1, cells, rounding_mode="floor")
        inside = ((voxel >= first) & (voxel < end)).to(maps.dtype)
        shares = inside / inside.sum(dim=1, keepdim=True)
        maps = torch.matmul(maps.transpose(axis, -1), shares.t()).transpose(axis, -1)
    return maps.clone()
