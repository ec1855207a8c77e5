"""Settings of an external validation at the center, and files of hospitals that sent theirs by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import CenterError, ExitCode
from server.operations.center import Center
from server.study.external_validation import take_by_hand
from server.study.weights.checkpoint import only_run
from shared_models.external_validation import validation_settings
from shared_models.settings import nearest
from shared_models.trained_model import TrainedModel, read_model

if TYPE_CHECKING:
    from shared_models.study_settings import StudySettings


def validation_of(center: Center, study: str, checkpoint: str, sites: str) -> StudySettings:
    """The settings of a validation, as hospitals approve them.

    Raises:
        CenterError: If no site is named, or one trained in the study.
        ModelFileError: If the checkpoint cannot be used.
    """
    model = network_of(center, study, checkpoint)
    names = [name.strip() for name in sites.split(",") if name.strip()]
    trained = sorted({*names} & {*model.trained_at})
    if not names or trained:
        raise CenterError(
            what="hospitals that were not in the study must be named",
            where="--sites",
            found=f"{', '.join(trained)} trained in {study}" if trained else "none",
            expected="hospitals whose patients the network has never seen, or a file that they sent: --file",
            exit_code=ExitCode.USAGE,
        )
    return validation_settings(model, names)


def add_files(center: Center, study: str, checkpoint: str, files: Sequence[Path]) -> list[str]:
    """Adds files that hospitals sent to the study's results and report, and says what was done.

    Raises:
        ModelFileError: If a file, or the checkpoint, cannot be used.
        StudyError: If a file is of another network. Then none is added.
    """
    from server.report.validation_results import finish_validation

    model = network_of(center, study, checkpoint)
    folder = center.results / validation_settings(model, []).study
    with only_run(folder):
        names = take_by_hand(files, model, folder)
        finish_validation(model, center.results, {})
    return [f"Added the validation at {', '.join(names)} to {center.results / study}", f"Its own results: {folder}"]


def report_of(file: Path | None, checkpoint: Path | None) -> Path:
    """Writes the report of one hospital's validation.

    Raises:
        CenterError: If the file or the network is not named.
    """
    from server.report.validation_results import report_of_file

    if file is None or checkpoint is None:
        raise CenterError(
            what="a report of a hospital's validation needs two files",
            where="--file and --checkpoint",
            expected="the validation's JSON file, and the network that it is of",
            exit_code=ExitCode.USAGE,
        )
    return report_of_file(file, read_model(checkpoint))


def network_of(center: Center, study: str, checkpoint: str) -> TrainedModel:
    """The network of a finished study.

    Raises:
        CenterError: If the center has no such study, or one without that checkpoint.
        ModelFileError: If the checkpoint cannot be used.
    """
    path = center.results / study / f"{checkpoint}.safetensors"
    if not path.is_file():
        known = sorted(file.parent.name for file in center.results.glob(f"*/{path.name}"))
        raise CenterError(
            what=f"the center has no network of a study {study!r}",
            where=path,
            found="a study that has none" if path.parent.is_dir() else "no such study",
            fix=nearest(study, known) if known else "run a study to its end first: python -m server run STUDY.toml",
            exit_code=ExitCode.FILE,
        )
    return read_model(path)
