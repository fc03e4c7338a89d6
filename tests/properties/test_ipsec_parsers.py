"""Whatever octets arrive, the packet and ESP parsers return or raise PeerError, and hold no more than they may."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import ImslabError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.esp import EspError, Opener, Sealer
from imslab.ipsec.packet import (
    IpPacket,
    Reassembler,
    build_ip,
    build_tcp,
    build_udp,
    fragment_ip,
    mss_option,
    parse_ip,
    parse_tcp,
    parse_udp,
    tcp_options,
)
from imslab.ipsec.sa import COMBINATIONS

U4, P4 = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
U6, P6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\2"
SAS = [
    Sa(4660, Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2), alg, ealg, bytes(range(16)), bytes(range(16, 32)))
    for alg, ealg in COMBINATIONS
]


def read_all(octets: bytes) -> None:
    """All parsers over the same octets."""
    for parse in READERS:
        with suppress(PeerError):
            parse(octets)


READERS: list[Callable[[bytes], object]] = [
    parse_ip,
    lambda octets: parse_ip(octets, check=True),
    lambda octets: parse_udp(octets, U4, P4),
    lambda octets: parse_udp(octets, U6, P6, check=False),
    lambda octets: parse_tcp(octets, U4, P4),
    lambda octets: parse_tcp(octets, U6, P6, check=False).mss,
    tcp_options,
]


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"")
def test_any_octets(octets: bytes) -> None:
    read_all(octets)


@settings(max_examples=200)
@given(st.sampled_from([b"\x45", b"\x46", b"\x4f", b"\x60\0\0\0\0"]), st.binary(max_size=200))
def test_octets_that_begin_like_ip(first: bytes, octets: bytes) -> None:
    read_all(first + octets)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([0, 43, 44, 60, 17]), st.binary(min_size=7, max_size=7)), max_size=20))
def test_chains_of_extension_headers(chain: list[tuple[int, bytes]]) -> None:
    octets = b"".join(bytes((kind,)) + rest for kind, rest in chain)
    for first in (0, 43, 44, 60):
        read_all(build_ip(U6, P6, first, octets))


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(range(0, 56, 8)), st.sampled_from([1, 7, 8, 16, 24]), st.booleans(), st.integers(0, 2)
        ),
        max_size=40,
    )
)
def test_any_fragments(pieces: list[tuple[int, int, bool, int]]) -> None:
    """What comes out whole is made of octets that came in, in their places; nothing is kept of what came out."""
    reassembler = Reassembler(lifetime=5.0, packets=2)
    header = build_ip(U4, P4, 17, b"")
    for now, (offset, length, more, ident) in enumerate(pieces):
        data = bytes(range(offset, offset + length))
        whole = reassembler.feed(IpPacket(U4, P4, 17, data, offset, more, ident, 64, header), now / 4)
        assert len(reassembler) <= 2
        if whole is not None:
            assert whole.payload == bytes(range(len(whole.payload)))
    reassembler.feed(IpPacket(U4, P4, 17, b""), 1e9)
    assert (len(reassembler), reassembler._held) == (0, 0)


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"\x45", b"\x48", b"\x60\0\0\0\0\x80\0", b"\x60\0\0\0\0\x80\x3c"]))
def test_cutting_any_octets(octets: bytes, first: bytes) -> None:
    try:
        pieces = fragment_ip(first + octets, 100, ident=1)
    except ImslabError:
        return
    assert len(pieces) == 1 or all(len(piece) <= 100 for piece in pieces)


@settings(max_examples=150)
@given(st.sampled_from(SAS), st.binary(max_size=120), st.booleans())
def test_any_esp(sa: Sa, octets: bytes, own: bool) -> None:
    packet = (sa.spi.to_bytes(4, "big") if own else b"") + octets
    opener = Opener(sa)
    with pytest.raises(EspError):
        opener.open(packet)
    seen = opener.inspect(packet)
    assert seen.payload is None
    assert seen.error is not None
    assert not seen.icv_ok


@settings(max_examples=200)
@given(st.sampled_from(SAS), st.binary(max_size=80))
def test_any_plaintext_under_a_right_icv(sa: Sa, plaintext: bytes) -> None:
    """A peer with the keys may put anything before the ICV."""
    sealer = Sealer(sa, SeededEntropy(1))
    transform = sealer.transform
    plaintext += bytes(-len(plaintext) % transform.alignment or (0 if plaintext else transform.alignment))
    header = sa.spi.to_bytes(4, "big") + b"\0\0\0\1"
    packet = transform.protector(SeededEntropy(1))(header, plaintext)
    opener = Opener(sa)
    seen = Opener(sa).inspect(packet)
    assert seen.icv_ok
    if seen.error is not None:
        with pytest.raises(type(seen.error)):
            opener.open(packet)
        return
    opened = opener.open(packet)
    assert (opened.next_header, opened.payload) == (seen.next_header, seen.payload)
    assert plaintext.startswith(opened.payload)


def mutated(chance: random.Random, octets: bytes) -> bytes:
    """The octets after a few changes: bits turned, pieces cut, doubled or replaced, lengths that lie."""
    changed = bytearray(octets)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            break
        at = chance.randrange(len(changed))
        match chance.randrange(5):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(1, 17)]
            case _:
                del changed[at:]
    return bytes(changed)


def test_mutations() -> None:
    """60,000 spoilt packets, or as many as go into five seconds; fewer than a tenth of them would be a hang."""
    seeds = [
        build_ip(src, dst, protocol, payload)
        for src, dst in ((U4, P4), (U6, P6))
        for protocol, payload in (
            (17, build_udp(src, dst, 5060, 6060, b"REGISTER")),
            (6, build_tcp(src, dst, 1, 2, seq=3, flags=2, options=b"\1\1" + mss_option(1360), data=b"x")),
            (0, bytes((60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9)) + b"12345678"),
            (50, Sealer(SAS[2], SeededEntropy(1)).seal(17, b"inside")),
        )
    ]
    for whole in (build_ip(U4, P4, 17, bytes(200)), build_ip(U6, P6, 17, bytes(200))):
        seeds += fragment_ip(whole, 96)
    chance = random.Random(20)
    reassembler = Reassembler(packets=8)
    openers = [Opener(sa) for sa in SAS]
    deadline = time.monotonic() + 5.0
    done = 0
    for number in range(60_000):
        octets = mutated(chance, chance.choice(seeds))
        with suppress(PeerError):
            packet = reassembler.feed(parse_ip(octets), number / 1000)
            if packet is not None:
                read_all(packet.payload)
                openers[number % len(openers)].inspect(packet.payload)
        assert len(reassembler) <= 8
        done += 1
        if time.monotonic() > deadline:
            break
    assert done >= 6_000
