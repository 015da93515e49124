"""Where a download may lead: a hub of the internet redirects to the internet, never to what is near the pod.

A redirect is the hub's word, and the pod stands inside: without a look at it, a hostile hub could have the
pod ask the cloud's metadata service, or any server of the cluster's network. The address is looked at when it
is connected to, so a name that resolves to something else a moment later makes no difference.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from serving.weights.errors import WeightsError

if TYPE_CHECKING:
    import ssl

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether an address belongs to the internet.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    address = _address(text)
    return address.is_global and not address.is_multicast


def is_metadata(text: str) -> bool:
    """Whether an address is one of those at which clouds tell a machine its secrets."""
    address = _address(text)
    return address.is_link_local or address == ipaddress.ip_address("fd00:ec2::254")


def is_inside(host: str) -> bool:
    """Whether a hub stands inside, as a mirror does; a name that only a proxy knows does not."""
    try:
        found = socket.getaddrinfo(urlsplit(f"//{host}").hostname, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return False
    return any(not is_public(str(entry[4][0])) for entry in found)


class Guarded(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections to the internet alone; for a hub that stands inside, to all but metadata services.

    Through a proxy nothing is checked: it is the proxy that connects, and its rules count.
    """

    def __init__(self, context: ssl.SSLContext, inside: bool) -> None:
        super().__init__(context=context)
        self._inside = inside

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an address without TLS."""
        return self.do_open(self._connection(request, _Plain), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an address with TLS."""
        own = {"context": self._context}  # type: ignore[attr-defined]
        return self.do_open(self._connection(request, _Secure), request, **own)

    def _connection(self, request: urllib.request.Request, kind: type[_Plain]) -> Any:
        direct = urlsplit(request.full_url).netloc == request.host

        def connection(host: str, **arguments: Any) -> _Plain:
            made = kind(host, **arguments)
            made.checked, made.inside = direct, self._inside
            return made

        return connection


class _Plain(http.client.HTTPConnection):
    checked = True
    inside = False

    def connect(self) -> None:
        """Connect, and hang up before a byte is sent where the address is not to be asked."""
        super().connect()
        if not self.checked:
            return
        peer = str(self.sock.getpeername()[0])
        if is_metadata(peer) or not (self.inside or is_public(peer)):
            self.close()
            raise WeightsError(
                f"{self.host} is at {peer}, inside this network, and a hub of the internet redirects to it. "
                "Nothing was asked there; a mirror of your own is named in HF_ENDPOINT"
            )


class _Secure(http.client.HTTPSConnection, _Plain):
    """The same; TLS begins after the check."""


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
