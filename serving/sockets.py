"""What the kernel knows of a TCP port, read without touching it.

The engine's RPC server serves one connection after the other, so a probe that connects would stand in the
leader's way. The kernel's own table tells whether something listens, who is connected, and which connections
nobody has accepted yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED, _LISTEN = "01", "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@dataclass(frozen=True)
class Port:
    """The state of one local TCP port."""

    listening: bool
    accepted: int
    """Connections that a process holds."""
    waiting: frozenset[str]
    """Remote ends that are connected and that no process has accepted."""


def look(port: int, host: str = "0.0.0.0", tables: tuple[Path, ...] = _TABLES) -> Port:
    """Return the state of a port; of an address of the machine, or of all of them together."""
    wanted = None if host in ("", "0.0.0.0", "::") else _kernel_form(host)
    listening, accepted, waiting = False, 0, set()
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            address, _, local = fields[1].partition(":")
            if int(local, 16) != port or (wanted is not None and address != wanted):
                continue
            if fields[3] == _LISTEN:
                listening = True
            elif fields[3] == _ESTABLISHED:
                # a connection without an inode belongs to no file descriptor yet
                if fields[9] == "0":
                    waiting.add(fields[2])
                else:
                    accepted += 1
    return Port(listening, accepted, frozenset(waiting))


def _kernel_form(host: str) -> str:
    """An IPv4 address as the table writes it: bytes in the machine's order.

    >>> _kernel_form("127.0.0.2")
    '0200007F'
    """
    return "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
