"""Schema of a site's YAML: files, columns and codes, readers, targets, policy, connection.

Everything here is the hospital's to decide; the coordinating center never sees this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from client.config.dicomweb import DicomWeb
from client.config.policy import Policy
from client.config.state_folder import require_own_state
from client.config.yaml_file import read_yaml
from client.contract.addresses import Address
from client.contract.columns import Code, Column, ColumnOrName, TableSource
from client.errors import ExitCode, SiteError
from client.readers import Reader
from client.readers.dicom import DicomReader
from client.readers.extracted import ExtractedReader
from client.readers.image_files import ImageFilesReader
from client.readers.table import TableReader
from shared_models.settings import Settings, SettingsError, nearest, parse_settings


class Outcome(Settings):
    """A target: a `label` column, or an event with its time."""

    label: ColumnOrName | None = Field(None, description="a column that holds the target itself")
    event: ColumnOrName | None = Field(None, description="codes 1 for an event, 0 for none")
    event_days: tuple[ColumnOrName, ...] = Field((), description="day of the event; with several, the earliest")
    followup_days: tuple[ColumnOrName, ...] = Field((), description="last day free of it; with several, the latest")
    endpoint: str = Field(
        "",
        pattern=r"^([A-Za-z][A-Za-z0-9 ,/+-]{0,79})?$",
        description="what counts, by its usual name, as RFS, RFI, DRFI, IDFS or OS; hospitals of a study compare it",
    )
    deaths: Literal["", "events", "censored"] = Field(
        "", description="what becomes of a death without the event: it is one, or it ends the follow-up"
    )

    @model_validator(mode="after")
    def _label_or_event(self) -> Self:
        complete = self.event is not None and self.event_days and self.followup_days
        if (self.label is None) == (not complete):
            msg = "expected either `label`, or all of `event`, `event_days` and `followup_days`"
            raise ValueError(msg)
        if self.deaths and self.label is not None:
            msg = "`deaths` is of an event with its time, and this is a `label`; leave it out"
            raise ValueError(msg)
        return self

    @property
    def definition(self) -> str:
        """What counts as the outcome, for a person; empty where the site does not say.

        Example:
            >>> Outcome(event="e", event_days=["d"], followup_days=["d"], endpoint="RFI", deaths="censored").definition
            'RFI, deaths without it censored'
        """
        deaths = {"events": "deaths without it are events", "censored": "deaths without it censored"}.get(
            self.deaths, ""
        )
        return ", ".join(filter(None, [self.endpoint, deaths]))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column it reads."""
        single = [column for column in (self.label, self.event) if column is not None]
        return (*single, *self.event_days, *self.followup_days)


class Selection(Settings):
    """Rows of the site's cohort, where one table holds several sites'."""

    column: str = Field(description="the column that selects rows")
    table: str = Field("", description="a name under `tables`; empty takes the patients table")
    values: tuple[Code, ...] = Field(min_length=1, description="its values in the rows to take")


class Instances(Settings):
    """Lesions or views: a table with several rows a patient. A patient's prediction is the mean over them."""

    table: str = Field(description="a name under `tables`; every other table has a row a patient")
    column: str = Field("", description="names the lesion or view, once a patient; a path holds it as {instance}")
    volume: ColumnOrName | None = Field(
        None, description="its volume: larger lesions are drawn more often in training, by the square root"
    )


class PublishedSplit(Settings):
    """A split by patient that the site brings, instead of a seeded one."""

    column: str = Field(description="the column that names a patient's split")
    table: str = Field("", description="a name under `tables`; empty takes the patients table")
    train: tuple[Code, ...] = Field((), description="its values for training patients")
    validation: tuple[Code, ...] = Field((), description="empty: drawn by seed from the training patients")
    test: tuple[Code, ...] = Field((), description="its values for test patients")


class Center(Settings):
    """How the site reaches the coordinating center."""

    address: Address = Field(description="host:port of its proxy; an IPv6 address is in brackets")
    ca_certificate: Path = Field(description="the center's ca.crt, received once")
    private_key: Path = Field(description="the site's own key; its .pub goes to the center")


