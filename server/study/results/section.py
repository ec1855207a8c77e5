"""Section of a study's results."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of `results.json`: its keys are fixed, and each number is finite or null."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
