"""What the documents say is true: settings, commands, targets of make, files and links."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shared_models.messages.tables import BLOCKS, MARK, documents, generated
from shared_models.study_file import separate_assignments
from simulation.sweeps.command import sweep_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
CODE = re.compile(r"^```\w*\n(?P<block>.*?)^```$|`(?P<inline>[^`\n]+)`", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"python (?:-P )?-m (?P<module>client|server|simulation)\b(?P<words>[^\n|│#(]*)")
MAKE = re.compile(r"(?:^|`)make (?P<target>[a-z-]+)(?=$|`|\s+#)", re.MULTILINE)
FILE = re.compile(
    r"`(?P<path>(?:client|server|shared_models|simulation|studies|tests|benchmarks|docs|site_configs)/[\w/.]*)`"
    r"|python (?P<script>\w[\w/]*\.py)"
)
MODULE = re.compile(r"`(?P<name>(?:client|server|shared_models|simulation)(?:\.(?!crt|key|toml)\w+)+)`")
PACKAGES = ("client", "server", "shared_models", "simulation")
# Files that the reader of a document makes.
OWN_FILES = {
    f"site_configs/{name}" for name in ("oak.yaml", "oak.key", "duke.yaml", "duke.key", "lab.yaml", "NAME.yaml")
} | {
    "studies/STUDY/",
    "example.py",
    "auc.py",
}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_what_travels_and_what_leaves_is_said_as_the_messages_say_it(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text == generated(text), "run: make generate"


def test_every_generated_block_is_in_a_document() -> None:
    occurrence = [
        match["name"] for path in documents(ROOT) for match in MARK.finditer(path.read_text(encoding="utf-8"))
    ]
    assert sorted(occurrence) == sorted(BLOCKS)


def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text(encoding="utf-8")):
        file, _, anchor = link["to"].partition("#")
        if not file.startswith(("https://", "http://", "mailto:")):
            target = (document.parent / file) if file else document
            assert target.exists(), f"{document.name}: {link['to']}"
            assert not anchor or anchor in anchors(target), f"{document.name}: {link['to']}"


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    titles = [match["title"].lower() for match in HEADING.finditer(path.read_text(encoding="utf-8"))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def code(document: Path) -> Iterator[str]:
    """Blocks and inline code, a block's continued lines joined."""
    for match in CODE.finditer(document.read_text(encoding="utf-8")):
        yield (match["block"] or match["inline"]).replace("\\\n", " ")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The program and the words of every `python -m ...` in a text, without remarks."""
    for command in PYTHON.finditer(text):
        yield command["module"], shlex.split(re.split(r"\s{2,}", command["words"].strip())[0])


def commands_of(module: str) -> ModuleType:
    """Where a program's verbs and flags are."""
    rooms = {"client": "client.verbs", "server": "server.operations", "simulation": "simulation"}
    return importlib.import_module(f"{rooms[module]}.arguments")


def parse(module: str, words: list[str]) -> None:
    """Parses a command line as the program does."""
    main = commands_of(module)
    status, output = 0, io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
        try:
            if words[:1] == ["sweep"]:
                sweep_parser().parse_args(separate_assignments(words[1:]))
                return
            main.parse(words)
        except SystemExit as ended:
            status = int(ended.code or 0)
    assert status == 0, f"python -m {module} {shlex.join(words)}: {output.getvalue()}"


def test_every_command_of_a_block_can_be_run_as_written(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    blocks = "\n".join(match["block"] for match in CODE.finditer(text) if match["block"])
    for module, words in commands(blocks.replace("\\\n", " ")):
        if words:  # not the name alone, as in a drawing
            parse(module, words)


def test_every_command_of_a_sentence_has_known_verbs_and_flags(document: Path) -> None:
    for text in code(document):
        for module, words in commands(text):
            parser = commands_of(module)._parser()
            assert parser.unknown_flags(words) == [], document.name
            if words and not words[0].startswith("-") and module != "simulation":
                parse(module, [words[0], "--help"])


def test_every_command_that_the_sources_mention_has_known_flags() -> None:
    mention = re.compile(r"python -m (?P<module>client|server|simulation)\b(?P<words>[^\n\"'`(),;:[]*)")
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    for path in [*sources, *ROOT.glob("site_configs/*.yaml")]:
        for match in mention.finditer(path.read_text(encoding="utf-8")):
            parser = commands_of(match["module"])._parser()
            assert parser.unknown_flags(match["words"].split()) == [], f"{path.name}: {match[0]}"


@pytest.mark.parametrize("module", ["client", "server", "simulation"])
def test_every_example_of_a_help_text_can_be_run_as_written(module: str) -> None:
    main = commands_of(module)
    parser = main._parser()
    texts = [f"{one.description}\n{one.epilog}" for one in (parser, *parser._verbs().values())]
    examples = list(commands("\n".join(texts)))
    assert examples
    for program, words in examples:
        parse(program, words)


def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {match["target"] for match in MAKE.finditer(document.read_text(encoding="utf-8"))}
    assert wanted <= targets


def test_named_files_and_modules_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for match in FILE.finditer(text):
        path = match["path"] or match["script"]
        assert path in OWN_FILES or (ROOT / path).exists(), f"{document.name}: {path}"
    for match in MODULE.finditer(text):
        assert is_importable(match["name"]), f"{document.name}: {match['name']}"


def is_importable(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one, such as `client.app:app`'s."""
    module, _, attribute = name.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(name) is not None:
            return True
        return hasattr(importlib.import_module(module), attribute)
    return False


def test_the_site_that_make_docs_builds_has_no_dead_link(tmp_path: Path) -> None:
    path = ROOT / "docs" / "assemble.py"
    spec = importlib.util.spec_from_file_location("assemble", path)
    assert spec is not None
    assert spec.loader is not None
    assemble = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(assemble)
    assemble.assemble(tmp_path)
    pages = sorted(tmp_path.rglob("*.md"))
    assert len(pages) > 200
    for page in pages:
        for link in LINK.finditer(page.read_text(encoding="utf-8")):
            target = link["to"].partition("#")[0]
            if target and ":" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(tmp_path)}: {link['to']}"


def test_readme_stays_a_first_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    assert "make demo" in text
    assert "make test" in text


def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", document.read_text(encoding="utf-8")))
    defined = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named <= defined
