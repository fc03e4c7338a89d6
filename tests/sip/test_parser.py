"""Datagrams and streams."""

from __future__ import annotations

import time

import pytest

from imslab.core.errors import PeerError
from imslab.sip.message import Request
from imslab.sip.parser import StreamFramer, parse


def message(body: bytes = b"", name: bytes = b"Content-Length", extra: bytes = b"") -> bytes:
    return (
        b"MESSAGE sip:a@b SIP/2.0\r\nCall-ID: x\r\n"
        + extra
        + name
        + b": "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )


class TestDatagram:
    def test_whole(self) -> None:
        octets = message(b"\x00\xff\r\n\r\nbinary")
        read = parse(octets)
        assert read.body == b"\x00\xff\r\n\r\nbinary"
        assert read.encode() == octets

    def test_what_follows_the_body_is_dropped(self) -> None:
        read = parse(message(b"body") + b"surplus")
        assert read.body == b"body"
        assert read.octets == read.encode() == message(b"body")

    def test_line_ends_before_the_start_are_ignored(self) -> None:
        read = parse(b"\r\n\r\n" + message(b"body"))
        assert read.octets == message(b"body")

    def test_without_content_length_the_body_is_the_rest(self) -> None:
        read = parse(b"MESSAGE sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\nbody")
        assert read.body == b"body"
        assert parse(read.encode()).body == b"body"

    def test_without_headers(self) -> None:
        assert parse(b"OPTIONS sip:a SIP/2.0\r\n\r\n").headers == []

    @pytest.mark.parametrize("cut", range(len(message(b"body"))))
    def test_too_little(self, cut: int) -> None:
        with pytest.raises(PeerError):
            parse(message(b"body")[:cut])

    @pytest.mark.parametrize(
        "octets",
        [
            b"",
            b"\r\n",
            b"\r\n\r\n",
            b"\x00",
            message().replace(b"\r\n", b"\n"),
            message().replace(b"Call-ID: x", b"Call-ID: x\rVia: y"),
            message().replace(b"Call-ID: x", b"Call-ID: x\nVia: y"),
            message().replace(b"Call-ID: x\r\n", b"Call-ID: x\r\r\n"),
            message().replace(b"SIP/2.0\r\n", b"SIP/2.0\n"),
            message().replace(b"Call-ID: x", b"Call-ID x"),
            message().replace(b"Call-ID: x", b": x"),
            message().replace(b"Call-ID: x", b" Call-ID: x"),
            message().replace(b"Length: 0", b"Length: -1"),
            message().replace(b"Length: 0", b"Length: x"),
            message().replace(b"Length: 0", b"Length:"),
            message().replace(b"Length: 0", b"Length: 4294967296"),
            message().replace(b"Length: 0", b"Length: " + b"9" * 5000),
            message(b"body", extra=b"l: 3\r\n"),
            message(b"body", extra=b"l: x\r\n"),
        ],
    )
    def test_malformed(self, octets: bytes) -> None:
        with pytest.raises(PeerError):
            parse(octets)

    def test_two_lengths_that_agree_hide_nothing_from_the_framing(self) -> None:
        read = parse(message(b"body", extra=b"l: 004\r\n"))
        assert read.body == b"body"
        with pytest.raises(PeerError):
            _ = read.content_length

    def test_any_octets_in_values_survive(self) -> None:
        octets = message(extra=b"Subject: caf\xe9 \x00 \xef\xbb\xbf\xd0\x96\r\n")
        read = parse(octets)
        assert read.encode() == octets
        changed = read.copy()
        changed.set("Call-ID", "y")
        assert changed.encode() == octets.replace(b"Call-ID: x", b"Call-ID: y")

    def test_other_kinds_of_buffers(self) -> None:
        assert parse(bytes(bytearray(message(b"a")))).body == b"a"


