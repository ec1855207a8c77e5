"""The hospital's side of a study: count, train, evaluate. Patients stay here; sums and weights leave."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.governance.ledger import charge
from client.governance.policy import ledger_of
from client.governance.small_cells import suppress_small_cells
from client.secure_sum import give_shares, offer_keys, share_secrets, summed
from client.session import (
    StudySession,
    numbers_of,
    open_session,
    receive_class_weights,
    receive_cohort,
    receive_model,
    receive_request,
    receive_statistics,
    sanitize_errors,
)
from client.training.combat import keep as keep_sums
from client.training.dataset import PatientDataset, feature_statistics, make_loader, select_patients
from client.training.dp.mechanism import PrivateOptimizer, mechanism, poisson_loader
from client.training.fedbn import keep
from client.training.loop import Optimizer, fit, make_optimizer, predict
from client.training.oversampling import oversample
from shared_models.messages import Arrays, pack_statistics, reply
from shared_models.metrics.summary import empty_summary, pack_summary, site_metrics, summarise
from shared_models.schedules import at_round

app = ClientApp()


@app.query("prepare")
@sanitize_errors
@summed
def prepare(message: Message, context: Context) -> Message:
    """Counts patients and sums features over training patients, before round 1."""
    study = open_session(context)
    cohort, task = study.cohort, study.task
    train = cohort.parts["train"]
    if study.config.harmonised_tables:
        keep_sums(cohort, task, study.harmonisation_file)
    learned = train if study.trains else train[:0]
    results = pack_statistics(feature_statistics(cohort, task, learned))
    results |= {f"counts.{name}": target.counts(cohort.truths[name][learned]) for name, target in task.targets.items()}
    numbers = {"trains": float(study.trains)}
    numbers |= {f"patients/{part}": float(len(rows)) for part, rows in cohort.parts.items()}
    numbers |= {
        f"modality/{name}": float(cohort.count_with_modality(train, index))
        for index, name in enumerate(task.modalities)
    }
    numbers["excluded"] = float(len({found.patient for found in cohort.excluded}))
    return Message(reply(results=results, numbers=numbers), reply_to=message)


@app.train()
@sanitize_errors
@summed
def train(message: Message, context: Context) -> Message:
    """Scores the received model on validation patients, then trains it on training patients."""
    started = time.monotonic()
    study = open_session(context)
    study.require_training()
    statistics, cohort = receive_statistics(study, message), receive_cohort(study, message)
    server_round = int(receive_request(message)["round"])
    model = receive_model(study, message, server_round - 1)

    validation = select_patients(cohort, "validation", study.task, statistics)
    scores = predict(model, validation, study.task) if len(validation) else {}
    results = _summaries(study, validation, scores, "validation")

    seed, config = study.seed(server_round), at_round(study.config, server_round)
    if config.oversampling == "smotenc":
        cohort = oversample(cohort, study.task, statistics, seed)
    patients = select_patients(cohort, "train", study.task, statistics, seed)
    weights = receive_class_weights(message)
    optimizer: Optimizer
    if config.privacy == "patient":
        asked = mechanism(config, len(patients), study.site.policy)
        charge(ledger_of(study.site), asked.charge(config, server_round), study.site.policy.limit)
        optimizer, loader = PrivateOptimizer(model, config, asked), poisson_loader(patients, asked)
    else:
        optimizer, loader = make_optimizer(model.parameters(), config), make_loader(patients, config, seed)
    loss = fit(model, optimizer, loader, study.task, config, seed, weights)

    if config.normalisation == "local":
        keep(model, study.normalisation_folder, server_round)
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    numbers = {
        "num-examples": float(len(study.cohort.parts["train"])),
        "train-loss": loss if config.privacy == "none" else float("nan"),  # no noise covers a loss
        "seconds": time.monotonic() - started,
    }
    return Message(reply(model=state, results=results, numbers=numbers), reply_to=message)


@app.evaluate("validation")
@sanitize_errors
@summed
def evaluate_validation(message: Message, context: Context) -> Message:
    """Scores the received model on validation patients; their sums choose the best round and the threshold."""
    return _evaluate(message, context, "validation")


@app.evaluate("test")
@sanitize_errors
@summed
def evaluate_test(message: Message, context: Context) -> Message:
    """Scores the received model on test patients at the threshold it was sent."""
    return _evaluate(message, context, "test")


@app.query("keys")
@sanitize_errors
def keys(message: Message, context: Context) -> Message:
    """Before a secure sum: announces this site and its new keys."""
    return Message(offer_keys(open_session(context), message, context), reply_to=message)


@app.query("shares")
@sanitize_errors
def shares(message: Message, context: Context) -> Message:
    """Before a secure sum: gives each other site a share of what this site's masks are made of, encrypted for it."""
    return Message(share_secrets(open_session(context), message, context), reply_to=message)


@app.query("unmask")
@sanitize_errors
def unmask(message: Message, context: Context) -> Message:
    """After a secure sum: gives the shares that open the sum, and nothing but the sum."""
    open_session(context)
    return Message(give_shares(message, context), reply_to=message)


def _evaluate(message: Message, context: Context, part: str) -> Message:
    study = open_session(context)
    request = receive_request(message)
    patients = select_patients(receive_cohort(study, message), part, study.task, receive_statistics(study, message))
    model = receive_model(study, message, int(request["round"]))
    scores = predict(model, patients, study.task) if len(patients) else {}
    numbers = {"num-examples": float(len(patients))}
    for name in scores if part == "test" else ():
        target = study.task.targets[name]
        threshold = float(request[f"threshold/{name}"]) if f"threshold/{name}" in request else 0.5
        exact = site_metrics(target, scores[name], patients.known(name), threshold, study.config.seed)
        numbers |= numbers_of(name, suppress_small_cells(exact, study.site.policy.minimum_count))
    return Message(reply(results=_summaries(study, patients, scores, part), numbers=numbers), reply_to=message)


def _summaries(study: StudySession, patients: PatientDataset, scores: Mapping[str, Any], part: str) -> Arrays:
    """Each target's additive statistics of a part, also where the site has nobody in it."""
    results: Arrays = {}
    for name, target in study.task.targets.items():
        summary = summarise(target, scores[name], patients.known(name)) if len(patients) else empty_summary(target)
        results |= pack_summary(summary, f"{part}.{name}")
    return results
