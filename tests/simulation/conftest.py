"""Reading what a synthetic hospital wrote, by its own YAML, and learning from it."""

import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="session")
def open_hospital():
    def open_it(folder, name):
        """A hospital's settings, and its tables in its own words."""
        settings = yaml.safe_load((folder / name / f"{name}.yaml").read_text())
        return settings, {key: _read(folder / name, entry) for key, entry in settings["tables"].items()}

    return open_it


@pytest.fixture(scope="session")
def digests():
    def digest(folder):
        """The files under a folder and their contents' hashes."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return digest


@pytest.fixture(scope="session")
def held_out():
    def learn(values, outcome, strength=0.05):
        """AUC of a logistic regression of `(N, C)` on `(N,)`, fitted to half of the patients, and its error."""
        train = np.arange(len(outcome)) % 2 == 0
        mean, deviation = np.nanmean(values[train], axis=0), np.nanstd(values[train], axis=0)
        inputs = np.clip(np.nan_to_num((values - mean) / np.maximum(deviation, 1e-6)), -10, 10)
        model = LogisticRegression(C=strength, max_iter=1000).fit(inputs[train], outcome[train])
        auc = roc_auc_score(outcome[~train], model.decision_function(inputs[~train]))
        return auc, _hanley_error(auc, outcome[~train])

    return learn


def _hanley_error(auc, outcome):
    # Hanley and McNeil 1982, 10.1148/radiology.143.1.7063747
    positive, negative = outcome.sum(), (1 - outcome).sum()
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    excess = (positive - 1) * (first - auc**2) + (negative - 1) * (second - auc**2)
    return math.sqrt((auc * (1 - auc) + excess) / (positive * negative))


def _read(folder, entry):
    how = {"na_values": entry.get("missing", []), "dtype": {entry["patient_id"]: str}}
    path = folder / entry["file"]
    if path.suffix == ".xlsx":
        return pd.read_excel(path, **how)
    return pd.read_csv(path, sep=entry.get("separator", ","), decimal=entry.get("decimal", "."), **how)
