"""What runs where other packages of our names lie, on a real wheel and in real processes."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from shared_models.installation import PACKAGES

ROOT = Path(__file__).parents[2]
PROGRAMS = ("client", "server", "simulation")
# Whoever is imported says so, and nothing goes on.
STRANGER = "import os, pathlib\npathlib.Path('was_run').touch()\nos._exit(99)\n"
LIBRARIES = ("torch", "yaml", "numpy", "random", "argparse", "pydantic", "flwr")


def copy_of_ours(folder):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installs a wheel's packages into, and the one of its console scripts."""
    pytest.importorskip("pip")
    source = copy_of_ours(tmp_path_factory.mktemp("source"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    prefix = source / "prefix"
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-compile", "--prefix", str(prefix)]
    subprocess.run([*pip, *options, str(source)], check=True, cwd=source, env=environment())
    (packages,) = prefix.glob("lib/*/site-packages")
    return packages, prefix / "bin"


@pytest.fixture
def hostile(tmp_path):
    """A folder with strangers of all our names, and of libraries' names."""

    def strangers(*packages):
        folder = tmp_path / "hostile"
        for package in packages:
            (folder / package).mkdir(parents=True)
            for file in ("__init__.py", "__main__.py"):
                (folder / package / file).write_text(STRANGER)
        for library in LIBRARIES:
            (folder / f"{library}.py").write_text(STRANGER)
        return folder

    return strangers


def environment(**changes):
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return ours | {key: str(value) for key, value in changes.items()}


def run(command, folder, **changes):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not (Path(folder) / "was_run").exists(), f"a stranger ran: {command}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_console_script_runs_ours_among_strangers(installed, hostile, program):
    packages, scripts = installed
    folder = hostile(*PACKAGES)
    done = run([scripts / f"breast-{program}", "--version"], folder, PYTHONPATH=packages)
    assert done.stdout == f"breast-federation {version('breast-federation')} in {packages}\n"
    assert done.returncode == 0


def test_a_console_script_gets_as_far_as_the_sites_settings_among_strangers(installed, hostile):
    packages, scripts = installed
    done = run([scripts / "breast-client", "--site", "duek.yaml"], hostile(*PACKAGES), PYTHONPATH=packages)
    assert (done.returncode, "no such file" in done.stderr) == (3, True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_m_imports_nothing_else_from_the_current_folder(installed, hostile, program):
    folder = hostile(*(package for package in PACKAGES if package != program))
    done = run([sys.executable, "-m", program, "--version"], folder, PYTHONPATH=installed[0])
    assert done.stdout == f"breast-federation {version('breast-federation')} in {installed[0]}\n"


@pytest.mark.parametrize("script", ["breast-client", "breast-server"])
def test_a_stranger_on_the_path_is_refused_and_not_run(installed, hostile, script):
    packages, scripts = installed
    folder = hostile("client")
    for library in LIBRARIES:
        (folder / f"{library}.py").unlink()
    path = os.pathsep.join([str(folder), str(packages)])
    done = run([scripts / script, "--version"], folder, PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: another package has the name of one of ours\n  where:    {folder}/client\n")
    assert "to do:" in done.stderr


def test_packages_that_nobody_installed_are_refused(tmp_path):
    folder = copy_of_ours(tmp_path)
    (folder / "pyproject.toml").unlink()
    done = run([sys.executable, "-m", "client", "--site", "duke"], folder)
    assert done.returncode == 2
    assert done.stderr.startswith("these packages are not an installation\n")


CHILD = "import client, server, shared_models, sys; print(client.__file__); sys.exit('' in sys.path)"


def test_a_checkout_runs_itself_and_so_do_its_children_beside_another_installation(tmp_path, installed):
    folder, elsewhere = copy_of_ours(tmp_path / "checkout"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run([sys.executable, "-m", "client", "--version"], folder, PYTHONPATH=installed[0])
    assert done.stdout == f"breast-federation {version('breast-federation')} in {folder} (a checkout)\n"
    code = f"from shared_models.installation import begin; begin(); import subprocess, sys; {CHILDREN}"
    done = run([sys.executable, "-c", code], folder, PYTHONPATH=installed[0])
    assert done.stdout.split() == [str(folder / "client" / "__init__.py")] * 2


CHILDREN = f"[subprocess.run([sys.executable, *w, '-c', {CHILD!r}], cwd='..', check=True) for w in ([], ['-P'])]"


def readable_by_others(folder):
    return [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_all_that_a_center_writes_is_for_its_owner_alone(tmp_path):
    from server.__main__ import main

    folder = str(tmp_path / "center")
    assert main(["init", "--address", "center.example.org", "--directory", folder]) == 0
    assert main(["run", "--set", "study=pilot", "--write", str(tmp_path / "pilot.toml")]) == 0
    assert (tmp_path / "pilot.toml").exists()
    assert readable_by_others(tmp_path) == []


@pytest.mark.usefixtures("open_umask")
def test_all_that_a_site_and_a_simulation_write_is_for_their_owner_alone(
    hospitals, small_study, tmp_path, monkeypatch, capsys
):
    from client.__main__ import main as client
    from simulation.__main__ import main as simulation

    files = hospitals({"oak": 80, "elm": 80})
    inputs = set(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert client(["check", "--site", str(files["oak"])]) == 0, capsys.readouterr().out
    study = [f"{key}={value}" for key, value in (small_study | {"rounds": 1}).items()]
    assert simulation(["--split", str(files["elm"]), "--into", "2", "--set", *study]) == 0
    written = [path for path in tmp_path.rglob("*") if path not in inputs]
    assert {"readiness.html", "results.json", "elm-1.yaml"} <= {path.name for path in written}
    assert any(path.parent.name == "cohorts" for path in written)
    assert set(readable_by_others(tmp_path)) <= inputs
