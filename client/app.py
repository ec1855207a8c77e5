"""The hospital's side of a study: count, train, evaluate. Patients stay here; sums and weights leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.clientapp import ClientApp

from client import comparison, external_validation, out_of_fold, secure_aggregation
from client.cohort.description import data_fingerprint, describe
from client.cohort.splits import name_of_tested
from client.differences import tell_differences
from client.gate import answers
from client.governance.scorings import count_scoring
from client.personal_network import test_own_network
from client.round_training import begin_rule, charged_optimizer, epsilon_spent, require_bounded
from client.session import StudySession, least_told, load_weights
from client.site_result.files import store_result
from client.subgroup_counts import count_tested, own_metrics, somebody_in_subgroups
from client.too_few import tell_too_few
from client.training.combat import store_sums
from client.training.dataset import PatientDataset, feature_statistics, select_patients
from client.training.fedbn import store_local_layers
from client.training.importance import importance_of
from client.training.initial_weights import store_initial
from client.training.loop import fit, predict
from client.training.optimizer_state import stored_moments
from client.training.oversampling import oversample
from client.training.scores import pack_scores
from client.training.shapley import require_shap
from shared_models.description import Description
from shared_models.folds import fold_of
from shared_models.importance import Importance
from shared_models.installation import hardware, software
from shared_models.messages import (
    ConfirmReply,
    ConfirmRequest,
    DealReply,
    DealRequest,
    EnrolReply,
    EnrolRequest,
    EvaluateComparisonReply,
    EvaluateComparisonRequest,
    EvaluateExternalReply,
    EvaluateExternalRequest,
    EvaluateTestReply,
    EvaluateTestRequest,
    EvaluateValidationReply,
    EvaluateValidationRequest,
    InitialWeightsReply,
    InitialWeightsRequest,
    OpenReply,
    OpenRequest,
    PrepareReply,
    PrepareRequest,
    TrainReply,
    TrainRequest,
)
from shared_models.messages.bfloat16 import change_of
from shared_models.metrics.summary import site_metrics
from shared_models.schedules import at_round
from shared_models.secure_aggregation.choice import sends_changes, uses_secure_aggregation
from shared_models.trained_parts import build_network, frozen_names, trained_state

app = ClientApp()
Scores = Mapping[str, Any]
DEFAULT_THRESHOLD = 0.5


@app.query("prepare")
@answers(PrepareRequest)
def prepare(study: StudySession, request: PrepareRequest) -> PrepareReply:
    """Counts patients and sums features over training patients, before round 1."""
    del request
    out_of_fold.forget(study)
    require_shap(study.config)
    cohort, task = study.cohort, study.task
    train = cohort.parts["train"]
    if study.config.harmonised_tables:
        store_sums(cohort, task, study.harmonisation_file)
    learned = train if study.trains else train[:0]
    with_modality = enumerate(task.modalities)
    return PrepareReply(
        trains=study.trains,
        patients={part: len(rows) for part, rows in cohort.parts.items()},
        modalities={name: int(cohort.count_with_modality(train, index)) for index, name in with_modality},
        excluded=len({exclusion.patient for exclusion in cohort.excluded}),
        features=feature_statistics(cohort, task, learned, least_told(study)),
        counts={name: target.counts(cohort.truths[name][learned]) for name, target in task.targets.items()},
        endpoints={name: study.site.targets[name].definition for name in task.targets if name in study.site.targets},
        subgroups=somebody_in_subgroups(study),
    )


@app.query("weights")
@answers(InitialWeightsRequest)
def initial_weights(study: StudySession, request: InitialWeightsRequest) -> InitialWeightsReply:
    """Keeps the weights that stay as they are, and holds those of a file against the hash that the site approved."""
    frozen = frozen_names(
        load_weights(build_network(study.task, study.config), request.model, study.task), study.config
    )
    return InitialWeightsReply(kept=store_initial(request, frozen, study.config, study.initial_weights_file))


@app.train()
@answers(TrainRequest)
def train(study: StudySession, request: TrainRequest) -> TrainReply:
    """Scores the received model on validation patients, then trains it on training patients."""
    if request.round == 1:
        tell_differences(study)
        tell_too_few(study)
    model, features = study.model(request.round - 1), study.frozen.features
    validation = select_patients(study.cohort, "validation", study.task, features)
    scores = predict(model, validation, study.task) if len(validation) else {}
    summaries = pack_scores(validation, study.task, scores)

    seed, cohort, config = study.seed(request.round), study.cohort, at_round(study.config, request.round)
    if config.oversampling == "smotenc":
        cohort = oversample(cohort, study.task, features, seed)
    patients = select_patients(cohort, "train", study.task, features, seed)
    half = begin_rule(study, model, request)
    optimizer, loader, moments = charged_optimizer(study, model, patients, request.round, half)
    folder = study.optimizer_folder if config.optimizer_state == "local" else None
    with stored_moments(moments, folder, request.round):
        loss = fit(model, optimizer, loader, study.task, config, seed, study.class_weights())
        if not uses_secure_aggregation(config):  # there, a refusal would tell the center of one site what sums hide
            require_bounded(model, config, request.round)

    if study.config.normalisation == "local":
        store_local_layers(model, study.normalisation_folder, request.round)
    weights = {name: value.detach().cpu().numpy() for name, value in trained_state(model).items()}
    return TrainReply(
        model=change_of(weights, request.model) if sends_changes(study.config) else weights,
        patients=len(study.cohort.parts["train"]),
        loss=loss if study.config.privacy == "none" else float("nan"),  # no noise covers a loss
        validation=summaries,
        rule_change=half.finish(request.round) if half else {},
        steps=half.steps if half else 0,
        spent=epsilon_spent(study),
    )


@app.evaluate("validation")
@answers(EvaluateValidationRequest)
def evaluate_validation(study: StudySession, request: EvaluateValidationRequest) -> EvaluateValidationReply:
    """Scores the received model on validation patients; their sums choose the best round and the threshold."""
    patients, scores = _score(study, request.round, "validation")
    return EvaluateValidationReply(validation=pack_scores(patients, study.task, scores))


@app.evaluate("test")
@answers(EvaluateTestRequest)
def evaluate_test(study: StudySession, request: EvaluateTestRequest) -> EvaluateTestReply:
    """Scores the received model on test patients at the thresholds it was sent."""
    if not study.trains:
        tell_differences(study)
    patients, scores = _score(study, request.round, "test")
    cuts = {name: request.thresholds.get(name, DEFAULT_THRESHOLD) for name in study.task.targets}
    metrics = {
        name: site_metrics(study.task.targets[name], predicted, patients.known(name), cuts[name], study.config.seed)
        for name, predicted in scores.items()
    }
    by_subgroup = own_metrics(study, patients, scores, request.thresholds, DEFAULT_THRESHOLD)
    store_result(study, request, patients, scores, metrics)
    nothing, fold = Description.empty(study.task), fold_of(study.config)
    described = describe(study.cohort, study.task, least_told(study)) if fold is None or fold.number == 1 else nothing
    lost = importance_of(study.model(request.round), patients, scores, study.task, study.config, study.seed(0))
    # who they are is described once a study: what is withheld would follow from others
    own = pack_scores(patients, study.task, scores) | described.pack() | count_tested(study, patients, scores)
    own |= lost.pack()
    none = pack_scores(patients, study.task, {}) | nothing.pack() | count_tested(study, patients, {})
    none |= Importance.empty(study.task, study.config).pack()
    internal, external = (own, none) if study.trains else (none, own)
    tested = name_of_tested(study.site, study.config)
    folds, in_sum = out_of_fold.count_fold(study, own, metrics), uses_secure_aggregation(study.config)
    return EvaluateTestReply(
        test=internal if in_sum else folds.of_this_fold(internal),
        external=external,
        all_folds={} if in_sum else folds.statistics,
        metrics={name: own for name, own in metrics.items() if name not in folds.silent} | by_subgroup,
        personal=test_own_network(study, study.model(request.round), request, cuts),
        out_of_fold=folds.metrics,
        scorings=count_scoring(study.site, tested, study.config.study, request.question),
        provenance={
            "fingerprint": data_fingerprint(study.cohort, study.task, study.site.state_dir),
            "software": software(),
            "hardware": hardware(),
        },
    )


@app.evaluate("external")
@answers(EvaluateExternalRequest)
def evaluate_external(study: StudySession, request: EvaluateExternalRequest) -> EvaluateExternalReply:
    """Scores a finished network on all patients of a site that was not in its study; nothing is trained."""
    return external_validation.evaluate(study, request)


@app.evaluate("comparison")
@answers(EvaluateComparisonRequest)
def evaluate_comparison(study: StudySession, request: EvaluateComparisonRequest) -> EvaluateComparisonReply:
    """Scores two finished networks on the same test patients; nothing is trained."""
    return comparison.evaluate(study, request)


@app.query("enrol")
@answers(EnrolRequest)
def enrol(study: StudySession, request: EnrolRequest) -> EnrolReply:
    """Before the first sum: says who this site is, and makes keys."""
    return secure_aggregation.enrol(study, request)


@app.query("deal")
@answers(DealRequest)
def deal(study: StudySession, request: DealRequest) -> DealReply:
    """Before the first sum: gives each other site a share of what this site's masks are made of, encrypted for it."""
    return secure_aggregation.deal(study, request)


@app.query("confirm")
@answers(ConfirmRequest)
def confirm(study: StudySession, request: ConfirmRequest) -> ConfirmReply:
    """After a question: agrees on whom its sum is over."""
    return secure_aggregation.confirm(study, request)


@app.query("open")
@answers(OpenRequest)
def open_sum(study: StudySession, request: OpenRequest) -> OpenReply:
    """Then: gives the shares that open the sum, and nothing but the sum."""
    return secure_aggregation.open_sum(study, request)


def _score(study: StudySession, server_round: int, part: str) -> tuple[PatientDataset, Scores]:
    """The patients of a part, and the received model's scores of them by target; none where there are no patients."""
    patients = select_patients(study.cohort, part, study.task, study.frozen.features)
    return patients, predict(study.model(server_round), patients, study.task) if len(patients) else {}
