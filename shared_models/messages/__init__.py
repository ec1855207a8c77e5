"""Messages between center and site: one frozen dataclass for each request and each reply.

`pack` makes Flower's records of one, `unpack` checks what has arrived. In the order of a study: `prepare`, `train` in
each round, `evaluate.validation`, `evaluate.test`; with secure sums, each stands between `keys` and `shares` before it
and `unmask` after it.
"""

from shared_models.messages.arrays import Arrays
from shared_models.messages.fields import claimed_round
from shared_models.messages.payload import Payload, Reply, Request
from shared_models.messages.secure import (
    JoinSum,
    KeysReply,
    KeysRequest,
    MaskedReply,
    SharesReply,
    SharesRequest,
    UnmaskReply,
    UnmaskRequest,
)
from shared_models.messages.statistics import StudyStatistics
from shared_models.messages.study import (
    EVALUATE_TEST,
    EVALUATE_VALIDATION,
    PREPARE,
    TRAIN,
    EvaluateTestReply,
    EvaluateTestRequest,
    EvaluateValidationReply,
    EvaluateValidationRequest,
    ModelRequest,
    PrepareReply,
    PrepareRequest,
    TrainReply,
    TrainRequest,
)

__all__ = [
    "EVALUATE_TEST",
    "EVALUATE_VALIDATION",
    "PREPARE",
    "TRAIN",
    "Arrays",
    "EvaluateTestReply",
    "EvaluateTestRequest",
    "EvaluateValidationReply",
    "EvaluateValidationRequest",
    "JoinSum",
    "KeysReply",
    "KeysRequest",
    "MaskedReply",
    "ModelRequest",
    "Payload",
    "PrepareReply",
    "PrepareRequest",
    "Reply",
    "Request",
    "SharesReply",
    "SharesRequest",
    "StudyStatistics",
    "TrainReply",
    "TrainRequest",
    "UnmaskReply",
    "UnmaskRequest",
    "claimed_round",
]
