"""Learning-rate schedules and whatever else of a study's settings depends on the round.

Pure functions of settings and round: nothing about a schedule travels or is remembered, every site and a resumed study
come to the same numbers.
"""

from __future__ import annotations

import math

from shared_models.study_settings import StudySettings


def at_round(config: StudySettings, server_round: int) -> StudySettings:
    """The settings as they are in one round, for the site's training: `learning_rate` follows its schedule."""
    return config.model_copy(update={"learning_rate": learning_rate(config, server_round)})


def learning_rate(config: StudySettings, server_round: int) -> float:
    """The sites' learning rate in a round, counted from 1.

    In the `warmup_rounds` it grows in equal steps and reaches `learning_rate` in the round after them. Over the rounds
    from there on, `cosine` is half a period that would reach 0 one round after the last (Loshchilov 2017,
    arXiv:1608.03983, without restarts), and `step` a tenth after half of them and a hundredth after three quarters.

    Example:
        >>> config = StudySettings(learning_rate=1.0, rounds=4, learning_rate_schedule="step")
        >>> [learning_rate(config, server_round) for server_round in (1, 2, 3, 4)]
        [1.0, 1.0, 0.1, 0.01]
    """
    if server_round <= config.warmup_rounds:
        return config.learning_rate * server_round / (config.warmup_rounds + 1)
    share = (server_round - 1 - config.warmup_rounds) / (config.rounds - config.warmup_rounds)  # of the rounds behind
    match config.learning_rate_schedule:
        case "cosine":
            return config.learning_rate * (1 + math.cos(math.pi * share)) / 2
        case "step":
            return config.learning_rate / (1 if share < 1 / 2 else 10 if share < 3 / 4 else 100)
        case "constant":
            return config.learning_rate
