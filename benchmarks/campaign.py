"""Campaign of faults: each study of a real deployment meets some at random moments, and must end by itself.

    python benchmarks/campaign.py --minutes 30
    python benchmarks/campaign.py --minutes 600 --seed 7 --out campaign.jsonl   # adds a line for each study
    python benchmarks/campaign.py --a-study 6 --rounds 6                        # two in each phase of a study
    python benchmarks/campaign.py --faults "the SuperLink is killed" "a site's line is cut" --minutes 5
    python benchmarks/campaign.py --show campaign.jsonl                         # the table of what ran before

A real center (SuperLink, SuperExec, nginx) and three real sites on this machine, over TLS, each site with its own key
and behind a line that can be cut. Faults, phases, moments, sites and protection (none, secure aggregation, privacy,
both) are drawn by the seed; every kind of fault comes once before any comes again. Nobody types anything. A study is
held against one that met no fault: last weights to the bit, the test, audit logs and privacy ledgers of both sides.
Where it met several, what became of it counts for each of them; the phase of each is the one that it really met.
The exit code is 1 if one ended wrongly. It needs nginx and a C compiler, and runs for about a minute a study.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from campaign_deployment import SITES, TASK, deployment
from campaign_faults import FAULTS, Scene
from campaign_verdicts import WRONG, Reference, verdict
from rich.console import Console

from server.errors import CenterError
from server.operations.auto_resume import follow_to_end, is_lost
from server.operations.superlink import Run, find_run
from server.study.results.results_file import RESULTS, UNFINISHED
from server.study.weights.checkpoint import describe
from shared_models.errors import UserError
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.engines.rehearsal import Federation

ROOT = Path(__file__).resolve().parents[1]
PHASES, OVER = ("before round 1", "rounds", "evaluation"), "over before"
PROTECTIONS: Mapping[str, Mapping[str, str]] = {
    "none": {"secure-aggregation": "off"},
    "secure": {"secure-aggregation": "on"},
    "private": {"secure-aggregation": "off", "privacy": "patient"},
    "both": {"secure-aggregation": "on", "privacy": "patient"},
}
ENDS_WITHIN_S, A_FAULT_COSTS_S, BACK_WITHIN_S = 900.0, 120.0, 240.0


@dataclass(frozen=True)
class Outcome:
    """What became of one study."""

    study: str
    protection: str
    fault: str
    phase: str
    outcome: str
    seconds: float


def main() -> int:
    """Runs studies until the time is over, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="after which no further study begins [30]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn [0]")
    parser.add_argument("--a-study", type=int, default=1, metavar="N", help="faults in each study [1]")
    parser.add_argument("--rounds", type=int, default=3, help="of each study [3]")
    parser.add_argument("--faults", nargs="+", choices=[*FAULTS], metavar="FAULT", help="these only [all]")
    parser.add_argument("--protection", nargs="+", choices=[*PROTECTIONS], default=[*PROTECTIONS], help="these only")
    parser.add_argument("--out", type=Path, help="a file to which each outcome is added as a line of JSON")
    parser.add_argument("--folder", type=Path, help="where the deployment and its logs stay [a temporary folder]")
    parser.add_argument("--show", type=Path, help="only prints the table of such a file")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    outcomes = read_outcomes(options.show) if options.show else list(campaign(options, console))
    print_table(outcomes, console)
    return int(any(one.outcome.startswith(WRONG) for one in outcomes))


def campaign(options: argparse.Namespace, console: Console) -> Iterator[Outcome]:
    """Outcomes of studies, one after the other, until the time is over."""
    chance = random.Random(options.seed)
    with deployment(options.folder) as scene:
        ends = time.monotonic() + 60 * options.minutes  # from when all sites are there
        order = deck(options.faults or [*FAULTS], chance)
        references: dict[str, Reference] = {}
        for number in itertools.count():
            if time.monotonic() > ends:
                return
            protection = chance.choice(options.protection)
            if protection not in references:
                console.print(f"a study without a fault, protection: {protection}")
                plain = settings(f"reference-{protection}", protection, options)
                references[protection] = reference(scene.running, plain)
            config = settings(f"study{number:04d}", protection, options)
            every_phase = math.ceil(options.a_study / len(PHASES)) * [*range(len(PHASES))]
            phases = sorted(chance.sample(every_phase, options.a_study))
            faults = [(PHASES[phase], next(order)) for phase in phases]
            console.print(f"{config.study} ({protection})")
            struck, what, seconds = run(scene, config, faults, chance, references[protection], console)
            for phase, (_, fault) in zip(struck, faults, strict=True):
                one = Outcome(config.study, protection, fault, phase, what, seconds)
                console.print(f"{one.study} ({protection}): {fault}, {phase}: {what} ({seconds:.0f} s)")
                if options.out:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                yield one


