"""Deployment that a campaign of faults runs in: a real center and sites, each with a line and a clock that can fail."""

from __future__ import annotations

import contextlib
import subprocess
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
CLOCK = Path(__file__).with_name("moved_clock.c")


@contextlib.contextmanager
def deployment(folder: Path | None) -> Iterator[Scene]:
    """A center and sites with tables, which run, each behind its line.

    Args:
        folder: Where they lie, and stay; a temporary folder without one.
    """
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for part in ("sites", "deployed", "clocks"):
            (folder / part).mkdir(parents=True)
        files = cohort_writer(TASK)(folder / "cohort", scale=1.0)[:SITES]
        changes = {"role": "train", "policy": {"epsilon_ceiling": 1e6}}  # many private studies on the same patients
        sites = {file.stem: write_site(load_site(file), folder / "sites", site=file.stem, **changes) for file in files}
        library = folder / "clocks" / "moved_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, CLOCK], check=True)
        clocks = {name: folder / "clocks" / name for name in (CENTER, *sites)}
        for file in clocks.values():
            file.write_text("+0", encoding="ascii")
        lines: dict[str, Line] = {}

        def address_of(site: str, port: int) -> str:
            lines[site] = Line(port)
            return f"127.0.0.1:{lines[site].port}"

        def environment_of(party: str) -> dict[str, str]:
            return moved_by(clocks[party], library)

        running = stack.enter_context(rehearse(sites, folder / "deployed", address_of, environment_of))
        yield Scene(running, lines, clocks, "")


def moved_by(clock: Path, library: Path) -> dict[str, str]:
    """Variables with which a process adds what stands in a file to the time of day, and to nothing else."""
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(clock)}
