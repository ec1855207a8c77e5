"""Addresses as `host:port`: names, IPv4, and IPv6 in brackets."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

HTTPS_PORT = 443


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its parts; the port is 443 where none is named, and an IPv6 host comes without its brackets.

    >>> split_address("center.example.org"), split_address("[2001:db8::1]:8443")
    (('center.example.org', 443), ('2001:db8::1', 8443))
    """
    host, bracket, rest = address.removeprefix("[").partition("]")
    if not bracket:
        host, _, rest = address.partition(":")
    return host, int(rest.removeprefix(":") or HTTPS_PORT)


def joined_address(host: str, port: int) -> str:
    """A host and its port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked(address: str) -> str:
    expected = "expected HOST:PORT, as center.example.org:443, 192.0.2.7:8443 or [2001:db8::1]:8443"
    if "://" in address or "/" in address:
        msg = f"{address!r}: {expected}, without https:// and without a path"
    elif "@" in address:
        msg = f"{expected}, without a user or a password"  # which are in no message
    elif address.count(":") > 1 and not address.startswith("["):
        msg = f"{address!r}: {expected}: an IPv6 address is in brackets"
    else:
        msg = _wrong_part(address, expected)
    if msg:
        raise ValueError(msg)
    return address


def _wrong_part(address: str, expected: str) -> str:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", address)
    if match is None:
        return f"{address!r}: {expected}"
    host, port = match[1], match[2]
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        return f"{address!r}: the port {port!r} is no number from 1 to 65535; {expected}"
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return f"{address!r}: {host[1:-1]!r} is no IPv6 address; {expected}"
        return ""
    if bad := sorted(set(re.sub(r"[A-Za-z0-9.-]", "", host))):
        return f"{address!r}: a host's name has no {' and no '.join(map(repr, bad))}; {expected}"
    if not host.strip(".-"):
        return f"{address!r} names no host; {expected}"
    if not all(0 < len(part) < 64 for part in host.removesuffix(".").split(".")):
        return f"{address!r}: the parts of a host's name between dots have 1 to 63 letters; {expected}"
    return ""


Address = Annotated[str, AfterValidator(_checked)]
