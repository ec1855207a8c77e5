"""Assembly of the site's pages: `python docs/assemble.py FOLDER` writes what `make docs` builds.

The documents link to sources as a reader of the repository needs it (`../client/app.py`). On the site a module is its
API page, a Markdown file of the root is a page of its own, and any other file is a copy under `files/`.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "server", "shared_models", "simulation")
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security_policy.md",
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)(?P<to>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")


def assemble(folder: Path) -> None:
    """Writes every page, and the files that pages link to, into `folder`, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "api").mkdir(parents=True)
    modules = [module_of(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    for module in modules:
        (folder / "api" / f"{module}.md").write_text(f"# {module}\n\n::: {module}\n", encoding="utf-8")
    lines = "\n".join(f"- [{module}]({module}.md)" for module in modules)
    (folder / "api" / "index.md").write_text(f"# API\n\n{lines}\n", encoding="utf-8")
    documents = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    for source in [*PAGES, *documents]:
        _write_page(source, folder)


def module_of(path: Path) -> str:
    """The dotted name of a module's file, or of a package's folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def page_of(path: str) -> str:
    """The page of the site for a file or a folder of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and path.endswith(".md"):
        return path.removeprefix("docs/")
    if path.partition("/")[0] in PACKAGES:
        return f"api/{module_of(ROOT / path)}.md"
    return f"files/{path}" if (ROOT / path).is_file() else ""


def _write_page(source: str, folder: Path) -> None:
    page = page_of(source)

    def moved(link: re.Match[str]) -> str:
        path = normpath((PurePosixPath(source).parent / link["to"]).as_posix())
        target = page_of(path)
        if target.startswith("files/"):
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / target)
        return relpath(target or "index.md", PurePosixPath(page).parent.as_posix()) + (link["anchor"] or "")

    text = (ROOT / source).read_text(encoding="utf-8")
    (folder / page).parent.mkdir(exist_ok=True)
    (folder / page).write_text(LINK.sub(moved, text), encoding="utf-8")


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
