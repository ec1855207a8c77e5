"""A hospital's own settings: where its files lie, how its columns map to the study's names, how it reaches the center.

Everything here is the hospital's to decide; the coordinating center never sees this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from client.errors import ExitCode, SiteError
from shared_models.settings import Settings, SettingsError, parse_settings

if TYPE_CHECKING:
    from flwr.app import Context

Code = str | int | float


class TableFile(Settings):
    """A CSV or XLSX file with a row a patient."""

    file: Path = Field(description="relative to data_root")
    patient_id: str = Field(description="the column that holds the patient's identifier")
    sheet: str | int = Field(0, description="XLSX only: name or position")
    header_rows: int = Field(1, ge=1, le=5, description="with several, name a column by any row or as `Group / Name`")
    separator: str = Field(",", description="CSV only")
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8-sig"
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in every column, besides an empty cell")


class Column(Settings):
    """Where one of the study's values stands in this site's tables, and in which unit or code."""

    column: str
    table: str = Field("", description="a name under `tables`; empty takes the modality's, or the patients table")
    scale: float = Field(1.0, description="multiplied first: from the site's unit to the study's")
    offset: float = 0.0
    codes: dict[Code, Code] | None = Field(None, description="this site's code: the study's category or number")
    missing: tuple[Code, ...] = Field((), description="codes for a missing value in this column")
    range: tuple[float, float] | None = Field(None, description="plausible values in the study's unit")


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


ColumnOrName = Annotated[Column, BeforeValidator(_column)]


class TableReader(Settings):
    """A tabular modality: the study's feature names and this site's columns."""

    reader: Literal["table"]
    table: str = Field("", description="a name under `tables`; empty takes the patients table")
    features: dict[str, ColumnOrName]


class NiftiPhasesReader(Settings):
    """Dynamic MRI as one NIfTI file a phase, first the pre-contrast one."""

    reader: Literal["nifti_phases"]
    phases: tuple[str, ...] = Field(min_length=1, description="file of each phase, as `mri/{patient}/phase0.nii.gz`")


Reader = Annotated[TableReader | NiftiPhasesReader, Field(discriminator="reader")]


class Outcome(Settings):
    """A target: a `label` column, or an event with its time."""

    label: ColumnOrName | None = None
    event: ColumnOrName | None = Field(None, description="codes 1 for an event, 0 for none")
    event_days: tuple[ColumnOrName, ...] = Field((), description="day of the event; with several, the earliest")
    followup_days: tuple[ColumnOrName, ...] = Field((), description="last day seen free of it; with several, the latest")

    @model_validator(mode="after")
    def _label_or_event(self) -> Self:
        complete = self.event is not None and self.event_days and self.followup_days
        if (self.label is None) == (not complete):
            raise ValueError("expected either `label`, or all of `event`, `event_days` and `followup_days`")
        return self


class Selection(Settings):
    """Rows of the site's cohort, where one table holds several sites'."""

    column: str
    table: str = ""
    values: tuple[Code, ...] = Field(min_length=1)


class PublishedSplit(Settings):
    """A split by patient that the site brings, instead of a seeded one."""

    column: str
    table: str = ""
    train: tuple[Code, ...] = ()
    validation: tuple[Code, ...] = Field((), description="empty: drawn by seed from the training patients")
    test: tuple[Code, ...] = ()


class Center(Settings):
    """How the site reaches the coordinating center."""

    address: str = Field(pattern=r"^[A-Za-z0-9.\-]+(:\d{1,5})?$", description="host:port of its proxy")
    ca_certificate: Path = Field(description="the center's ca.crt, received once")
    private_key: Path = Field(description="the site's own key; its .pub goes to the center")


class SiteConfig(Settings):
    """`site_configs/NAME.yaml`. Relative paths start at the file's folder, table files at `data_root`."""

    site: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    role: Literal["train", "evaluate"] = Field("train", description="`evaluate`: never trains, only validates")
    data_root: Path
    state_dir: Path = Field(Path("state"), description="splits, cached tensors, logs; never leaves the site")
    center: Center | None = None
    tables: dict[str, TableFile] = Field(min_length=1)
    patients: str = Field("", description="the table that says who belongs to the cohort; empty takes the first")
    include: Selection | None = None
    split: PublishedSplit | None = None
    modalities: dict[str, Reader] = Field(min_length=1)
    targets: dict[str, Outcome] = Field(min_length=1)

    @model_validator(mode="after")
    def _tables_exist(self) -> Self:
        named = {"patients": self.patients}
        named |= {f"modalities.{name}.table": r.table for name, r in self.modalities.items() if isinstance(r, TableReader)}
        for place, table in named.items():
            if table and table not in self.tables:
                raise ValueError(f"{place}: there is no table {table!r}; `tables` has {', '.join(self.tables)}")
        return self

    @property
    def patients_table(self) -> str:
        """The table that says who belongs to the cohort."""
        return self.patients or next(iter(self.tables))


def load_site(path: Path, data_root: Path | None = None) -> SiteConfig:
    """Reads a site's YAML and makes its paths absolute.

    Args:
        path: The file.
        data_root: Replaces the file's own `data_root`.

    Raises:
        SiteError: If the file is missing, is no YAML, or breaks the schema.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _config_error("cannot read the site's settings", path, str(error.strerror)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _config_error("the site's settings are not YAML", path, " ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise _config_error("the site's settings are empty", path, type(values).__name__)
    try:
        site = parse_settings(SiteConfig, values, path.name)
    except SettingsError as error:
        raise _config_error("the site's settings are not valid", path, str(error)) from None
    folder = path.resolve().parent
    center = site.center and site.center.model_copy(
        update={key: folder / getattr(site.center, key) for key in ("ca_certificate", "private_key")}
    )
    root = data_root.resolve() if data_root else (folder / site.data_root.expanduser()).resolve()
    state = (folder / site.state_dir.expanduser()).resolve() / site.site
    return site.model_copy(update={"data_root": root, "state_dir": state, "center": center})


def locate_site(context: Context) -> SiteConfig:
    """The site that a message is for: named by its own SuperNode, or its share of a simulation under Ray."""
    if "site-config" in context.node_config:
        return load_site(Path(str(context.node_config["site-config"])))
    folder = Path(str(context.run_config["simulated-sites"]))
    return load_site(sorted(folder.glob("*.yaml"))[int(context.node_config["partition-id"])])


def _config_error(what: str, path: Path, found: str) -> SiteError:
    return SiteError(
        what,
        where=str(path),
        found=found,
        fix="compare it with site_configs/example.yaml, then try again with --check",
        public="the site's settings are not valid",
        exit_code=ExitCode.SITE_CONFIG,
    )
