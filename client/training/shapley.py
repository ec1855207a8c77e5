"""Shapley values of features at one site (SHAP, Lundberg and Lee 2017, arXiv:1705.07874), of networks of tables.

A feature that is absent from a coalition has the value that another of the site's patients has. Of each feature the
mean absolute value over patients says how much of the score it moves, whichever way; only sums over patients leave.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from client.errors import ExitCode, SiteError
from client.training.dataset import Array, PatientDataset
from shared_models.importance import changes
from shared_models.study_settings import StudySettings
from shared_models.task import Task

MAX_PATIENTS = 200
"""Explained at a site, chosen at random: more change a mean little."""
BACKGROUND = 20
"""Rows that an absent feature's values are of."""
MAX_ORDERS, EVALUATIONS = 10, 400
"""Orders of the features, each forward and backward; of many features fewer, since each order asks for all of them."""


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
    """By target, `(1 + V,)`: how many patients were explained, and each feature's sum of absolute Shapley values.

    They are in the score's own unit: a probability, a risk by the horizon, a number; of classes the mean over classes.

    Args:
        model: The network.
        patients: The test patients.
        task: The study's, of tables alone.
        config: Its settings; V is how many `changes` they ask for.
        seed: Of who is explained, of the background, and of the orders.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it draws with, which is not done here
        import shap

    asked = changes(task, config)
    players = [(place, change.modality, change.feature) for place, change in enumerate(asked) if change.feature]
    rng, (rows, owner) = np.random.default_rng([seed, len(players)]), patients.all_rows()
    background = rng.choice(rows, min(BACKGROUND, len(rows)), replace=False)
    columns = [(table, list(columns_of(task, table, feature))) for _, table, feature in players]
    orders = min(MAX_ORDERS, max(1, EVALUATIONS // (2 * len(players) + 1)))
    chosen = rng.permutation(len(patients))[:MAX_PATIENTS]
    sums = {name: np.zeros(1 + len(asked)) for name in task.targets}
    masker = shap.maskers.Independent(np.zeros((1, len(players))))
    for patient in chosen:
        network = Coalitions(model, patients, task, columns, rows[owner.numpy() == patient], background)
        explain = shap.explainers.Permutation(network, masker, seed=int(rng.integers(2**31)))
        evaluations = orders * (2 * len(players) + 1)
        values = explain(np.ones((1, len(players))), max_evals=evaluations, silent=True).values.reshape(
            len(players), -1
        )
        start = 0
        for name, target in task.targets.items():
            part = np.abs(values[:, start : (start := start + target.scores)]).mean(axis=1)
            sums[name][0] += 1
            sums[name][[1 + place for place, _, _ in players]] += part
    return sums


class Coalitions:
    """A patient's scores with some features of their own and the others of other patients."""

    def __init__(
        self,
        model: nn.Module,
        patients: PatientDataset,
        task: Task,
        columns: list[tuple[str, list[int]]],
        own: Array,
        background: Array,
    ) -> None:
        """Reads the patient's rows and the background once."""
        self.model, self.task, self.columns = model, task, columns
        pairs = np.array([(row, other) for row in own for other in background])
        self.own, self.present = patients.read(pairs[:, 0])
        self.others, _ = patients.read(pairs[:, 1])

    @torch.no_grad()
    def __call__(self, coalitions: Array) -> Array:
        """Scores `(Z, K)`, the targets' side by side, of coalitions `(Z, F)` of 1 (own) and 0; means over rows."""
        device = next(self.model.parameters()).device
        self.model.eval()
        scored = []
        for own in np.asarray(coalitions) > 0.5:
            inputs = {name: values.clone() for name, values in self.others.items()}
            for (table, columns), is_own in zip(self.columns, own, strict=True):
                if is_own:
                    inputs[table][:, columns] = self.own[table][:, columns]
            outputs = self.model({name: values.to(device) for name, values in inputs.items()}, self.present.to(device))
            scored.append(self._scores(outputs))
        return np.stack(scored)

    def _scores(self, outputs: Mapping[str, Tensor]) -> Array:
        each = (target.predict(outputs[name].float().cpu()) for name, target in self.task.targets.items())
        return np.concatenate([np.asarray(one).reshape(len(one), -1).mean(axis=0) for one in each])


def columns_of(task: Task, table: str, feature: str) -> Iterator[int]:
    """A feature's columns of a table's input: its values, then its missing flags."""
    kind, start = task.tables[table], 0
    for each in kind.features:
        own = range(start, start := start + len(each.columns))
        if each.name == feature:
            yield from own
            yield from (len(kind.columns) + index for index in own)
