"""Shapley values of features at one site (SHAP, Lundberg and Lee 2017, arXiv:1705.07874), of networks of tables.

A feature that is absent from a coalition has the mean of all sites' training patients, so that no other patient of
the site is part of a patient's values. Of each feature the mean absolute value over patients says how much of the score
it moves, whichever way; only sums over patients leave, in steps that hide one of them (`hiding_sum`).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from client.errors import ExitCode, SiteError
from client.training.dataset import Array, PatientDataset
from client.training.loop import bounded
from shared_models.importance import changes
from shared_models.study_settings import StudySettings
from shared_models.task import Task

MAX_PATIENTS = 200
"""Explained at a site, chosen at random: more change a mean little."""
MAX_ORDERS, EVALUATIONS = 10, 400
"""Orders of the features, each forward and backward; of many features fewer, since each order asks for all of them."""
MAX_ROWS = 1_024
"""Scored at once."""
ALIKE = 5
"""Patients of whom the largest value of a feature counts as the smallest; see `hiding_sum`."""


def require_shap(config: StudySettings) -> None:
    """Says before anything is trained that the library is missing.

    Raises:
        SiteError: If so.
    """
    if config.importance == "shap" and importlib.util.find_spec("shap") is None:
        raise SiteError(
            what="the study asks for Shapley values, and the library that computes them is not installed here",
            where=f'study {config.study}, importance = "shap"',
            fix="pip install 'breast-federation[explain]'",
            public="the extra `explain`, which the study's importance = shap needs, is not installed at the site",
            exit_code=ExitCode.STUDY,
        )


def explained(
    model: nn.Module, patients: PatientDataset, task: Task, config: StudySettings, seed: int
) -> dict[str, Array]:
    """By target, `(1 + V,)`: how many patients were explained, and each feature's `hiding_sum` of absolute values.

    They are in the score's own unit: a probability, a risk by the horizon, a number; of classes the mean over classes.

    Args:
        model: The network.
        patients: The test patients.
        task: The study's, of tables alone.
        config: Its settings; V is how many `changes` they ask for.
        seed: Of who is explained, and of the orders.
    """
    asked = changes(task, config)
    places = [1 + place for place, change in enumerate(asked) if change.feature]
    each: dict[str, list[Array]] = {name: [] for name in task.targets}
    for _, explained_scores in values_by_patient(model, patients, task, config, seed):
        values, start = np.abs(explained_scores), 0
        for name, target in task.targets.items():
            each[name].append(values[:, start : (start := start + target.scores)].mean(axis=1))
    sums = {name: np.zeros(1 + len(asked)) for name in task.targets}
    for name, of_patients in each.items():
        values = np.reshape(of_patients, (len(of_patients), len(places)))
        sums[name][0], sums[name][places] = len(values), hiding_sum(values)
    return sums


def values_by_patient(
    model: nn.Module, patients: PatientDataset, task: Task, config: StudySettings, seed: int
) -> Iterator[tuple[int, Array]]:
    """Which patient, and the Shapley values `(F, K)` of F features of the K scores of all targets, side by side.

    They stay at the site. Arguments are those of `explained`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it draws with, which is not done here
        import shap

    players = [(change.modality, change.feature) for change in changes(task, config) if change.feature]
    rng, (rows, owner) = np.random.default_rng([seed, len(players)]), patients.all_rows()
    evaluations = min(MAX_ORDERS, max(1, EVALUATIONS // (2 * len(players) + 1))) * (2 * len(players) + 1)
    masker = shap.maskers.Independent(np.zeros((1, len(players))))
    for patient in rng.permutation(len(patients))[:MAX_PATIENTS].tolist():
        coalitions = Coalitions(model, patients, task, players, rows[owner.numpy() == patient])
        explain = shap.explainers.Permutation(coalitions, masker, seed=int(rng.integers(2**31)))
        explanation = explain(np.ones((1, len(players))), max_evals=evaluations, silent=True)
        yield patient, explanation.values.reshape(len(players), -1)


def hiding_sum(values: Array) -> Array:
    """Sums `(F,)` over patients of `(P, F)` in steps that no patient's part exceeds, as pairs leave a site.

    The largest `ALIKE` of each feature are taken for the smallest of them: else the sum of a network that answers to
    one patient alone would be about her, and so would a step.

    Example:
        >>> hiding_sum(np.array([[9.0], [2.0], [2.0], [2.0], [2.0], [0.5]]))
        array([10.])
    """
    if not len(values):
        return np.zeros(values.shape[-1])
    limit = np.sort(values, axis=0)[-min(ALIKE, len(values))]
    step = 2.0 ** (np.ceil(4 * np.log2(np.maximum(limit, 1e-300))) / 4)  # not exact: it is a patient's value
    return np.asarray(np.rint(np.minimum(values, limit).sum(axis=0) / step) * step)


class Coalitions:
    """A patient's scores with some of their features, and the mean in place of the others."""

    def __init__(
        self, model: nn.Module, patients: PatientDataset, task: Task, players: Sequence[tuple[str, str]], own: Array
    ) -> None:
        """Reads the patient's rows once.

        Args:
            model: The network.
            patients: Whose rows can be read.
            task: The study's; every column of its tables is of a player.
            players: Each feature's table and name.
            own: The patient's rows.
        """
        self.model, self.task = model, task
        self.player = {name: torch.zeros(table.width, dtype=torch.long) for name, table in task.tables.items()}
        for number, (table, feature) in enumerate(players):
            self.player[table][list(columns_of(task, table, feature))] = number
        self.own, self.present = patients.read(own)

    @torch.no_grad()
    def __call__(self, coalitions: Array) -> Array:
        """Scores `(Z, K)`, the targets' side by side, of coalitions `(Z, F)` of 1 (own) and 0; means over rows."""
        at_once = max(1, MAX_ROWS // len(self.present))
        starts = range(0, len(coalitions), at_once)
        return np.concatenate([self._score(coalitions[start : start + at_once] > 0.5) for start in starts])

    def _score(self, coalitions: Array) -> Array:
        device, count = next(self.model.parameters()).device, len(coalitions)
        is_own = torch.from_numpy(coalitions)
        inputs = {
            name: (is_own[:, player][:, None] * self.own[name]).flatten(end_dim=1).to(device)  # z-scores, and flags
            for name, player in self.player.items()
        }
        self.model.eval()
        outputs = self.model(inputs, self.present.repeat(count, 1).to(device))
        each = (target.predict(bounded(outputs[name].float().cpu())) for name, target in self.task.targets.items())
        return np.concatenate([np.asarray(one).reshape(count, len(self.present), -1).mean(axis=1) for one in each], 1)


def columns_of(task: Task, table: str, feature: str) -> Iterator[int]:
    """A feature's columns of a table's input: its values, then its missing flags."""
    kind, start = task.tables[table], 0
    for each in kind.features:
        own = range(start, start := start + len(each.columns))
        if each.name == feature:
            yield from own
            yield from (len(kind.columns) + index for index in own)
