"""Connections through a hospital's web proxy, as `HTTPS_PROXY` names it; its password is in no message."""

from __future__ import annotations

import base64
import socket
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import unquote, urlsplit

from client.contract.addresses import joined_address

_FORM = "HTTPS_PROXY=http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with %40 for @ and %3A for : in the password"


class ProxyError(Exception):
    """What a web proxy refuses, or is wrong about its address, and what to do about it."""

    def __init__(self, what: str, found: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.found, self.fix = what, found, fix


@dataclass(frozen=True)
class WebProxy:
    """A web proxy.

    Attributes:
        host: Its name.
        port: Its port.
        tls: Whether it is spoken to over TLS itself.
        headers: What lets this computer use it; never shown.
    """

    host: str
    port: int
    tls: bool = False
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return joined_address(self.host, self.port)

    def tunnel(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to a host behind it.

        Raises:
            ProxyError: If the proxy cannot be reached, or refuses.
        """
        kind = HTTPSConnection if self.tls else HTTPConnection
        connection = kind(self.host, self.port, timeout=timeout_s)
        connection.set_tunnel(host, port, self.headers)
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise self._refused(error, host, port, timeout_s) from None
        return connection.sock

    def _refused(self, error: Exception, host: str, port: int, timeout_s: float) -> ProxyError:
        reason = str(getattr(error, "strerror", None) or error)
        if "407" in reason:
            with_password = "another user or password" if self.headers else "a user and a password"
            return ProxyError(f"the web proxy {self} asks for {with_password}", "status 407", f"set {_FORM}")
        if reason.startswith("Tunnel connection failed"):
            found = reason.partition(": ")[2]
            fix = f"ask your network team to let this computer reach {joined_address(host, port)} through the proxy"
            return ProxyError(f"the web proxy {self} does not connect to the center", found, fix)
        kinds: dict[type[Exception], str] = {
            socket.gaierror: "the web proxy's name is unknown here",
            ConnectionRefusedError: "the web proxy refuses the connection",
            TimeoutError: "the web proxy does not answer",
        }
        what = kinds.get(type(error), "the web proxy cannot be used")
        found = f"nothing within {timeout_s:.0f} s" if isinstance(error, TimeoutError) else reason
        return ProxyError(f"{what}: {self}", found, f"correct HTTPS_PROXY, or ask your network team: {_FORM}")


def web_proxy(host: str) -> WebProxy | None:
    """The web proxy that Flower's HTTP client takes from the environment for a host, or None.

    Raises:
        ProxyError: If its address cannot be used.
    """
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get("https") or proxies.get("all") or ""
    if not address:
        return None
    place = urlsplit(address if "://" in address else f"http://{address}")
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
    except ValueError:
        port = 0
    if place.scheme not in {"http", "https"} or not place.hostname or not port:
        found = f"a proxy of the kind {place.scheme!r}" if place.hostname and port else "no host, or no port's number"
        what = "the web proxy's address cannot be used"
        raise ProxyError(what, found, f"set {_FORM}")
    headers = {}
    if place.username is not None:
        pair = f"{unquote(place.username)}:{unquote(place.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return WebProxy(place.hostname, port, place.scheme == "https", headers)
