"""External validation of a finished network at the center: asked for, received, and added up over all hospitals.

Each hospital's answer is a file in the validation's folder, whether it came over the protocol or by hand, and the
results are of all files there. They hold what a study's results hold of sites that do not train.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from flwr.serverapp import Grid

from server.errors import ExitCode
from server.study import scoring
from server.study.enrolment import Enrolment
from server.study.exchange import Answer, StudyError, log_problems, wait_for_sites
from server.study.results.contents import make_results
from server.study.results.results_file import read_results
from server.study.results.schema import ExternalValidation, Results
from server.study.secure_aggregation.secure_exchange import exchange
from server.study.weights.checkpoint import BEST, LAST, Checkpoint
from shared_models.atomic_files import write_atomically
from shared_models.description import Description
from shared_models.external_validation import ValidationFile, read_validation, validation_settings, write_validation
from shared_models.messages import EvaluateExternalReply, EvaluateExternalRequest, EvaluateTestReply
from shared_models.study_settings import StudySettings
from shared_models.trained_model import TrainedModel, read_model

log = logging.getLogger("server")
ANSWERS = "sites"


def find_network(results_dir: Path, study: str, sha256: str) -> TrainedModel:
    """The network of a finished study that a validation names.

    Raises:
        StudyError: If neither of the study's checkpoints is that network.
    """
    files = [file for name in (BEST, LAST) if (file := results_dir / study / name).exists()]
    for file in files:
        if (model := read_model(file)).sha256 == sha256:
            return model
    where = f"{results_dir / study}: " + ("neither checkpoint is" if files else "there is no checkpoint, so none is")
    msg = f"{where} the network that is validated, SHA-256 {sha256}. Restore it, or start another validation."
    raise StudyError(msg, exit_code=ExitCode.FILE)


def ask_sites(grid: Grid, config: StudySettings, model: TrainedModel, folder: Path) -> dict[str, str]:
    """Asks the sites of a validation, stores their answers, and says why others gave none.

    Raises:
        StudyError: If no site answered.
    """
    wait_for_sites(grid, config)
    request = EvaluateExternalRequest(
        round=model.round,
        model=model.weights,
        statistics=model.statistics.pack(),
        thresholds=model.thresholds,
        score_ranges=model.score_ranges,
    )
    answers, _ = exchange(grid, list(config.expected_sites), request, config, group="external")
    problems = log_problems(answers, config)
    for answer in answers:
        if answer.reply is not None:
            store(file_of(model, answer.site, answer.reply), folder)
    if len(problems) == len(answers):
        reasons = "; ".join(f"{site}: {why}" for site, why in problems.items())
        msg = f"no site has scored the network of {model.config.study}. {reasons}"
        raise StudyError(msg)
    return problems


def file_of(model: TrainedModel, site: str, reply: EvaluateExternalReply) -> ValidationFile:
    """A hospital's answer as a file."""
    return ValidationFile(
        model.config.study, model.sha256, site, reply.provenance.get("software", version("breast-federation")), reply
    )


def store(file: ValidationFile, folder: Path) -> Path:
    """Keeps a hospital's answer; an earlier one of the same hospital is replaced."""
    path = folder / ANSWERS / f"{file.site}.json"
    write_atomically(path, write_validation(file))
    return path


def take_by_hand(paths: Sequence[Path], model: TrainedModel, folder: Path) -> list[str]:
    """Stores files that hospitals sent by hand, and returns the hospitals' names.

    Raises:
        ModelFileError: If one cannot be used.
        StudyError: If one is of another network, or of a site that trained it. Then none is stored.
    """
    files = [(path, read_validation(path)) for path in paths]
    for path, file in files:
        require_fits(file, model, str(path))
    for _, file in files:
        store(file, folder)
    return [file.site for _, file in files]


