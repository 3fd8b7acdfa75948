"""What we say to a NATS server and how we read it, byte for byte, without a server."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common import nats_protocol as protocol
from tapeline_common.nats_protocol import ConnectOptions, Message, Parser, ProtocolBroken, ServerInfo

tokens = st.from_regex(r"[A-Za-z0-9_-]{1,12}(\.[A-Za-z0-9_-]{1,12}){0,3}", fullmatch=True)
payloads = st.binary(max_size=300) | st.just(b"MSG a 1 3\r\nPING\r\n")
messages = st.tuples(
    st.integers(0, 10**6),
    st.builds(Message, tokens, payloads, st.just("") | tokens, st.just(b"") | st.just(protocol.header_block("A", "b"))),
)
lines = st.sampled_from([b"PING", b"PONG", b"+OK", b"-ERR 'Stale Connection'", b'INFO {"max_payload":9}'])


def delivered(number: int, message: Message) -> bytes:
    """How a server sends a message, written down plainly: the twin of what the parser reads."""
    reply = f" {message.reply}" if message.reply else ""
    whole = message.header + message.data
    sizes = f"{len(message.header)} {len(whole)}" if message.header else str(len(whole))
    kind = "HMSG" if message.header else "MSG"
    return f"{kind} {message.subject} {number}{reply} {sizes}\r\n".encode() + whole + b"\r\n"


@given(st.lists(messages | lines, max_size=12), st.lists(st.integers(1, 200), max_size=40))
def test_what_was_sent_is_read_however_it_was_split(said: list[Any], cuts: list[int]) -> None:
    """Messages and lines come out whole and in order, whatever the payloads hold and wherever the reads end."""
    stream = b"".join(one + b"\r\n" if isinstance(one, bytes) else delivered(*one) for one in said)
    read: list[Any] = []
    parser = Parser(lambda number, message: read.append((number, message)), read.append)
    for cut in cuts:
        parser.feed(stream[:cut])
        stream = stream[cut:]
    parser.feed(stream)
    assert read == said


def test_a_large_payload_in_many_parts_is_read_once() -> None:
    """Eight megabytes that come in small reads are not searched anew for each of them."""
    message = Message("tape.a", b"x" * 8_000_000)
    stream = delivered(3, message) + b"PING\r\n"
    read: list[Any] = []
    parser = Parser(lambda number, found: read.append((number, found)), read.append)
    for start in range(0, len(stream), 16_384):
        parser.feed(stream[start : start + 16_384])
    assert read == [(3, message), b"PING"]


@pytest.mark.parametrize(
    "nonsense",
    [b"MSG a\r\n", b"MSG a b 3\r\nabc\r\n", b"HMSG a 1 x 3\r\n", b"MSG \xff\xfe 1 2\r\n", b"x" * 70_000],
)
def test_what_is_no_nats_is_refused(nonsense: bytes) -> None:
    """A line that cannot be a message, and a line without an end, are an error that shows them."""
    parser = Parser(lambda number, message: None, lambda line: None)
    with pytest.raises(ProtocolBroken):
        parser.feed(nonsense)


def test_golden_commands() -> None:
    """The bytes that go to the server."""
    assert protocol.publish("a.b", b"hello") == b"PUB a.b 5\r\nhello\r\n"
    assert protocol.publish("a.b", b"", "inbox.1") == b"PUB a.b inbox.1 0\r\n\r\n"
    block = protocol.header_block("Place", "7")
    assert block == b"NATS/1.0\r\nPlace: 7\r\n\r\n"
    assert protocol.publish("a", b"hi", "r", block) == b"HPUB a r 22 24\r\n" + block + b"hi\r\n"
    assert protocol.subscribe("tape.>", 4) == b"SUB tape.> 4\r\n"
    assert protocol.unsubscribe(4) == b"UNSUB 4\r\n"
    assert protocol.connect(ConnectOptions("risk", nkey="U1", sig="s")) == (
        b'CONNECT {"name":"risk","nkey":"U1","sig":"s","user":"","pass":"","lang":"python-tapeline","version":"1",'
        b'"protocol":1,"headers":true,"no_responders":true,"verbose":false,"pedantic":false}\r\n'
    )


def test_headers_are_found_or_not() -> None:
    """A header's value; nothing for another one's name, and nothing without headers."""
    block = protocol.header_block("Tape-Before", "7 BarClosed=8")
    assert protocol.header_value(block, "Tape-Before") == "7 BarClosed=8"
    assert protocol.header_value(block, "Before") == ""
    assert protocol.header_value(b"", "Tape-Before") == ""


def test_nobody_listens_is_told_from_a_reply() -> None:
    """Only the server's own status says so; an empty reply and a reply with headers do not."""
    assert Message("inbox", b"", header=b"NATS/1.0 503\r\n\r\n").nobody_listens
    assert not Message("inbox", b"").nobody_listens
    assert not Message("inbox", b"", header=protocol.header_block("A", "b")).nobody_listens


def test_the_greeting() -> None:
    """The fields we need are read, others passed over, and anything else is no greeting."""
    info = protocol.decode_info(b'INFO {"server_id":"X","max_payload":100,"nonce":"n","auth_required":true,"port":1}')
    assert info == ServerInfo(max_payload=100, nonce="n", auth_required=True)
    with pytest.raises(ProtocolBroken):
        protocol.decode_info(b"HTTP/1.1 400 Bad Request")
    with pytest.raises(ProtocolBroken):
        protocol.decode_info(b"INFO {")
