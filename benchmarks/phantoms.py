"""Benchmark of the phantoms themselves: what simple summaries say of an outcome, and what a plain network reads.

    python benchmarks/phantoms.py receptors_dce_mri texture
    python benchmarks/phantoms.py relapse_mammogram interaction --patients 320 --epochs 60 --seeds 3

Summaries are a lesion's volume, the mean and the standard deviation of its brightness (of all phases; of a tile's
colours), and each column of a table; a logistic regression learns from them. Both learn from the patients of all sites
together and are scored on others. The AUC, or Spearman's correlation of a number, is printed a target.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from plain_networks import train_plain
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simulation.phantoms import brain, mammograms, receptors, recurrence, slides
from simulation.phantoms.patients import Arrays, Grid

SYSTEMS: dict[str, ModuleType] = {
    "recurrence_mri": recurrence,
    "subtype_histology": slides,
    "receptors_dce_mri": receptors,
    "relapse_mammogram": mammograms,
    "receptors_brain_metastasis": brain,
}
NUMBER = "ki67_percent"
TILES = Grid((16, 32, 32), (1.0, 2.0, 2.0))
Floats = NDArray[np.float32]


def main() -> int:
    """Prints a line a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=SYSTEMS)
    parser.add_argument("kind")
    parser.add_argument("--patients", type=int, default=160, help="to learn from")
    parser.add_argument("--others", type=int, default=150, help="to be scored on")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1, help="cohorts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        where = f"{options.task} {options.kind}"
        learned, others = (
            _draw(options.task, options.kind, patients, 2 * seed + odd)
            for odd, patients in enumerate((options.patients, options.others))
        )
        names = [name for name in learned.truth if name != "pam50"]
        labels = np.stack([learned.truth[name] for name in names], axis=1)
        numbers = tuple(position for position, name in enumerate(names) if name == NUMBER)
        fit = train_plain(_network_inputs(learned), labels, numbers, options.epochs, seed)
        read = fit.predict(_network_inputs(others))
        for position, name in enumerate(names):
            plain = _score(others, name, read[:, position])
            linear = _score(others, name, _linear(_summaries(learned), learned.truth[name], _summaries(others)))
            print(f"{where} {name}: summaries {linear:.3f}, plain network {plain:.3f} (seed {seed})", flush=True)
    return 0


def _draw(task: str, kind: str, patients: int, seed: int) -> Arrays:
    match task:
        case "subtype_histology":
            return slides.draw_arrays(kind, patients, seed, grid=TILES)
        case "recurrence_mri":
            return recurrence.draw_arrays(kind, patients, seed, distance=True)
        case _:
            arrays: Arrays = SYSTEMS[task].draw_arrays(kind, patients, seed)
            return arrays


def _network_inputs(arrays: Arrays) -> dict[str, Floats]:
    """What the network sees: not the distance of `recurrence_mri`, which that task's input does not have."""
    return {name: array[:, :4] if name == "mri" else array for name, array in arrays.inputs.items()}


def _summaries(arrays: Arrays) -> Floats:
    """A row of numbers `(N, S)` for each patient or lesion."""
    columns = []
    for name, array in arrays.inputs.items():
        if array.ndim == 2:
            columns.append(array)
        elif name == "tiles":
            columns += [array.mean(axis=(2, 3, 4)), array.std(axis=(2, 3, 4))]
        else:
            inside = [(image[:-1][:, image[-1] > 0], (image[-1] > 0).sum()) for image in array]
            columns.append(np.array([[values.mean(), values.std(), volume] for values, volume in inside]))
    return np.concatenate(columns, axis=1).astype(np.float32)


def _linear(summaries: Floats, label: Floats, others: Floats) -> Floats:
    high = label > np.median(label) if len(np.unique(label)) > 2 else label > 0
    with warnings.catch_warnings(action="ignore"):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0)).fit(summaries, high)
        return np.asarray(model.decision_function(others), dtype=np.float32)


def _score(arrays: Arrays, name: str, score: Floats) -> float:
    """The AUC over patients, whose rows are averaged; of a number, Spearman's correlation."""
    patients, first = np.unique(arrays.group, return_index=True)
    means = np.array([score[arrays.group == patient].mean() for patient in patients])
    truth = arrays.truth[name][first]
    if name == NUMBER:
        return float(spearmanr(truth, means)[0])
    return float(roc_auc_score(truth, means))


if __name__ == "__main__":
    sys.exit(main())
