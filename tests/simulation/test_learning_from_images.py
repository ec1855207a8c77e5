"""What each network has learned after a study with nothing set but grid and rounds, on phantoms of one signal each.

Slow: four hospitals train for minutes. The phantoms' code shares nothing with the networks' (docs/phantoms.md).
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from client.cohort.load import Cohort, load_cohort
from client.config.site import load_site
from server.study.weights.checkpoint import load_checkpoint
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import Trained, from_checkpoint, pool_cohorts, score
from simulation.engines.in_process import run_in_process
from simulation.phantoms.cohort import phantom_writer
from simulation.splits import find_sites, fitted_to

pytestmark = pytest.mark.slow

# Task, phantom, grid, modality with the signal, targets that it shows, least AUC at a hospital that never trained.
LEARNED = [
    ("receptors_dce_mri", "texture", "dce_mri: 16x32x32 at 3x3x3 mm", "dce_mri", ("er", "pr", "her2"), 0.9),
    (
        "receptors_brain_metastasis",
        "texture",
        "brain_mri: 16x16x16 at 2x2x2 mm",
        "brain_mri",
        ("er", "pr", "her2"),
        0.75,
    ),
    ("recurrence_mri", "texture", "mri: 16x32x32 at 4x2x2 mm", "mri", ("recurrence",), 0.75),
    ("subtype_histology", "image", "tiles: 8x32x32 at 1x2x2 mm", "tiles", ("basal_or_her2",), 0.9),
    ("relapse_mammogram", "interaction", "", "mammography", ("relapse",), 0.9),
]
CHANCE = 0.05


@pytest.mark.parametrize(("task", "kind", "grid", "modality", "targets", "least"), LEARNED, ids=lambda v: str(v)[:24])
def test_a_network_learns_from_what_it_is_given_and_from_nothing_else(
    tmp_path: Path, task: str, kind: str, grid: str, modality: str, targets: tuple[str, ...], least: float
) -> None:
    sites = find_sites(phantom_writer(task, [kind])(tmp_path / "sites", workers=1))
    settings = {"task": task, "rounds": 12, "grids": grid, "results_dir": str(tmp_path / "runs"), "outcome": "binary"}
    if task == "receptors_brain_metastasis":  # its radiomics are measured in the same image, and show the same
        settings |= {"modalities": modality}
    if task == "subtype_histology":
        settings |= {"modalities": "tiles, expression", "targets": "basal_or_her2"}
    config = fitted_to(parse_study_settings(settings), sites)
    run_in_process(sites, config)
    trained = from_checkpoint(
        load_checkpoint(tmp_path / "runs" / "study" / "best.safetensors"), load_task(config), config
    )
    outside = pool_cohorts([load_cohort(load_site(sites["external"]), load_task(config), config)])
    for target in targets:
        assert auc(trained, outside, config, target) > least
        shuffled = [auc(trained, shuffle(outside, modality, seed), config, target) for seed in range(10)]
        assert abs(np.mean(shuffled) - 0.5) < CHANCE


def auc(trained: Trained, cohort: Cohort, config, target: str) -> float:
    scores, truths = score(trained, cohort, load_task(config), "test")[target]
    known = np.isfinite(truths)
    return float(roc_auc_score(truths[known], scores[known]))


def shuffle(cohort: Cohort, modality: str, seed: int) -> Cohort:
    """Each row's modality from another row."""
    order = np.random.default_rng(seed).permutation(len(cohort.present))
    inputs = {name: values[order] if name == modality else values for name, values in cohort.inputs.items()}
    return dataclasses.replace(cohort, inputs=inputs)
