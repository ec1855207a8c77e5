"""Files of `deploy/`: what they start is what the programs and the Containerfile have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)", CONTAINERFILE, re.MULTILINE))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes/center.yaml").read_text()))


def test_the_images_hold_the_packages_and_nothing_that_a_hospital_keeps() -> None:
    copied = set(re.findall(r"^COPY ([a-z_]+) ", CONTAINERFILE, re.MULTILINE))
    assert copied == {"client", "server", "shared_models", "simulation"}
    ignored = (ROOT / ".containerignore").read_text().split()
    assert ignored[0] == "*"
    assert {entry.removeprefix("!") for entry in ignored[1:] if entry[0] == "!"} == {
        *copied,
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }


def test_the_images_are_built_of_the_torch_that_was_tested() -> None:
    tested = re.search(r"^TORCH  \?= (\S+?)#", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tested is not None
    assert f"ARG TORCH={tested[1]}\n" in CONTAINERFILE


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_built_of_a_target_and_runs_on_a_read_only_root_without_a_capability(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["build"]["target"] in TARGETS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    mounts = [mount.rsplit(":", 2) for mount in service["volumes"]]
    assert all(mount[-1] == "ro" for mount in mounts if "/data" in mount or "/srv/site_configs" in mount)


def test_only_the_site_with_a_gpu_asks_for_one() -> None:
    asked = [name for name, service in COMPOSE["services"].items() if "deploy" in service]
    assert asked == ["site-gpu"]
    without = {k: v for k, v in COMPOSE["services"]["site-gpu"].items() if k not in {"deploy", "profiles"}}
    assert without == {k: v for k, v in COMPOSE["services"]["site"].items() if k != "profiles"}


def test_a_center_on_kubernetes_is_one_pod_of_no_privilege_that_keeps_its_folder() -> None:
    center = KUBERNETES[1]["spec"]
    pod = center["template"]["spec"]
    assert center["replicas"] == 1
    assert pod["securityContext"]["runAsUser"] == int(re.findall(r"^USER (\d+)$", CONTAINERFILE, re.MULTILINE)[-1])
    assert [one["args"][0] for one in (*pod["initContainers"], *pod["containers"])] == ["init", "start"]
    for one in (*pod["initContainers"], *pod["containers"]):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"name": "center", "mountPath": "/srv"} in one["volumeMounts"]
    assert KUBERNETES[0]["spec"]["ports"][0]["port"] == 8443


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_of_a_site(tmp_path: Path) -> None:
    unit = (
        (DEPLOY / "breast-federation-site@.service")
        .read_text()
        .replace("/opt/federation/bin/breast-client", "/bin/true")
    )
    (tmp_path / "breast-federation-site@duke.service").write_text(unit)
    answer = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "breast-federation-site@duke.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")


STUB = '#!/bin/sh\n{trap}echo "$(basename "$0") $*" >> {log}\n{then}'


def test_a_job_ends_its_site_two_minutes_before_its_time_and_is_requeued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, trap, then in (
        # The signal is caught before the start is written down: what waits for the line may then send it.
        ("breast-client", f"trap 'echo ended >> {log}; exit 0' TERM\n", "while :; do sleep 0.05; done\n"),
        ("scontrol", "", ""),
    ):
        (tmp_path / name).write_text(STUB.format(trap=trap, log=log, then=then))
        (tmp_path / name).chmod(0o700)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    script = str(DEPLOY / "site.sbatch")
    nameless = subprocess.run(["bash", script], env=path, capture_output=True, text=True, check=False)
    assert (nameless.returncode, "which site?" in nameless.stderr) == (2, True)
    with subprocess.Popen(["bash", script], env={**path, "SITE": "duke"}) as job:
        while not log.exists():
            assert job.poll() is None
        job.terminate()
        assert job.wait(20) == 0
    assert log.read_text().splitlines() == ["breast-client --site duke", "ended", "scontrol requeue 7"]
