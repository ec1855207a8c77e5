"""Harrell's C-index from individual scores, with its confidence interval.

A pair is comparable when one patient has the event before the other has the event or leaves observation; one who leaves
at the very time of the event outlives it, and two events at one time are not comparable. These are lifelines' rules.
Ties in risk count one half.

References:
    Harrell, Lee & Mark, Multivariable prognostic models. Statistics in Medicine 15 (1996) 361-387.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from shared_models.metrics.arrays import Array
from shared_models.metrics.interval import Interval, exact_interval, normal_quantile
from shared_models.metrics.scores import finite

_ROWS = 256  # events compared with all patients at once: bounds the memory


def concordance(risk: npt.ArrayLike, time_days: npt.ArrayLike, event: npt.ArrayLike) -> float:
    """Harrell's C; higher risk should mean an earlier event.

    Args:
        risk: (N,) finite, on any scale.
        time_days: (N,) days to the event or to the end of observation.
        event: (N,) 1 for an event, 0 for censored. Patients with a nan here or in ``time_days`` are left out.

    Returns:
        nan without comparable pairs.

    Raises:
        ValueError: for a risk that is not finite, a time that is negative or infinite, or another event.
    """
    concordant, comparable = pairs_of_patients(*followed_patients(finite(risk, "risk"), time_days, event))
    return float(concordant.sum() / comparable.sum()) if comparable.any() else math.nan


def concordance_interval(
    risk: npt.ArrayLike,
    time_days: npt.ArrayLike,
    event: npt.ArrayLike,
    patient: npt.ArrayLike | None = None,
    level: float = 0.95,
    repeats: int = 500,
    seed: int = 0,
) -> Interval:
    """C with its percentile interval over resampled patients; see `concordance` for the arguments and errors.

    Resamples without comparable pairs are left out; the bounds are nan if those are more than half. If all resamples
    agree, as under perfect concordance, the bounds are Clopper-Pearson's (`exact_interval`) over as many disjoint
    comparable pairs as a random pairing of the patients holds.

    Args:
        risk: (N,).
        time_days: (N,).
        event: (N,).
        patient: (N,) whose rows are resampled together; None if each row is a patient.
        level: coverage.
        repeats: number of resamples.
        seed: of the resampling.
    """
    normal_quantile(level)
    score = finite(risk, "risk")
    who = np.arange(len(score)) if patient is None else np.asarray(patient)
    if who.shape != score.shape:
        message = f"there are patients of shape {who.shape} for risks of shape {score.shape}"
        raise ValueError(message)
    followed = followed_patients(score, time_days, event)
    rows = np.unique(who[_known(time_days, event)], return_inverse=True)[1]
    patients = int(rows.max()) + 1 if len(rows) else 0
    if patients < 2:
        return Interval(concordance(*followed), math.nan, math.nan)
    resamples = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=repeats)
    # The first row of weights is the data themselves, so that one pass gives the estimate too.
    weights = np.vstack([np.ones(patients), resamples])[:, rows]
    concordant, comparable = _weighted(weights, followed)
    resampled = concordant[1:][comparable[1:] > 0] / comparable[1:][comparable[1:] > 0]
    value = float(concordant[0] / comparable[0]) if comparable[0] else math.nan
    if math.isnan(value) or 2 * len(resampled) <= repeats:
        return Interval(value, math.nan, math.nan)
    low, high = (float(bound) for bound in np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]))
    if high - low < 1e-12:
        disjoint = comparable[0] / (len(rows) - 1) * patients / len(rows)
        return exact_interval(value, float(disjoint), level)
    return Interval(value, low, high)


def _known(time_days: npt.ArrayLike, event: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which patients have both a time and an event, (N,)."""
    unknown: npt.NDArray[np.bool_] = np.isnan(np.asarray(time_days, float)) | np.isnan(np.asarray(event, float))
    return ~unknown


