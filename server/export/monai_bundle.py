"""MONAI bundle of a network: metadata, an inference configuration, and the network as a program of torch.export.

The bundle needs MONAI and PyTorch, and nothing of this package: its `network_def` is the program, which takes the
modalities in order and the presence of each.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.export.documents import write_documents
from server.export.predictor import Predictor, example_inputs
from server.export.torch_program import FILE, write_program
from shared_models.trained_model import RESEARCH_ONLY

if TYPE_CHECKING:
    from server.study.results.schema import Results
    from shared_models.trained_model import TrainedModel

EXAMPLE = "example.npz"


def write_bundle(model: TrainedModel, results: Results | None, folder: Path) -> list[str]:
    """Writes the bundle's folders.

    Raises:
        CenterError: If the program does not predict as the study's network.
    """
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    remarks = write_program(model, folder / "models")
    predictor = Predictor(model)
    examples = dict(zip(predictor.input_names, (value.numpy() for value in example_inputs(model, 2)), strict=True))
    np.savez(folder / "docs" / EXAMPLE, **examples)  # type: ignore[arg-type]
    _write_json(folder / "configs" / "metadata.json", metadata(model, predictor))
    _write_json(folder / "configs" / "inference.json", inference(predictor))
    write_documents(model, results, folder / "docs")
    (folder / "LICENSE").write_text((folder / "docs" / "LICENSE").read_text(encoding="utf-8"), encoding="utf-8")
    how = "monai.bundle.run(config_file='configs/inference.json', bundle_root='.') predicts docs/example.npz"
    return [*remarks, f"MONAI bundle: {how}"]


def metadata(model: TrainedModel, predictor: Predictor) -> dict[str, Any]:
    """`metadata.json`."""
    examples = example_inputs(model, 1)
    inputs = {
        name: {"type": "tabular" if value.dim() == 2 else "image", "shape": ["N", *value.shape[1:]], "dtype": "float32"}
        for name, value in zip(predictor.input_names, examples, strict=True)
    }
    outputs = {name: {"type": "probabilities", "dtype": "float32"} for name in predictor.output_names}
    return {
        "version": model.package_version,
        "changelog": {model.package_version: f"round {model.round} of the study {model.config.study}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "name": model.config.study,
        "task": model.task.name,
        "description": f"Network of {model.task.name}, trained by federated learning. {RESEARCH_ONLY}.",
        "authors": "the hospitals and authors of the study, see docs/MODEL_CARD.md",
        "copyright": "see docs/MODEL_CARD.md; the code is Apache-2.0, see LICENSE",
        "intended_use": RESEARCH_ONLY,
        "sha256": model.sha256,
        "thresholds": dict(model.thresholds),
        "network_data_format": {"inputs": inputs, "outputs": outputs},
    }


def inference(predictor: Predictor) -> dict[str, Any]:
    """`inference.json`: predictions of the patients of an `.npz` file, printed as JSON."""
    taken = ", ".join(f"torch.from_numpy(@data['{name}'])" for name in predictor.input_names)
    named = f"dict(zip({predictor.output_names!r}, (value.tolist() for value in @predictions)))"
    return {
        "imports": ["$import json", "$import torch", "$import numpy as np"],
        "bundle_root": ".",
        "input_file": f"$@bundle_root + '/docs/{EXAMPLE}'",
        "network_def": f"$torch.export.load(@bundle_root + '/models/{FILE}').module()",
        "data": "$dict(np.load(@input_file))",
        "predictions": f"$@network_def({taken})",
        "run": [f"$print(json.dumps({named}))"],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
