"""The console of the center's verbs: plain lines, as wide as they are."""

from __future__ import annotations

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