class TestStream:
    def test_whole(self) -> None:
        framer = StreamFramer()
        octets = message(b"one") + message(b"two\r\n\r\ntwo", b"l") + message(b"", b"CONTENT-length ")
        found = framer.feed(octets)
        assert [parse(piece).body for piece in found] == [b"one", b"two\r\n\r\ntwo", b""]
        assert b"".join(found) == octets
        assert framer.pending == 0

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 50])
    def test_in_pieces(self, size: int) -> None:
        octets = message(b"one") + b"\r\n\r\n" + message(b"two\r\n\r\ntwo", b"l") + b"\r\n" + message()
        framer = StreamFramer()
        found: list[bytes] = []
        for start in range(0, len(octets), size):
            found += framer.feed(octets[start : start + size])
        assert found == [message(b"one"), message(b"two\r\n\r\ntwo", b"l"), message()]
        assert framer.take_pings() == 1
        assert framer.take_pings() == 0

    def test_with_a_tail(self) -> None:
        framer = StreamFramer()
        assert framer.feed(message(b"one") + message(b"two")[:-1]) == [message(b"one")]
        assert framer.pending == len(message(b"two")) - 1
        assert framer.feed(b"o") == [message(b"two")]

    def test_a_folded_length_and_one_that_is_none(self) -> None:
        octets = message(b"body", extra=b"Subject: x\r\n l: 99\r\n").replace(b"Length: 4", b"Length:\r\n\t4")
        framer = StreamFramer()
        assert framer.feed(octets + b"OPTIONS") == [octets]
        assert parse(octets).body == b"body"

    def test_pings(self) -> None:
        framer = StreamFramer()
        assert framer.feed(b"\r\n\r\n") == []
        assert framer.pings == 1
        framer.feed(b"\r\n\r\n\r")
        framer.feed(b"\n\r\n")
        assert framer.take_pings() == 3 - 1 + 1
        # One CRLF is the answer to a ping, and no ping.
        framer.feed(b"\r\n" + message())
        framer.feed(b"\r\n")
        assert framer.take_pings() == 0

    @pytest.mark.parametrize(
        "octets",
        [
            b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x\r\n\r\n",
            b"OPTIONS sip:a SIP/2.0\r\n\r\n",
            message().replace(b"Length: 0", b"Length: -5"),
            message().replace(b"Length: 0", b"Length: "),
            message(b"body", extra=b"l: 3\r\n"),
            message().replace(b"Length: 0", b"Length: 1048577"),
            message().replace(b"Length: 0", b"Length: 1048576"),
            message().replace(b"Length: 0", b"Length: 99999999999999999999999999"),
        ],
    )
    def test_streams_that_cannot_be_followed(self, octets: bytes) -> None:
        framer = StreamFramer()
        with pytest.raises(PeerError):
            framer.feed(octets)
        assert framer.broken is not None
        # It stays so, even for a good message, until a new stream begins.
        with pytest.raises(PeerError):
            framer.feed(message())
        framer.reset()
        assert framer.broken is None
        assert framer.feed(message()) == [message()]

    def test_what_stands_before_the_bad_place_is_not_lost(self) -> None:
        framer = StreamFramer()
        assert framer.feed(message(b"good") + b"BAD\r\n\r\n") == [message(b"good")]
        assert framer.broken is not None
        with pytest.raises(PeerError):
            framer.feed(b"")

    def test_headers_without_end_are_not_hoarded(self) -> None:
        framer = StreamFramer(limit=1000)
        for _ in range(100):
            assert framer.feed(b"x" * 10) == []
        with pytest.raises(PeerError):
            framer.feed(b"x")
        assert framer.pending == 0

    def test_torture_9999_waits(self) -> None:
        framer = StreamFramer()
        assert framer.feed(message(b"short").replace(b"Length: 5", b"Length: 9999")) == []
        assert framer.broken is None


def hostile(seconds: float, octets: bytes, *names: str) -> None:
    """Reading this takes a fraction of a second; anything quadratic would take 10**10 steps, far beyond the bound."""
    start = time.process_time()
    try:
        read = parse(octets)
    except PeerError:
        pass
    else:
        assert isinstance(read, Request)
        for name in names:
            try:
                getattr(read, name)
            except PeerError:
                continue
    assert time.process_time() - start < seconds


N = 100_000


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (b"Via: " + b"," * N, ("via",)),
        (b"Via: SIP/2.0/UDP a" + b";" * N, ("via",)),
        (b"Via: SIP/2.0/UDP a" + b" " * N + b"x", ("via",)),
        (b"Via: SIP/2.0/UDP a" + b"".join(b";p%d=x" % i for i in range(N // 4)), ("via",)),
        (b"Contact: " + b"<sip:a@b>," * (N // 4), ("contact",)),
        (b"Contact: " + b"<" * N, ("contact",)),
        (b"Contact: a, " + b"<" * N, ("contact",)),
        (b"Contact: " + b'"' * (N + 1), ("contact",)),
        (b"Contact: x, " + b'"' * (N + 1), ("contact",)),
        (b'Contact: x, "' + b'\\"' * N, ("contact",)),
        (b'Contact: "' + b"\\" * N, ("contact",)),
        (b"Contact: " + b"a " * N + b"\x01<sip:a@b>", ("contact",)),
        (b"Contact: <sip:" + b"a:" * N + b"@b>", ("contact",)),
        (b"Contact: <sip:" + b"%41" * N + b"@b" + b";x" * N + b">", ("contact",)),
        (b"To: " + b"(" * N, ("to",)),
        (b"To: <sip:[" + b":" * N + b"]>", ("to",)),
        (b"Expires: " + b"9" * N, ("expires",)),
        (b"Expires: " + b"0" * N, ("expires",)),
        (b"CSeq: " + b" " * N + b"1" * N, ("cseq",)),
        (b"Authorization: Digest " + b"a=b," * N, ("authorization",)),
        (b"Authorization: Digest " + b'a="' + b"\\" * N, ("authorization",)),
        (b"Authorization: Digest " + b" " * N, ("authorization",)),
        (b"Authorization: Digest a" + b" " * N, ("authorization",)),
        (b"Security-Client: " + b"ipsec-3gpp;alg=x," * (N // 4), ("security_client",)),
        (b"Supported: " + b"a," * N, ("supported",)),
        (b"Content-Type: a" + b" " * N + b"/b", ("content_type",)),
        (b"P-Visited-Network-ID: " + b'"\\' * N, ("p_visited_network_id",)),
        (b"Subject: " + b"\r\n " * N + b"x", ("via",)),
        (b"X:\r\n" * N + b"Y: z", ("via",)),
        (b"Via: SIP/2.0/UDP a\r\n" * N + b"Y: z", ("via",)),
        (b"x " * N + b": y", ("via",)),
        (b"L" + b" " * N + b": 0", ("via",)),
    ],
)
def test_nothing_is_quadratic(row: bytes, names: tuple[str, ...]) -> None:
    hostile(4.0, b"OPTIONS sip:a SIP/2.0\r\n" + row + b"\r\n\r\n", *names)


def test_single_octets_of_a_long_head_are_not_searched_again_and_again() -> None:
    framer = StreamFramer()
    start = time.process_time()
    octets = message(extra=b"X: " + b"y" * N + b"\r\n")
    found: list[bytes] = []
    for i in range(len(octets)):
        found += framer.feed(octets[i : i + 1])
    assert found == [octets]
    assert time.process_time() - start < 4.0
