"""The text protocol of NATS, as far as a client of ours speaks it: commands as bytes, and a parser of what comes back.

Pure: bytes in, bytes and calls out. Connecting, answering pings and starting anew are in ``nats_client``.
The protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

PING = b"PING\r\n"
PONG = b"PONG\r\n"

LONGEST_LINE = 65_536
"""Bytes of a line without payload. nats-server sends lines of a few kilobytes; more is not its language."""

_NO_RESPONDERS = b"NATS/1.0 503"


class ProtocolBroken(Exception):
    """What came is not NATS; the message shows its beginning."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One delivered message. ``header`` is the whole block of headers, empty if there is none."""

    subject: str
    data: bytes
    reply: str = ""
    header: bytes = b""

    @property
    def nobody_listens(self) -> bool:
        """Whether this is the server's word, in place of a reply, that nobody is subscribed to what was asked."""
        return not self.data and self.header.startswith(_NO_RESPONDERS)


class ServerInfo(msgspec.Struct, frozen=True, gc=False):
    """What a server says about itself when it greets; fields not named here are passed over."""

    max_payload: int = 1_048_576
    nonce: str = ""
    auth_required: bool = False
    tls_required: bool = False


class ConnectOptions(msgspec.Struct, frozen=True):
    """What a client says about itself; an empty text means "not given". ``sig`` signs the server's nonce."""

    name: str
    nkey: str = ""
    sig: str = ""
    user: str = ""
    password: str = msgspec.field(default="", name="pass")
    lang: str = "python-tapeline"
    version: str = "1"
    protocol: int = 1
    headers: bool = True
    no_responders: bool = True
    verbose: bool = False
    pedantic: bool = False


_info = msgspec.json.Decoder(ServerInfo)
_json = msgspec.json.Encoder()


def connect(options: ConnectOptions) -> bytes:
    return b"CONNECT %b\r\n" % _json.encode(options)


def subscribe(subject: str, number: int) -> bytes:
    return f"SUB {subject} {number}\r\n".encode()


def unsubscribe(number: int) -> bytes:
    return f"UNSUB {number}\r\n".encode()


def publish(subject: str, data: bytes, reply: str = "", header: bytes = b"") -> bytes:
    """One message. Subjects are built from checked tokens, so they are not looked at again here."""
    to = f"{subject} {reply}" if reply else subject
    if header:
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (to.encode(), len(header), len(header) + len(data), header, data)
    return b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(data), data)


def header_block(name: str, value: str) -> bytes:
    """One header as NATS carries it."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


def header_value(block: bytes, name: str) -> str:
    """The value of a header in a block that ``header_block`` made; empty if it is not there."""
    start = block.find(b"\r\n%b: " % name.encode())
    if start < 0:
        return ""
    start += len(name) + 4
    return block[start : block.index(b"\r\n", start)].decode()


def decode_info(line: bytes) -> ServerInfo:
    """The server's greeting, from its whole line. Raises ``ProtocolBroken``."""
    if not line.startswith(b"INFO "):
        raise ProtocolBroken(f"a NATS server greets with INFO, here came {line[:40]!r}")
    try:
        return _info.decode(line[5:])
    except msgspec.DecodeError as error:
        raise ProtocolBroken(f"the server's INFO cannot be read: {error}") from None


class Parser:
    """Cuts what arrives into messages and lines, however it was split on the way.

    Args:
        on_message: called for each message with the number of its subscription.
        on_line: called for every other line, without its end: PING, PONG, INFO and so on.
    """

    def __init__(self, on_message: Callable[[int, Message], None], on_line: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self._on_line = on_line
        self._rest = bytearray()
        self._wanted = 0
        """Bytes of ``_rest`` without which nothing more can be read: a large payload is not looked at for each part."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises ``ProtocolBroken``, and whatever the callbacks raise."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        start, size = 0, len(data)
        self._wanted = 0
        while start < size:
            end = data.find(b"\r\n", start)
            if end < 0:
                if size - start > LONGEST_LINE:
                    raise ProtocolBroken(f"a line of more than {LONGEST_LINE} bytes: {data[start : start + 40]!r}")
                break
            first = data[start]
            if first == _M or (first == _H and data.startswith(b"HMSG", start)):
                after = self._message(data, start, end, size)
                if not after:
                    break
                start = after
            else:
                self._on_line(data[start:end])
                start = end + 2
        if start < size:
            self._rest += data[start:]
            self._wanted -= start

    def _message(self, data: bytes, start: int, end: int, size: int) -> int:
        """Hand over the message whose line is ``data[start:end]``; returns where the next thing begins, 0 if it is not
        all there."""
        try:
            fields = data[start:end].decode().split(" ")
            with_header = fields[0] == "HMSG"
            reply = fields[3] if len(fields) > 4 + with_header else ""
            total = int(fields[-1])
            header_size = int(fields[-2]) if with_header else 0
            subject, number = fields[1], int(fields[2])
        except (IndexError, ValueError):
            raise ProtocolBroken(f"no message begins with {data[start:end][:80]!r}") from None
        body = end + 2
        after = body + total + 2
        if after > size:
            self._wanted = after
            return 0
        header = data[body : body + header_size] if with_header else b""
        self._on_message(number, Message(subject, data[body + header_size : after - 2], reply, header))
        return after


_M, _H = b"MH"