def deck(faults: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Every fault once in some order, then again in another."""
    while True:
        yield from chance.sample(faults, len(faults))


def settings(study: str, protection: str, options: argparse.Namespace) -> StudySettings:
    """The synthetic study of the task; a site that hangs is given up after five minutes."""
    values = tomllib.loads((ROOT / "studies" / f"synthetic_{TASK}.toml").read_text(encoding="utf-8"))
    least = SITES if PROTECTIONS[protection]["secure-aggregation"] == "on" else SITES - 1
    values |= {"study": study, "rounds": options.rounds, "min-sites": least, "split": "campaign"}
    values |= {"validation-fraction": 0.35, "test-fraction": 0.35}  # so that no site withholds its scores
    values |= {"join-timeout-s": 300.0, "round-timeout-s": 300.0, "round-attempts": 5}
    return parse_study_settings({**values, **PROTECTIONS[protection]})


def reference(running: Federation, config: StudySettings) -> Reference:
    """A study without a fault."""
    running.finish(running.begin(config), config)
    return Reference.of(running.center.results / config.study)


def run(
    scene: Scene,
    config: StudySettings,
    faults: Sequence[tuple[str, str]],
    chance: random.Random,
    reference: Reference,
    console: Console,
) -> tuple[list[str], str, float]:
    """One study and its faults, each for a phase: the phases that they really met, the outcome, and its seconds."""
    running, started, struck = scene.running, time.monotonic(), list[str]()
    try:
        with at_most(ENDS_WITHIN_S + A_FAULT_COSTS_S * len(faults)):
            run_id = running.begin(config)
            for phase, fault in faults:
                wait_for(running, config, run_id, phase, chance)
                struck.append(phase_now(running, config, run_id))
                if struck[-1] != OVER:
                    site = chance.choice(sorted(running.sites))
                    after_s = time.monotonic() - started
                    console.print(f"  {after_s:.0f} s, {struck[-1]}: {fault} [site {site}]", markup=False)
                    FAULTS[fault](replace(scene, site=site))
            what = verdict(running, config, ended(running, run_id), reference)
    except TimeoutError:
        what = f"{WRONG}did not end"
    except UserError as error:  # a damaged log, ledger or file of results
        what = f"{WRONG}{error}"
    seconds = time.monotonic() - started
    if away := wait_until_back(running):
        what = f"{WRONG}{', '.join(away)} did not come back"
    return struck + [OVER] * (len(faults) - len(struck)), what, seconds


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(seconds))
    try:
        yield
    finally:
        signal.alarm(0)


def wait_for(running: Federation, config: StudySettings, run_id: int, phase: str, chance: random.Random) -> None:
    """Waits for a random moment of a phase, or until the study is over."""
    wanted = {"before round 1": -1, "rounds": chance.randrange(0, config.rounds), "evaluation": config.rounds}[phase]
    while phase_now(running, config, run_id) != OVER and rounds_of(running, config) < wanted:
        time.sleep(0.5)
    time.sleep(chance.uniform(0, 1.5))


def phase_now(running: Federation, config: StudySettings, run_id: int) -> str:
    """The phase that a study is in; earlier faults may have held it up, or ended it.

    Without a disk it ends and leaves no results; a run that resumes it has another number.
    """
    folder = running.center.results / config.study
    if (folder / RESULTS).exists() or (folder / UNFINISHED).exists():
        return OVER
    with contextlib.suppress(CenterError):  # the SuperLink may be away
        run = find_run(running.center, run_id)
        if run.state.startswith("finished") and not is_lost(run):
            return OVER
    done = rounds_of(running, config)
    return PHASES[(done >= 0) + (done >= config.rounds)]


def rounds_of(running: Federation, config: StudySettings) -> int:
    """Rounds of the study that count so far; -1 before the first weights."""
    return int((describe(running.center.results, config.study) or {"round": -1})["round"])


def ended(running: Federation, run_id: int) -> Run:
    """A run, or the one that resumes it, as it ends; the SuperLink may be away meanwhile."""
    while True:
        try:
            return follow_to_end(running.center, run_id, lambda text: None)
        except CenterError:
            time.sleep(1.0)


def wait_until_back(running: Federation) -> list[str]:
    """Waits until every site is connected again; those that are not in time."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while (away := sorted(set(running.sites) - running.online())) and time.monotonic() < deadline:
        time.sleep(0.5)
    return away


def read_outcomes(file: Path) -> list[Outcome]:
    """What `--out` wrote."""
    return [Outcome(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """Fault by phase: how often it ended in which way, in Markdown."""
    cells: dict[tuple[str, str], Counter[str]] = {}
    for one in outcomes:
        cells.setdefault((one.fault, one.phase), Counter())[one.outcome] += 1
    phases = [phase for phase in (*PHASES, OVER) if any(one.phase == phase for one in outcomes)]
    console.print(f"| fault | {' | '.join(phases)} |\n|---|{'---|' * len(phases)}", markup=False)
    for fault in FAULTS:
        counts = [cells.get((fault, phase), Counter[str]()) for phase in phases]
        if any(counts):
            texts = ["; ".join(f"{count} {what}" for what, count in cell.items()) for cell in counts]
            console.print(f"| {fault} | {' | '.join(texts)} |", markup=False, highlight=False)
    console.print(f"\n{len(outcomes)} faults of {len({one.fault for one in outcomes})} kinds:")
    for what, count in Counter(one.outcome for one in outcomes).most_common():
        console.print(f"  {count} {what}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
