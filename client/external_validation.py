"""External validation of a finished network at a site: over the protocol, and by hand with the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flwr.app import RecordDict

from client.admission import AdmittedStudy
from client.cohort.description import data_fingerprint, describe
from client.cohort.splits import name_of_tested
from client.config.site import SiteConfig
from client.errors import ExitCode, SiteError
from client.governance.audit import record_sent
from client.governance.budget import trained_in
from client.governance.disclosure import disclose
from client.governance.policy_checks import check_policy
from client.governance.scorings import count_scoring
from client.private_files import write_private
from client.session import Received, StudySession, least_told, load_weights, open_session
from client.training.dataset import select_patients
from client.training.loop import predict
from client.training.scores import pack_scores
from shared_models.external_validation import ValidationFile, validation_settings, write_validation
from shared_models.installation import hardware, software
from shared_models.messages import EvaluateExternalReply, EvaluateExternalRequest
from shared_models.metrics.summary import site_metrics
from shared_models.trained_model import TrainedModel
from shared_models.trained_parts import build_network

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Validated:
    """A finished network on a site's patients.

    Attributes:
        exact: All digits, which stay at the site.
        sent: What may leave: no cell of few patients.
        file: What is sent by hand.
    """

    exact: EvaluateExternalReply
    sent: EvaluateExternalReply
    file: ValidationFile


def evaluate(study: StudySession, request: EvaluateExternalRequest) -> EvaluateExternalReply:
    """Scores the network on all patients with a known outcome."""
    cohort, task = study.cohort, study.task
    patients = select_patients(cohort, "test", task, study.frozen.features)
    scores = predict(study.model(request.round), patients, task) if len(patients) else {}
    tested = name_of_tested(study.site, study.config)
    return EvaluateExternalReply(
        patients=len(patients),
        modalities={
            name: int(cohort.count_with_modality(cohort.parts["test"], index))
            for index, name in enumerate(task.modalities)
        },
        excluded=len({exclusion.patient for exclusion in cohort.excluded}),
        external=pack_scores(patients, task, scores) | describe(cohort, task, least_told(study)).pack(),
        metrics={
            name: site_metrics(
                task.targets[name],
                predicted,
                patients.known(name),
                request.thresholds.get(name, DEFAULT_THRESHOLD),
                study.config.seed,
            )
            for name, predicted in scores.items()
        },
        scorings=count_scoring(study.site, tested, study.config.study, request.question),
        provenance={
            "fingerprint": data_fingerprint(cohort, task, study.site.state_dir),
            "software": software(),
            "hardware": hardware(),
        },
    )


def validate_by_hand(
    site: SiteConfig, model: TrainedModel, config_file: Path, data_root: Path | None = None
) -> Validated:
    """Scores a network of a file as the center would have it scored; what leaves is not noted yet.

    Raises:
        SiteError: If the data cannot be used, the policy does not allow it, or the network was trained here.
    """
    if site.site in model.trained_at or trained_in(site, model.config.study):
        raise SiteError(
            what="the network was trained on this site's patients, who are no external validation of it",
            where=f"site {site.site}, study {model.config.study}",
            found=f"trained at {', '.join(model.trained_at)}",
            expected="a site that was not in the study's training",
            fix="its figures on the site's test patients are in the study's results",
            exit_code=ExitCode.STUDY,
        )
    config = validation_settings(model, [site.site])
    check_policy(site, config, model.task)
    request = request_of(model)
    network = load_weights(build_network(model.task, config), model.weights, model.task)
    written = config_file.stat()
    place = (config_file, data_root, (written.st_mtime_ns, written.st_size))
    admitted = AdmittedStudy(config, site, model.task, place, RecordDict())
    session = open_session(admitted, Received(network, model.statistics))
    exact = evaluate(session, request)
    sent = disclose(exact, model.task, config, site.policy, summed=False)
    file = ValidationFile(model.config.study, model.sha256, site.site, sent.provenance["software"], sent)
    return Validated(exact, sent, file)


def request_of(model: TrainedModel) -> EvaluateExternalRequest:
    """What the center would ask of the site."""
    statistics = model.statistics.pack()
    return EvaluateExternalRequest(
        round=model.round,
        model=model.weights,
        statistics=statistics,
        thresholds=model.thresholds,
        score_ranges=model.score_ranges,
    )


def write_to_send(site: SiteConfig, model: TrainedModel, validated: Validated, path: Path) -> None:
    """Notes in the audit log what will leave, and writes the file.

    Raises:
        SiteError: If it cannot be noted, or not be written.
    """
    record_sent(site, validation_settings(model, [site.site]).study, request_of(model), validated.sent.pack())
    write_private(path, write_validation(validated.file))
