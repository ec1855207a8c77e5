"""Deployment that a campaign of faults runs in: a real center and sites, each with a line and a clock that can fail."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from campaign_faults import CENTER, Scene
from campaign_lines import Line

from client.config.site import load_site
from simulation.cohort_options import cohort_writer
from simulation.engines.rehearsal import rehearse
from simulation.splits import write_site

TASK, SITES = "relapse_mammogram", 3
LIBRARIES = ("/usr/lib/faketime/libfaketime.so.1", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@contextlib.contextmanager
def deployment(folder: Path | None, library: Path | None) -> Iterator[Scene]:
    """A center and sites with tables, which run, each behind its line.

    Args:
        folder: Where they lie, and stay; a temporary folder without one.
        library: Of libfaketime, where it is not in its usual place.
    """
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for part in ("sites", "deployed", "clocks"):
            (folder / part).mkdir(parents=True)
        files = cohort_writer(TASK)(folder / "cohort", scale=0.5)[:SITES]
        changes = {"role": "train", "policy": {"epsilon_ceiling": 1e6}}  # many private studies on the same patients
        sites = {file.stem: write_site(load_site(file), folder / "sites", site=file.stem, **changes) for file in files}
        library = library or next((path for path in map(Path, LIBRARIES) if path.exists()), None)
        clocks = {name: folder / "clocks" / name for name in (CENTER, *sites)} if library else {}
        for file in clocks.values():
            file.write_text("+0", encoding="ascii")
        lines: dict[str, Line] = {}

        def address_of(site: str, port: int) -> str:
            lines[site] = Line(port)
            return f"127.0.0.1:{lines[site].port}"

        def environment_of(party: str) -> dict[str, str]:
            return moved_by(clocks[party], library) if library else {}

        running = stack.enter_context(rehearse(sites, folder / "deployed", address_of, environment_of))
        yield Scene(running, lines, clocks, "")


def moved_by(clock: Path, library: Path) -> dict[str, str]:
    """Variables with which a process adds what stands in a file to the time of day, and to nothing else."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
