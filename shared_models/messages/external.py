"""Message of an external validation: a finished network, scored at a hospital that was not in its study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shared_models.messages.arrays import Arrays, hash_arrays
from shared_models.messages.fields import MAX_SUM, Named, Tensors, number, text, whole
from shared_models.messages.parts import MAX_NAME
from shared_models.messages.payload import Payload, Reply, carries, leaves
from shared_models.messages.replies import MAX_SCORINGS, PATIENTS
from shared_models.messages.requests import ModelRequest, ranges_named

EVALUATE_EXTERNAL = "evaluate.external"


@dataclass(frozen=True, kw_only=True)
class EvaluateExternalReply(Reply):
    """How a finished network does on all of a site's patients; the site was not in its study."""

    WHEN: ClassVar[str] = "in an external validation, a study of its own"

    patients: int = leaves(PATIENTS, "how many patients with a known outcome were scored", "the results say so")
    modalities: Mapping[str, int] = leaves(
        Named(PATIENTS), "how many of them have each modality", "the results say what the network was given"
    )
    excluded: int = leaves(
        PATIENTS, "how many patients are excluded because their files cannot be used", "the results say so"
    )
    external: Arrays = leaves(
        Tensors(MAX_SUM),
        "scores of all patients with a known outcome, counted in bins and pairs; how many patients have which outcome, "
        "and how many are left out and why; sums of the columns of tables",
        "the metrics of all hospitals of the validation, the flow of patients and their characteristics",
    )
    metrics: Mapping[str, Mapping[str, float]] = leaves(
        Named(number(-MAX_SUM, MAX_SUM, nan=True), deep=True),
        "its own metrics on these patients, rates in steps of five patients, AUC and C-index in steps that hide one "
        "patient, all else to two digits, where each class has `minimum_count` patients or more",
        "the results list them by hospital",
    )
    provenance: Mapping[str, str] = leaves(
        Named(text(MAX_NAME)),
        "a keyed hash of the data that were read, with a secret of the hospital that never leaves; versions of this "
        "package, of Python and of PyTorch; the kind of processor and of GPU",
        "the results list them",
        default_factory=dict,
    )
    scorings: int = leaves(
        whole(0, MAX_SCORINGS),
        "how many networks, of any study, have been scored on these patients",
        "the results say how often they were looked at",
        default=0,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateExternalRequest(ModelRequest[EvaluateExternalReply]):
    """Asks a site that was not in a study to score its finished network; nothing is trained."""

    KIND: ClassVar[str] = EVALUATE_EXTERNAL
    REPLY: ClassVar[type[Payload]] = EvaluateExternalReply

    thresholds: Mapping[str, float] = carries(
        Named(number(0, 1)), "the decision threshold of each target that has one, as the study chose it"
    )

    @property
    def question(self) -> str:
        """See `Request`; with the thresholds and the statistics, as a site approves it."""
        return fingerprint(self.model, self.statistics, self.thresholds, self.score_ranges)


def fingerprint(
    weights: Arrays, statistics: Arrays, thresholds: Mapping[str, float], score_ranges: Arrays | None = None
) -> str:
    """SHA-256 of a network with its standardisation, thresholds and ranges of scores, in 64 hexadecimal digits."""
    named = {f"weights {name}": array for name, array in weights.items()}
    named |= {f"statistics {name}": array for name, array in statistics.items()}
    named |= ranges_named(score_ranges or {})
    return hash_arrays(named | {f"threshold {name}": np.array(float(value)) for name, value in thresholds.items()})