def followed_patients(
    score: Array, time_days: npt.ArrayLike, event: npt.ArrayLike
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Score, time and whether the event happened, of the patients who have all three; (M,) each."""
    time, happened = np.asarray(time_days, dtype=np.float64), np.asarray(event, dtype=np.float64)
    if time.shape != score.shape or happened.shape != score.shape:
        message = f"risks of shape {score.shape}, times {time.shape} and events {happened.shape} do not fit together"
        raise ValueError(message)
    known = _known(time, happened)
    score, time, happened = score[known], time[known], happened[known]
    if not np.isfinite(time).all() or (time.size and time.min() < 0):
        message = "times must be finite and not negative"
        raise ValueError(message)
    if not np.isin(happened, (0.0, 1.0)).all():
        message = "events must be 0, 1, or nan for unknown"
        raise ValueError(message)
    return score, time, happened == 1


def pairs_of_patients(risk: Array, time: Array, event: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Concordant (ties 1/2) and comparable pairs that each patient is part of, (N,) each, in O(N log^2 N).

    Each event asks how many of those who outlive it have a lower risk, each patient how many of the events that they
    outlive have a higher one. Asked and asking are put in the order of time and counted as a merge sort would do it.

    Args:
        risk: (N,) finite.
        time: (N,) days.
        event: (N,) whether the event happened.
    """
    events = np.flatnonzero(event)
    patient = np.concatenate([np.arange(len(risk)), events])
    asks = np.arange(len(patient)) >= len(risk)
    turn = np.where(asks, 1, np.where(event[patient], 0, 2))  # at one time: events there, events ask, censored there
    order = np.lexsort((turn, time[patient]))
    patient, asks = patient[order], asks[order]
    rank = np.unique(risk, return_inverse=True)[1][patient]
    comparable = np.where(asks, np.cumsum(~asks[::-1])[::-1], np.cumsum(asks))
    sums = (np.bincount(patient, pairs, len(risk)) for pairs in (_ordered(rank, asks), comparable))
    concordant, every = (np.asarray(pairs, dtype=np.float64) for pairs in sums)
    return concordant, every


def _ordered(rank: npt.NDArray[np.intp], asks: npt.NDArray[np.bool_]) -> Array:
    """For each that asks, later ones of lower rank; for each other, earlier asking ones of higher; ties 1/2; (L,)."""
    credit = np.zeros(len(rank))
    place, ranks = np.arange(len(rank)), int(rank.max(initial=0)) + 1
    half = 1
    while half < len(rank):
        block, second = place // (2 * half), place // half % 2 == 1
        key, first = block * ranks + rank, block * ranks
        asking, asked = asks & ~second, ~asks & second
        lower = _midrank(key[asked], key[asking]) - np.searchsorted(np.sort(key[asked]), first[asking])
        credit[asking] += lower
        higher = np.searchsorted(np.sort(key[asking]), first[asked] + ranks) - _midrank(key[asking], key[asked])
        credit[asked] += higher
        half *= 2
    return credit


def _midrank(among: npt.NDArray[np.intp], of: npt.NDArray[np.intp]) -> Array:
    """How many of `among` are smaller than each of `of`, and half of those that are equal."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")) / 2


def _pairs(
    risk: Array, time: Array, event: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.intp], Array, Array]]:
    """Some events at a time, (r,), with all patients: concordant (1, ties 1/2) and comparable pairs, (r, N)."""
    events = np.flatnonzero(event)
    for start in range(0, len(events), _ROWS):
        rows = events[start : start + _ROWS]
        first = time[rows, None]
        comparable = ((time > first) | ((time == first) & ~event)).astype(np.float64)
        order = (risk[rows, None] > risk) + 0.5 * (risk[rows, None] == risk)
        yield rows, comparable * order, comparable


def _weighted(weights: Array, followed: tuple[Array, Array, npt.NDArray[np.bool_]]) -> tuple[Array, Array]:
    """Concordant and comparable pairs, (R,) each, when patients count ``weights``, (R, N)."""
    sums = np.zeros((2, len(weights)))
    for rows, *matrices in _pairs(*followed):
        for kind, matrix in enumerate(matrices):
            sums[kind] += ((weights @ matrix.T) * weights[:, rows]).sum(axis=1)
    return sums[0], sums[1]
