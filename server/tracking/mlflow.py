"""A study in MLflow: a run in a folder of files beside the studies' own, `RESULTS_DIR/mlruns`; no tracking server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from server.study.results.schema import Results
from shared_models.study_settings import StudySettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORE = "mlruns"
LONGEST = 500
"""Characters of a parameter; a longer setting is in `settings.toml` among the run's artefacts, which has all."""


def open_writer(config: StudySettings, folder: Path) -> StoredRun:
    """Begins a run, in an experiment of the study's task; one that resumes goes on with its last run."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # a center sends nothing to anyone
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # in maintenance, and the one that needs neither server nor database
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder.parent / STORE).resolve().as_uri())
    known = client.get_experiment_by_name(config.task)
    experiment = known.experiment_id if known else client.create_experiment(config.task)
    named = f"attributes.run_name = '{config.study}'"
    before = client.search_runs([experiment], named, max_results=1) if config.resume else []
    if before:
        run_id = before[0].info.run_id
        client.update_run(run_id, status="RUNNING")
        return StoredRun(client, run_id)
    tags = {"breast-federation": version("breast-federation"), "study": config.study}
    run_id = client.create_run(experiment, run_name=config.study, tags=tags).info.run_id
    for key, value in config.to_flat().items():
        if len(str(value)) <= LONGEST:
            client.log_param(run_id, key, value)
    client.log_text(run_id, tomli_w.dumps(config.to_flat()), "settings.toml")
    return StoredRun(client, run_id)


class StoredRun:
    """A run of the store."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def write(self, fold: str, server_round: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        from mlflow.entities import Metric

        now_ms, prefix = int(1000 * time.time()), f"{fold}/" if fold else ""
        metrics = [Metric(prefix + name, value, now_ms, server_round) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics)

    def end(self, results: Results | None, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """See `Writer`; the files are artefacts."""
        self.write("", results.best_round if results else 0, values)
        for file in files:
            self._client.log_artifact(self._run_id, str(file))
        ended = results is not None and not results.failure
        self._client.set_terminated(self._run_id, "FINISHED" if ended else "FAILED")
