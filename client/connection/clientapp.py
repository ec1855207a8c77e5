"""Replacement of Flower's `flwr-clientapp`: runs one message with this site's own code, bundle guarded.

`client.app` is imported here, before Flower puts the center's bundle on `sys.path`: it keeps a module that is there.
"""

from __future__ import annotations

import sys

from flwr.supernode.cli import flwr_clientapp

import client.app  # noqa: F401
from client.connection.bundle_guard import guard_installation


def main() -> None:
    """Answers the message that `sys.argv` names, as Flower's SuperNode hands it over, then exits."""
    sys.argv[0] = "flwr-clientapp"
    guard_installation()
    flwr_clientapp()


if __name__ == "__main__":
    main()
