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
    followed = followed_patients(finite(risk, "risk"), time_days, event)
    concordant = comparable = 0.0
    for _, one, ones in _pairs(*followed):
        concordant += float(one.sum())
        comparable += float(ones.sum())
    return concordant / comparable if comparable else math.nan


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
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=repeats)
    # The first row of weights is the data themselves, so that one pass gives the estimate too.
    weights = np.vstack([np.ones(patients), drawn])[:, rows]
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
