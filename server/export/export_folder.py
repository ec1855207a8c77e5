"""Folder of an exported network: written whole beside its place, and moved there at the end."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from server.errors import CenterError, ExitCode
from shared_models.atomic_files import DRAFT_PREFIX
from shared_models.trained_model import write_model

if TYPE_CHECKING:
    from server.study.results.schema import Results
    from shared_models.trained_model import TrainedModel

Format = Literal["safetensors", "monai-bundle", "onnx", "torch-export"]
FORMATS: tuple[Format, ...] = ("safetensors", "monai-bundle", "onnx", "torch-export")
SAFETENSORS = "model.safetensors"


def export(model: TrainedModel, results: Results | None, how: Format, folder: Path) -> list[str]:
    """Writes a network in one of the formats, with its documents, and says what is to be known of it.

    Args:
        model: The network.
        results: Of its study, for the model card; None where there are none.
        how: The format.
        folder: A new one.

    Raises:
        CenterError: If the folder is there, a library is missing, or what was written predicts something else.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CenterError(
            what="an exported network needs a folder of its own",
            where=folder,
            found="files already",
            fix="choose a new folder, or move this one away",
            exit_code=ExitCode.USAGE,
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=DRAFT_PREFIX, dir=folder.parent))
    try:
        remarks = _write(model, results, how, draft)
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return remarks


def _write(model: TrainedModel, results: Results | None, how: Format, folder: Path) -> list[str]:
    from server.export.documents import write_documents
    from server.export.monai_bundle import write_bundle
    from server.export.onnx_file import write_onnx
    from server.export.torch_program import write_program

    if how == "monai-bundle":
        return write_bundle(model, results, folder)
    write_documents(model, results, folder)
    if how == "onnx":
        return write_onnx(model, folder)
    if how == "torch-export":
        return write_program(model, folder)
    write_model(model, folder / SAFETENSORS)
    return [f"{SAFETENSORS}: for `python -m client predict` and `validate` at any hospital"]