class SiteConfig(Settings):
    """`site_configs/NAME.yaml`. Relative paths start at the file's folder, table files at `data_root`."""

    site: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="the site's name, the same as at the center"
    )
    role: Literal["train", "evaluate"] = Field("train", description="`evaluate`: never trains, only validates")
    data_root: Path = Field(description="folder of the data; nothing outside it is read")
    state_dir: Path = Field(Path("state"), description="splits, cached tensors, logs; never leaves the site")
    workers: int = Field(0, ge=0, description="processes that read images; 0: as many as there are cores")
    cache_gib: float = Field(
        50.0, gt=0, description="room on disk for the cache; the least recently used is deleted first"
    )
    center: Center | None = Field(None, description="the coordinating center; left out for a simulation")
    dicomweb: DicomWeb | None = Field(
        None, description="the hospital's DICOMweb server, from which `fetch` copies images"
    )
    tables: dict[str, TableSource] = Field(min_length=1, description="the site's tables, by a name of its choice")
    patients: str = Field("", description="the table that says who belongs to the cohort; empty takes the first")
    instances: Instances | None = Field(None, description="lesions or views, where a patient has several")
    include: Selection | None = Field(
        None, description="the rows of the cohort, where a table holds more; all if left out"
    )
    split: PublishedSplit | None = Field(None, description="a split of the site's own; drawn by seed if left out")
    policy: Policy = Field(Policy(), description="what this hospital allows, whatever a center asks")
    modalities: dict[str, Reader] = Field(
        min_length=1, description="how each modality is read, by the study's name for it"
    )
    targets: dict[str, Outcome] = Field(
        min_length=1, description="the outcome columns, by the study's name for the target"
    )

    @model_validator(mode="after")
    def _tables_exist(self) -> Self:
        for place, table in _named_tables(self):
            if table and table not in self.tables:
                msg = f"{place}: there is no table {table!r}; `tables` has {', '.join(self.tables)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _instances_are_named(self) -> Self:
        for name, reader in self.modalities.items():
            if "{instance}" in reader.model_dump_json() and not (self.instances and self.instances.column):
                msg = (
                    f"modalities.{name}: a path holds {{instance}}, but `instances.column` does not say what names one"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _measured_images_exist(self) -> Self:
        images = [name for name, reader in self.modalities.items() if hasattr(reader, "exams")]
        for name, reader in self.modalities.items():
            if isinstance(reader, ExtractedReader) and reader.images not in images:
                hint = nearest(reader.images, images) if images else "add one, as `mri` in site_configs/example.yaml"
                msg = f"modalities.{name}.images: there is no modality {reader.images!r} that reads images; {hint}"
                raise ValueError(msg)
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
        SiteError: If the file is missing, is no YAML, or breaks the schema; or another release wrote the state folder.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise _config_error(
            path, str(error.strerror), "cannot read the site's settings", "correct the path; or "
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found = " ".join(str(error).split()).replace('"<unicode string>"', path.name)
        spaces = "YAML takes spaces before a key, never a tab; " if "\\t' that cannot start" in found else ""
        raise _config_error(path, found, "the site's settings are not YAML", spaces) from None
    if not isinstance(values, dict):
        raise _config_error(path, type(values).__name__, "the site's settings are empty")
    try:
        site = parse_settings(SiteConfig, values, path.name)
    except SettingsError as error:
        raise _config_error(path, str(error), "the site's settings are not valid") from None
    folder = path.resolve().parent
    center = site.center and site.center.model_copy(
        update={key: folder / getattr(site.center, key) for key in ("ca_certificate", "private_key")}
    )
    try:
        root = data_root.resolve() if data_root else (folder / site.data_root.expanduser()).resolve()
        state = (folder / site.state_dir.expanduser()).resolve() / site.site
    except (ValueError, RuntimeError, OSError) as error:  # NUL, ~nobody, a link to itself, a very long name
        raise _config_error(path, f"data_root or state_dir: {error}", "the site's settings are not valid") from None
    require_own_state(state)
    tables = {
        name: table.model_copy(update={"password_file": folder / table.password_file}) if table.password_file else table
        for name, table in site.tables.items()
    }
    secrets = ("ca_certificate", "password_file", "token_file")
    dicomweb = site.dicomweb and site.dicomweb.model_copy(
        update={key: folder / path for key in secrets if (path := getattr(site.dicomweb, key))}
    )
    partners = {name: folder / file for name, file in site.policy.partners.items()}
    policy = site.policy.model_copy(update={"partners": partners})
    absolute: dict[str, object] = {"data_root": root, "state_dir": state, "center": center, "dicomweb": dicomweb}
    absolute |= {"tables": tables, "policy": policy}
    return site.model_copy(update=absolute)


def _named_tables(site: SiteConfig) -> Iterator[tuple[str, str]]:
    """Every place that names a table, and the name."""
    yield "patients", site.patients
    for place, part in (("include", site.include), ("split", site.split)):
        if part is not None:
            yield f"{place}.table", part.table
    if site.instances is not None:
        yield "instances.table", site.instances.table
    for name, reader in site.modalities.items():
        if isinstance(reader, TableReader):
            yield f"modalities.{name}.table", reader.table
            for key, column in reader.features.items():
                place = f"modalities.{name}.features.{key}"
                yield from ((place, table) for table in (column.table, column.since_table))
        if isinstance(reader, ImageFilesReader | DicomReader) and reader.mask and reader.mask.box:
            yield f"modalities.{name}.mask.box.table", reader.mask.box.table
    for name, outcome in site.targets.items():
        for column in outcome.columns:
            yield from ((f"targets.{name}", table) for table in (column.table, column.since_table))


def _config_error(path: Path, found: str, what: str, hint: str = "") -> SiteError:
    return SiteError(
        what,
        where=str(path),
        found=found,
        fix=f"{hint}compare it with site_configs/example.yaml, then run python -m client check",
        public="the site's settings are not valid",
        exit_code=ExitCode.SITE_CONFIG,
    )
