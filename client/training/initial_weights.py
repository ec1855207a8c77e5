"""Initial weights of a study at a site: those of a file, checked against their approved hash, and the frozen ones.

What a study leaves as it is travels once; the site keeps it on its disk, and puts it beside the weights of each round.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from client.errors import ExitCode, SiteError
from client.private_files import write_private
from shared_models.messages import LACKS_WEIGHTS, Arrays, InitialWeightsRequest, ModelRequest
from shared_models.messages.arrays import hash_arrays
from shared_models.study_settings import StudySettings
from shared_models.trained_parts import of_frozen

FROM_FILE = "from_file"


def store_initial(request: InitialWeightsRequest, frozen: Collection[str], config: StudySettings, file: Path) -> int:
    """Keeps the frozen arrays and the names of those that came from the center's file; returns how many are frozen.

    Raises:
        SiteError: If those of the file are not the ones that the site approved.
    """
    if config.initial_weights == "file":
        require_approved(request.model, request.from_file, config)
    frozen_arrays = of_frozen(request.model, frozenset(frozen))
    names = {FROM_FILE: json.dumps(list(request.from_file))}
    write_private(
        file, save({name: np.asarray(array, order="C") for name, array in frozen_arrays.items()}, metadata=names)
    )
    return len(frozen_arrays)


def with_frozen(request: ModelRequest[Any], frozen: Collection[str], config: StudySettings, file: Path) -> Arrays:
    """The weights of a message beside the stored ones; in round 1 those of the file are checked against their hash.

    The stored ones are those that the message means, by their hash. Otherwise a center that sends others in between, or
    to each site its own, would have another network trained than the one that is counted, and that a sum is over.

    Raises:
        SiteError: If the site has none, or they are not the ones that it approved, or that the message means.
    """
    if not frozen and config.initial_weights == "seeded":
        stored, from_file = dict[str, Any](), list[str]()
    else:
        stored, from_file = _read(file, config)
    own = {name: stored[name] for name in frozen if name in stored and name not in request.model}
    if request.frozen != (hash_arrays(own) if own else ""):
        raise _lacking(file, config, "weights of another hash than the message has")
    whole = {**request.model, **own}
    if config.initial_weights == "file" and request.round == 1:
        require_approved(whole, from_file, config)
    return whole


def require_approved(model: Arrays, from_file: Collection[str], config: StudySettings) -> None:
    """Refuses initial weights that do not have the hash that the site approved.

    Raises:
        SiteError: If so.
    """
    own = {name: model[name] for name in from_file if name in model}
    sha256 = hash_arrays(own)
    if len(own) == len(from_file) > 0 and sha256 == config.initial_weights_sha256:
        return
    raise SiteError(
        what="the first weights are not those of the file that this site approved",
        where=f"study {config.study}, {len(own)} arrays of a file",
        found=f"SHA-256 {sha256}",
        expected=f"initial-weights-sha256 {config.initial_weights_sha256}",
        fix="nothing: the study continues without this site; ask the center which file it has used",
        public="the first weights are not those that the site approved: their SHA-256 is another",
        exit_code=ExitCode.STUDY,
    )


def _read(file: Path, config: StudySettings) -> tuple[Arrays, list[str]]:
    try:
        with safe_open(file, framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            return arrays, json.loads(opened.metadata()[FROM_FILE])
    except (OSError, SafetensorError) as error:
        raise _lacking(file, config, str(error) or type(error).__name__) from None


def _lacking(file: Path, config: StudySettings, found: str) -> SiteError:
    return SiteError(
        what="the weights that the study leaves as they are have not come, or are gone",
        where=str(file),
        found=found,
        expected=f"those that the center sends once to each site of {config.study}",
        fix="nothing: the center sends them again",
        public=LACKS_WEIGHTS,
        exit_code=ExitCode.STUDY,
    )