def require_fits(file: ValidationFile, model: TrainedModel, where: str) -> None:
    """Refuses an answer about another network, or of a site that trained this one, or that its task does not have.

    Raises:
        StudyError: If so.
    """
    wrong = ""
    if (file.study, file.sha256) != (model.config.study, model.sha256):
        wrong = f"it is of the network {file.sha256[:12]} of {file.study}, not of {model.sha256[:12]}"
    elif file.site in model.trained_at:
        wrong = f"{file.site} trained the network: its patients are no external validation"
    else:
        try:
            unpack(file, model)
        except ValueError as error:
            wrong = str(error)
    if wrong:
        msg = f"{where}: the validation cannot be used: {wrong}. Ask the hospital for the right file."
        raise StudyError(msg, exit_code=ExitCode.FILE)


def unpack(file: ValidationFile, model: TrainedModel) -> tuple[scoring.Summaries, Description]:
    """What an answer adds up.

    Raises:
        ValueError: If it is not of this network's task.
    """
    config = validation_settings(model, [file.site])
    return scoring.unpack(file.reply.external, model.task, config), Description.unpack(file.reply.external, model.task)


def validation_results(model: TrainedModel, folder: Path, problems: Mapping[str, str]) -> Results:
    """Results of all hospitals whose answers are in the folder, as of a study in which none trained.

    Raises:
        StudyError: If an answer there cannot be used.
    """
    files = [read_validation(path) for path in sorted((folder / ANSWERS).glob("*.json"))]
    return results_of(files, model, problems, str(folder / ANSWERS))


def results_of(
    files: Sequence[ValidationFile], model: TrainedModel, problems: Mapping[str, str], where: str
) -> Results:
    """Results of some answers, as of a study in which none of the hospitals trained.

    Args:
        files: The answers.
        model: The network.
        problems: Why other hospitals gave none.
        where: Where the answers are, for messages.

    Raises:
        StudyError: If one cannot be used.
    """
    for file in files:
        require_fits(file, model, where)
    config = validation_settings(model, sorted({*problems, *(file.site for file in files)}))
    enrolled = {
        file.site: Enrolment(
            trains=False,
            patients={"train": 0, "validation": 0, "test": file.reply.patients},
            modalities={name: file.reply.modalities.get(name, 0) for name in model.task.modalities},
            excluded=file.reply.excluded,
        )
        for file in files
    }
    absent = {site: why for site, why in problems.items() if site not in enrolled}
    checkpoint = Checkpoint(config.to_flat(), model.round, model.weights, model.statistics.pack(), enrolled, absent)
    pooled = scoring.pool({file.site: file.reply.external for file in files}, model.task, config)
    results = make_results(
        model.task,
        config,
        checkpoint,
        checkpoint,
        {name: (value, f"of the study {model.config.study}") for name, value in model.thresholds.items()},
        [Answer(file.site, _tested(file.reply)) for file in files],
        (scoring.unpack({}, model.task, config), pooled),
        absent,
        described=({}, {file.site: unpack(file, model)[1] for file in files}),
    )
    selected = f"the study {model.config.study}; in a validation nothing is trained or selected"
    return results.model_copy(update={"selected_by": selected, "unscored": "", "checkpoints": {}})


def _tested(reply: EvaluateExternalReply) -> EvaluateTestReply:
    return EvaluateTestReply(
        test={},
        external=reply.external,
        metrics=reply.metrics,
        provenance=reply.provenance,
        scorings=reply.scorings,
    )


def add_to_study(validated: Results, model: TrainedModel, results_file: Path) -> Results | None:
    """The study's results with the validation as a section of them; None where the study has none.

    Raises:
        StudyError: If they cannot be read.
    """
    if not results_file.exists():
        log.warning("%s: there are no results of the study to add the validation to", results_file)
        return None
    section = ExternalValidation(
        sha256=model.sha256,
        round=model.round,
        finished=validated.finished,
        sites=validated.sites,
        targets=validated.targets,
        problems=validated.problems,
    )
    return read_results(results_file).model_copy(update={"external_validation": section})
