"""A site's own network in a study with `personal`: trained at the end, retained there, tested beside the study's.

It lies in `state_dir/SITE/personal/STUDY.safetensors`, in the format of an exported network. Its metrics on the test
patients leave as those of the study's network do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from safetensors.numpy import save
from torch import nn

from client.cohort.splits import name_of_tested
from client.governance.scorings import count_scoring
from client.private_files import write_private
from client.session import StudySession
from client.training.dataset import select_patients
from client.training.loop import predict
from client.training.oversampling import oversample
from client.training.personal import learnable, train_own, without_labels
from shared_models.messages import Arrays, EvaluateTestRequest
from shared_models.messages.arrays import hash_arrays
from shared_models.metrics.summary import Metrics, site_metrics

log = logging.getLogger("client")
FORMAT, FORMAT_VERSION = "breast-federation model", "1"


def test_own_network(
    study: StudySession, model: nn.Module, request: EvaluateTestRequest, thresholds: Mapping[str, float]
) -> dict[str, Metrics]:
    """Trains the site's own network, keeps it, and measures it on test patients at the study's thresholds, by target.

    Args:
        study: The study.
        model: Its network, as the site tests it.
        request: What the center asks.
        thresholds: Of each target.

    Returns:
        Nothing where the study has `personal = "off"`, or this site does not train; of the targets that it has too few
        training patients to learn by itself none, which its log says.
    """
    config, task = study.config, study.task
    if config.personal == "off" or not study.trains:
        return {}
    features, cohort, seed = study.frozen.features, study.cohort, study.seed(config.rounds + 1)
    known = {name: truth[cohort.parts["train"]] for name, truth in cohort.truths.items()}
    learned = learnable(known, task, study.site.policy.minimum_count)
    if lacking := {*task.targets} - {*learned}:
        log.warning(_TOO_FEW, config.study, ", ".join(sorted(lacking)), study.site.policy.minimum_count)
    if not learned:
        return {}
    if config.oversampling == "smotenc":
        cohort = oversample(cohort, task, features, seed)
    train = without_labels(select_patients(cohort, "train", task, features, seed), lacking)
    parts = {"train": train, "validation": select_patients(study.cohort, "validation", task, features)}
    own = train_own(model, parts, task, config, seed, study.class_weights())
    arrays = {name: value.detach().cpu().numpy() for name, value in own.state_dict().items()}
    _store(arrays, study, request)
    count_scoring(study.site, name_of_tested(study.site, config), config.study, hash_arrays(arrays))
    tested = select_patients(study.cohort, "test", task, features)
    scores = predict(own, tested, task) if len(tested) else {}
    return {
        name: site_metrics(task.targets[name], scores[name], tested.known(name), thresholds[name], config.seed)
        for name in learned
        if name in scores
    }


_TOO_FEW = (
    "study %s: this site has no network of its own for %s: fewer than %d of its training patients have one of the "
    "outcomes; the study's network is used there"
)


def _store(weights: Arrays, study: StudySession, request: EvaluateTestRequest) -> None:
    """Stores the network with all that turns a patient's data into its input."""
    arrays = {f"model:{name}": array for name, array in weights.items()}
    arrays |= {f"statistics:{name}": array for name, array in request.statistics.items()}
    facts = {
        "config": study.config.to_flat(),
        "round": request.round,
        "thresholds": dict(request.thresholds),
        "trained_at": [study.site.site],
        "package_version": version("breast-federation"),
        "withdrawn": {},
    }
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": json.dumps(facts)}
    write_private(study.own_network_file, save({n: np.asarray(a, order="C") for n, a in arrays.items()}, metadata))
