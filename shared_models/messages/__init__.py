"""Messages between center and site: one frozen dataclass for each request and each reply.

`pack` makes Flower's records of one, `unpack` checks what has arrived. In the order of a study: `prepare`, where the
first weights are of a file or stay as they are `weights`, `train` in each round, `evaluate.validation`,
`evaluate.test`; of finished studies' networks `evaluate.external` and
`evaluate.comparison`; with secure aggregation, `enrol` and `deal` before
the first, and `confirm` and `open` after each.
"""

from shared_models.messages.arrays import Arrays
from shared_models.messages.comparison import (
    EVALUATE_COMPARISON,
    EvaluateComparisonReply,
    EvaluateComparisonRequest,
)
from shared_models.messages.external import EVALUATE_EXTERNAL, EvaluateExternalReply, EvaluateExternalRequest
from shared_models.messages.fold import InFold, in_fold
from shared_models.messages.parts import claimed_round
from shared_models.messages.payload import Payload, Reply, Request
from shared_models.messages.release import FromRelease, differ, from_release, release_of
from shared_models.messages.replies import (
    EvaluateTestReply,
    EvaluateValidationReply,
    InitialWeightsReply,
    PrepareReply,
    TrainReply,
)
from shared_models.messages.requests import (
    EVALUATE_TEST,
    EVALUATE_VALIDATION,
    INITIAL_WEIGHTS,
    LACKS_WEIGHTS,
    PREPARE,
    TRAIN,
    EvaluateTestRequest,
    EvaluateValidationRequest,
    InitialWeightsRequest,
    ModelRequest,
    PrepareRequest,
    TrainRequest,
)
from shared_models.messages.secure import (
    ConfirmReply,
    ConfirmRequest,
    DealReply,
    DealRequest,
    EnrolReply,
    EnrolRequest,
    JoinSum,
    MaskedReply,
    OpenReply,
    OpenRequest,
)
from shared_models.messages.statistics import StudyStatistics

__all__ = [
    "EVALUATE_COMPARISON",
    "EVALUATE_EXTERNAL",
    "EVALUATE_TEST",
    "EVALUATE_VALIDATION",
    "INITIAL_WEIGHTS",
    "LACKS_WEIGHTS",
    "PREPARE",
    "TRAIN",
    "Arrays",
    "ConfirmReply",
    "ConfirmRequest",
    "DealReply",
    "DealRequest",
    "EnrolReply",
    "EnrolRequest",
    "EvaluateComparisonReply",
    "EvaluateComparisonRequest",
    "EvaluateExternalReply",
    "EvaluateExternalRequest",
    "EvaluateTestReply",
    "EvaluateTestRequest",
    "EvaluateValidationReply",
    "EvaluateValidationRequest",
    "FromRelease",
    "InFold",
    "InitialWeightsReply",
    "InitialWeightsRequest",
    "JoinSum",
    "MaskedReply",
    "ModelRequest",
    "OpenReply",
    "OpenRequest",
    "Payload",
    "PrepareReply",
    "PrepareRequest",
    "Reply",
    "Request",
    "StudyStatistics",
    "TrainReply",
    "TrainRequest",
    "claimed_round",
    "differ",
    "from_release",
    "in_fold",
    "release_of",
]
