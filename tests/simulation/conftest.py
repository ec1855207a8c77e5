"""Reading what a synthetic hospital wrote, by its own YAML."""

import hashlib

import pandas as pd
import pytest
import yaml


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


def _read(folder, entry):
    how = {"na_values": entry.get("missing", []), "dtype": {entry["patient_id"]: str}}
    path = folder / entry["file"]
    if path.suffix == ".xlsx":
        return pd.read_excel(path, **how)
    return pd.read_csv(path, sep=entry.get("separator", ","), decimal=entry.get("decimal", "."), **how)
