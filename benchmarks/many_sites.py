"""Limits of one SuperLink: rounds of many sites at once, and what grows with their number.

    python benchmarks/many_sites.py                      # 5, 20 and 50 sites
    python benchmarks/many_sites.py --sites 50 200 --rounds 5

A real center (SuperLink, SuperExec, nginx). The sites are light: each has its own key, its own connection over TLS with
Flower's heartbeats, its own settings and folder, and answers with the hospital's own ClientApp; but all of them are
threads of one process, which answers one message at a time. A hospital has a SuperNode, a warm process and a process
for each message instead, of some 400 MB, which is why fifty of those do not fit on a desk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from campaign_faults import SUPERLINK, descendants
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supernode.fleet_http_connection import http_request_response
from rich.console import Console
from rich.table import Table
from soak import sample_of

from client.app import app
from server.operations.registration import register
from shared_models.messages.compact import compact, expand
from shared_models.patience import pause_s
from shared_models.study_settings import StudySettings, parse_study_settings
from simulation.cohort_options import cohort_writer
from simulation.engines.rehearsal import Federation, rehearse
from simulation.splits import Sites, divide

TASK, PATIENTS_A_SITE = "relapse_mammogram", 30
ANSWERING = threading.Lock()


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", type=int, default=[5, 20, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secure", choices=["off", "on"], default="off", help="secure aggregation [off]")
    options = parser.parse_args()
    heads = ("sites", "a round, s", "training in it, s", "SuperLink, CPU s a round and site", "its MiB", "files")
    table = Table(*heads, title=f"{options.rounds} rounds of {TASK}")
    for count in options.sites:
        row = measure(count, options)
        table.add_row(*row)
        Console().print(*row, sep=" | ", highlight=False)
    Console().print(table)
    return 0


def measure(count: int, options: argparse.Namespace) -> tuple[str, ...]:
    """The row of so many sites."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = small_sites(count, folder)
        (folder / "deployed").mkdir()
        values = {"study": "many", "task": TASK, "rounds": options.rounds, "min-sites": count}
        config = parse_study_settings({**values, "sites": ",".join(sites), "secure-aggregation": options.secure})
        training: list[float] = []
        with rehearse({}, folder / "deployed") as running, light(running, sites, config, folder, training):
            (superlink,) = (
                pid for pid, line in descendants(running.processes["center"].pid).items() if SUPERLINK in line
            )
            before = cpu_seconds(superlink)
            results = running.finish(running.begin(config), config)
            spent, sample = cpu_seconds(superlink) - before, sample_of(superlink)
    rounds = [attempt["seconds"] for attempt in results["rounds"]]
    per_site = spent / len(rounds) / count
    seconds = f"{statistics.median(rounds):.1f}"
    own = f"{sum(training) / len(rounds):.1f}"
    return str(count), seconds, own, f"{per_site:.2f}", f"{sample.mebibytes:.0f}", str(sample.files)


def small_sites(count: int, folder: Path) -> Sites:
    """Equal shares of one hospital's patients."""
    scale = count * PATIENTS_A_SITE / 300
    file = cohort_writer(TASK)(folder / "cohort", scale=scale)[0]
    return divide(file, folder / "sites", into=count)


@contextlib.contextmanager
def light(
    running: Federation, sites: Sites, config: StudySettings, folder: Path, training: list[float]
) -> Iterator[None]:
    """Connects a thread for each site, and waits until the center has all of them."""
    stop, address = threading.Event(), running.center.address
    threads = []
    for name, file in sites.items():
        key = ec.generate_private_key(ec.SECP384R1())
        public = folder / f"{name}.pub"
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
        register(running.center, name, public)
        running.sites[name] = file
        arguments = (address, running.center.authority.read_bytes(), key, file, config, stop, training)
        threads.append(threading.Thread(target=take_part, args=arguments, daemon=True))
    for thread in threads:
        thread.start()
    while not set(sites) <= running.online():
        time.sleep(0.5)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def take_part(
    address: str,
    authority: bytes,
    key: ec.EllipticCurvePrivateKey,
    file: Path,
    config: StudySettings,
    stop: threading.Event,
    training: list[float],
) -> None:
    """A site: pulls a message, answers it, and waits longer the longer there was none."""
    context = Context(1, 0, node_config={"site-config": str(file)}, state=RecordDict(), run_config=config.to_flat())
    idle_since = time.monotonic()
    with http_request_response(address, False, authority, (key, key.public_key())) as connection:
        _, receive, send, _, _, pull, push, confirm = connection
        while not stop.wait(pause_s(time.monotonic() - idle_since)):
            if (received := receive()) is None:
                continue
            metadata, tree = received[0].metadata, received[1]
            run_id = metadata.run_id
            message: Message = pull_and_inflate_object_from_tree(
                tree,
                lambda name, run_id=run_id: pull(run_id, name),
                lambda name, run_id=run_id: confirm(run_id, name),
                return_type=Message,
            )
            message.metadata.__dict__["_message_id"] = metadata.message_id
            reply = answer(message, context, training)
            objects = get_all_nested_objects(reply)
            wanted, session = send(reply, get_object_tree(reply), 0.0)
            push_objects(
                objects,
                lambda name, content, run_id=run_id, session=session: push(run_id, session, name, content),
                object_ids_to_push=wanted,
            )
            idle_since = time.monotonic()


def answer(message: Message, context: Context, training: list[float]) -> Message:
    """What the hospital's app answers, one site at a time."""
    with ANSWERING:
        started = time.monotonic()
        message.content = expand(message.content)
        reply: Message = app(message, context)
        reply.content = compact(reply.content)
        if message.metadata.message_type == "train":
            training.append(time.monotonic() - started)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    return reply


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = (Path("/proc") / str(pid) / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
