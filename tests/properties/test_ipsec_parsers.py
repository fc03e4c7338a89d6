"""Whatever octets arrive, the packet and ESP parsers return or raise PeerError, and hold no more than they may."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import ImslabError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.esp import EspError, Opener, Sealer
from imslab.ipsec.packet import (
    IpPacket,
    Reassembler,
    build_ip,
    fragment_ip,
)
from imslab.ipsec.sa import COMBINATIONS
from tests.properties.readers import P4, P6, U4, U6, read_packet

SAS = [
    Sa(4660, Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2), alg, ealg, bytes(range(16)), bytes(range(16, 32)))
    for alg, ealg in COMBINATIONS
]


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"")
def test_any_octets(octets: bytes) -> None:
    read_packet(octets)


@settings(max_examples=200)
@given(st.sampled_from([b"\x45", b"\x46", b"\x4f", b"\x60\0\0\0\0"]), st.binary(max_size=200))
def test_octets_that_begin_like_ip(first: bytes, octets: bytes) -> None:
    read_packet(first + octets)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([0, 43, 44, 60, 17]), st.binary(min_size=7, max_size=7)), max_size=20))
def test_chains_of_extension_headers(chain: list[tuple[int, bytes]]) -> None:
    octets = b"".join(bytes((kind,)) + rest for kind, rest in chain)
    for first in (0, 43, 44, 60):
        read_packet(build_ip(U6, P6, first, octets))


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
