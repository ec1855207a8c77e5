"""Names of metrics where people read them: the report, the tables in a terminal, a site's own page."""

from collections.abc import Mapping
from typing import Final

NAMES: Final[Mapping[str, str]] = {
    "patients": "patients",
    "positives": "cases",
    "events": "events",
    "events_by_horizon": "events by the horizon",
    "free_at_horizon": "free of it at the horizon",
    "censored_before_horizon": "censored before the horizon",
    "event_probability": "event probability",
    "auc": "AUC",
    "auc_within_sites": "AUC within sites",
    "auc_by_class": "AUC of the classes against the rest",
    "macro_auc": "macro AUC",
    "c_index": "C-index",
    "c_index_within_sites": "C-index within sites",
    "average_precision": "PR-AUC",
    "brier": "Brier score",
    "expected_observed_ratio": "expected/observed",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "calibration_in_the_large": "calibration in the large",
    "calibration_error": "calibration error",
    "tp": "true positives",
    "fp": "false positives",
    "tn": "true negatives",
    "fn": "false negatives",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "PPV",
    "f1": "F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}
"""Of every metric that is a single number, but for the bounds of others; and of what comparisons are by."""
