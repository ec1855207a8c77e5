"""Inverse probability of censoring weights of one place's patients, from their rows.

Who is followed to the horizon, or had the event by then, stands for those like them who were lost: each weighs one over
the probability of not having been censored until then. That is right where censoring depends neither on the time of the
event nor on the risk.

References:
    Robins & Rotnitzky, Recovery of information and adjustment for dependent censoring using surrogate markers. AIDS
        Epidemiology (1992) 297-331.
    Uno, Cai, Tian & Wei, Evaluating prediction rules for t-year survivors with censored regression models. Journal of
        the American Statistical Association 102 (2007) 527-537, 10.1198/016214507000000149.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AtHorizon:
    """What is known of each of N patients at the horizon.

    Attributes:
        event: (N,) whether the event had happened.
        free: (N,) whether the patient was followed to it without the event. The others were censored before.
        weights: (N,) one over the probability of not being censored before; 0 for who was.
    """

    event: Flags
    free: Flags
    weights: Array


def at_horizon(time_days: Array, event: Flags, horizon_days: float) -> AtHorizon:
    """Outcomes at the horizon and their weights, by the Kaplan-Meier estimate of the patients' own censoring.

    Args:
        time_days: (N,) days to the event or to the end of observation.
        event: (N,) whether it is the event.
        horizon_days: an event on that day counts, as does follow-up to it.
    """
    by_then, free = event & (time_days <= horizon_days), ~event & (time_days >= horizon_days)
    free |= event & (time_days > horizon_days)
    uncensored = uncensored_until(time_days, event, np.minimum(time_days, horizon_days))
    known = by_then | free
    return AtHorizon(by_then, free, np.divide(1.0, uncensored, out=np.zeros(len(time_days)), where=known))


def uncensored_until(time_days: Array, event: Flags, until_days: Array) -> Array:
    """P(not censored before each of `until_days`), (M,): Kaplan-Meier, where an event precedes a censoring of its day.

    Args:
        time_days: (N,).
        event: (N,).
        until_days: (M,).
    """
    days, censored = np.unique(time_days[~event], return_counts=True)
    at_risk = len(time_days) - np.searchsorted(np.sort(time_days), days, side="left")
    events_of_day = np.searchsorted(np.sort(time_days[event]), days, side="right") - np.searchsorted(
        np.sort(time_days[event]), days, side="left"
    )
    survival = np.cumprod(1.0 - censored / (at_risk - events_of_day))
    return np.concatenate([[1.0], survival])[np.searchsorted(days, until_days, side="left")]
