"""Remarks on a mammogram's view: modified ones, and a file's name that says another view or side than its header."""

from __future__ import annotations

import re
from pathlib import Path

from client.imaging.mammography.view_headers import ViewHeader

MAGNIFIED = "it is a magnified view, which shows a part of the breast; take the standard view"
MODIFIED = "it is a spot, implant-displaced or otherwise modified view; take the standard view"
CONTRARY = "the file's name says another view or side than its header; check which is right"
_SIDES = {"L": "left", "LEFT": "left", "R": "right", "RIGHT": "right"}
_NAMED = re.compile(r"(?<![A-Z])(?:(LEFT|RIGHT|L|R)[ _-]?)?(CC|MLO)(?:[ _-]?(LEFT|RIGHT|L|R))?(?![A-Z])")


def view_remarks(path: Path, header: ViewHeader) -> tuple[str, ...]:
    """What looks wrong in the view that a header names, the first thing only."""
    if header.magnified:
        return (MAGNIFIED,)
    if header.modified:
        return (MODIFIED,)
    view, side = named_view(path.stem)
    contrary = any(a and b and a != b for a, b in ((view, header.view), (side, header.side)))
    return (CONTRARY,) * contrary


def named_view(name: str) -> tuple[str, str]:
    """The view and the side that a file's name says, as `L_CC` or `p7-mlo-right`; empty where it says none or several.

    >>> named_view("2019_RMLO_v2")
    ('MLO', 'right')
    """
    parts = {(match[2], _SIDES.get(match[1] or match[3] or "", "")) for match in _NAMED.finditer(name.upper())}
    return parts.pop() if len(parts) == 1 else ("", "")
