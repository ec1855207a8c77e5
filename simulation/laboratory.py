"""Studies from Python: `run(study, sites)` as the command line runs them, and their results as pandas tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.study.results import results_file, schema
from server.study.results.csv_file import COLUMNS, rows
from server.study.results.results_folder import require_free

if TYPE_CHECKING:
    import pandas as pd

    from shared_models.study_settings import StudySettings

Setting = bool | int | float | str


@dataclass(frozen=True)
class Results:
    """A study that has ended.

    Attributes:
        content: All of `results.json`; docs/results.md describes it.
        folder: Of its results, checkpoints and report.
    """

    content: schema.Results
    folder: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a metric, as in results.csv: study, fold, target, of, metric, value, low, high."""
        import pandas as pd

        return pd.DataFrame(list(rows(self.content)), columns=list(COLUMNS))

    @property
    def sites(self) -> pd.DataFrame:
        """A row a site: its role, and its patients in each part of the split."""
        import pandas as pd

        return pd.DataFrame([{"site": s.site, "role": s.role, **s.patients} for s in self.content.sites])

    @property
    def validation(self) -> pd.DataFrame:
        """A row a scored round and its value on validation patients; empty in a study of folds."""
        import pandas as pd

        return pd.DataFrame(self.content.validation, columns=["round", "value"])


def run(
    study: Path | str | Mapping[str, Setting] | StudySettings,
    sites: Sequence[Path | str] | Mapping[str, Path],
    /,
    **settings: Setting,
) -> Results:
    """Runs a study over sites on this machine, and returns what is in its folder then.

    Args:
        study: Its TOML file, its settings by name, or `StudySettings`.
        sites: The sites' YAML files, or these by name as `simulation.splits.divide` makes them.
        settings: Settings that win over the study's, with `_` for `-`: `rounds=30, overwrite=True`.

    Raises:
        SettingsError: If a setting cannot be used.
        SiteError: If a site's file cannot be used.
        StudyError: If there are results of this study that are not to be overwritten, or it fails.
    """
    from server.study.aggregation.rules import rule_names
    from shared_models.study_file import read_study
    from shared_models.study_settings import StudySettings, parse_study_settings
    from simulation.engines.in_process import run_in_process
    from simulation.splits import find_sites, fitted_to, refuse_canary, require_folds

    if isinstance(study, str | os.PathLike):
        given = read_study(Path(study), [], rule_names()).to_flat()
    else:
        given = study.to_flat() if isinstance(study, StudySettings) else dict(study)
    named = {key.replace("_", "-"): value for key, value in given.items()}
    named |= {key.replace("_", "-"): value for key, value in settings.items()}
    config = parse_study_settings(named, "simulation.run", rule_names())
    refuse_canary(config)
    folder = Path(config.results_dir) / config.study
    require_free(folder, config)
    files = dict(sites) if isinstance(sites, Mapping) else find_sites([Path(file) for file in sites])
    config = fitted_to(config, files)
    require_folds(config, files)
    return Results(schema.Results.model_validate(run_in_process(files, config)), folder)


def sweep(file: Path | str, sites: Sequence[Path | str] | Mapping[str, Path], /) -> pd.DataFrame:
    """Runs a sweep over sites on this machine, as far as it has not been run; a row a combination, as in sweep.csv.

    Args:
        file: SWEEP.toml; docs/sweeps.md describes it.
        sites: As for `run`.

    Raises:
        SettingsError: If the sweep cannot be run.
        SiteError: If a site's file cannot be used.
    """
    import pandas as pd

    from simulation.splits import find_sites
    from simulation.sweeps.plan import read_sweep
    from simulation.sweeps.run import require_search, run_sweep
    from simulation.sweeps.table import SWEEP, write_tables

    plan = read_sweep(Path(file))
    require_search(plan)
    folder = Path(plan.study.results_dir) / plan.name
    files = dict(sites) if isinstance(sites, Mapping) else find_sites([Path(one) for one in sites])
    run_sweep(plan, files, folder, lambda *_: None, lambda outcomes: write_tables(outcomes, folder))
    return pd.read_csv(folder / SWEEP)


def load(folder: Path | str) -> Results:
    """The results of a study that ended earlier, from its folder.

    Raises:
        StudyError: If they are damaged, or of another schema version.
    """
    return Results(results_file.read_results(Path(folder) / results_file.RESULTS), Path(folder))
