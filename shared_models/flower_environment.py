"""Environment variables of Flower's processes: quiet, offline, in a folder of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# No telemetry, no look-up of new versions, and nothing installed while a study runs.
FLOWER_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def flower_environment(home: Path) -> dict[str, str]:
    """This process's environment for a process of Flower.

    Args:
        home: Flower's own folder.

    Returns:
        With a PATH that begins with this interpreter's programs, because Flower starts its other programs by name.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **FLOWER_ENVIRONMENT, "FLWR_HOME": str(home), "PATH": path}
