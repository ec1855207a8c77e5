"""Exponential back-off: how long to wait before a process that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Waiting times that double while a process keeps dying young, and start again after a long life.

    Example:
        >>> backoff = Backoff(first_s=1.0, longest_s=5.0, healthy_s=60.0)
        >>> [backoff.next(lived_s) for lived_s in (0.1, 0.1, 0.1, 0.1, 600.0, 0.1)]
        [1.0, 2.0, 4.0, 5.0, 1.0, 2.0]

    Attributes:
        first_s: The first wait, in seconds.
        longest_s: No wait is longer.
        healthy_s: After a life longer than this, the next wait is the first one again.
    """

    first_s: float
    longest_s: float
    healthy_s: float
    _next_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begins with the first wait."""
        self._next_s = self.first_s

    def next(self, lived_s: float) -> float:
        """The wait, in seconds, before the restart of a process that has lived for `lived_s`."""
        wait_s = self.first_s if lived_s > self.healthy_s else self._next_s
        self._next_s = min(2 * wait_s, self.longest_s)
        return wait_s
