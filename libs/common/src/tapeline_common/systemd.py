"""Telling systemd how a service is (sd_notify): ready, alive, how far it is, stopping.

A datagram to the socket named by ``NOTIFY_SOCKET`` is the whole protocol, so there is no library for it. Without
systemd nothing is told, and that is no trouble.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def is_watched() -> bool:
    """Whether systemd wants to hear from this process."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(*said: str) -> None:
    """Send assignments such as ``READY=1``. A systemd that does not listen is left alone."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux' abstract sockets
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.send("\n".join(said).encode())


def status(text: str) -> str:
    """One line for ``systemctl status``."""
    return "STATUS=" + text.replace("\n", " ")


def more_time(seconds: float) -> str:
    """A start or a stop that goes on may take this much longer from now."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"
