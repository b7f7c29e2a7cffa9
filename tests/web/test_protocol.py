"""Messages and packets: what is sent is what is read, and nothing that a stranger sends gets further."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivant.errors import InputError
from vivant.web import protocol
from vivant.web.protocol import Binary, Hello, Kind, Stats, Viewed, parse_binary, parse_server, parse_viewer

NAME = "A" * 22


def test_messages_and_packets_come_back_as_they_were() -> None:
    hello = Hello(version=1, portrait=NAME, mode="voice", options={"smoothing_ms": 0})
    assert parse_viewer(hello.model_dump_json()) == hello
    stats = Stats(
        shown=1,
        dropped=0,
        without_face=0,
        latency_p50_ms=None,
        latency_p95_ms=None,
        latency_max_ms=None,
        busy=0.5,
    )
    assert parse_server(stats.model_dump_json()) == stats
    packet = Binary(Kind.PICTURE, True, 7, 12.5, 64, 48, b"picture")
    assert parse_binary(packet.packed()) == packet
    assert len(packet.packed()) == protocol.HEADER_BYTES + 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "helo"}', "helo"),
        ('{"type": "restart", "now": 1}', "now"),
        ('{"type": "viewed", "number": -1, "latency_ms": 1}', "number"),
        ('{"type": "viewed", "number": 1, "latency_ms": NaN}', "latency_ms"),
        (f'{{"type": "hello", "version": 1, "portrait": "../{NAME}"}}', "portrait"),
        ("[" * 9000, "JSON"),
        (" " * 20_000, "characters"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_viewer(text)


@given(
    st.binary(max_size=80) | st.binary(min_size=24, max_size=40).map(lambda data: b"\x01\x00\x00\x00" + data)
)
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        packet = parse_binary(data)
    except InputError:
        return
    assert packet.packed()[4:20] == data[4:20]


@given(
    st.text(max_size=60)
    | st.dictionaries(
        st.sampled_from(["type", "version", "portrait", "options", "number", "latency_ms"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.sampled_from(["hello", "viewed"]),
    ).map(lambda tree: __import__("json").dumps(tree))
)
def test_any_text_is_a_message_or_refused(text: str) -> None:
    try:
        message = parse_viewer(text)
    except InputError:
        return
    assert isinstance(message, (Hello, Viewed)) or message.type in ("restart", "interrupt", "want_key")
