"""Whatever octets arrive, the Diameter parsers return or raise PeerError, and what they return is written again."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import PeerError
from imslab.diameter import cx
from imslab.diameter.avp import Avp, DiameterError, encode_avps, parse_avps
from imslab.diameter.dictionary import DEFINITIONS
from imslab.diameter.message import DiameterMessage, StreamFramer, parse
from imslab.diameter.peer import Identity, Peer
from imslab.diameter.userdata import parse_userdata, write_userdata
from tests.diameter import samples
from tests.diameter.test_userdata import DOCUMENT
from tests.properties.mutate import XML_SPICE, damaged
from tests.properties.readers import read_diameter

SAMPLES = [message.encode() for message in samples.messages()]

known = st.sampled_from(DEFINITIONS)
avps = st.one_of(
    st.builds(
        Avp,
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 32) - 1),
        st.integers(0x80, 0xFF),
        st.binary(max_size=40),
    ),
    st.builds(lambda row, data: Avp(row.code, row.vendor, row.flags, data), known, st.binary(max_size=40)),
)


def read_all(octets: bytes) -> None:
    """Everything that can be asked of a message."""
    with contextlib.suppress(PeerError):
        read_diameter(octets)


@given(st.one_of(st.binary(max_size=200), damaged(SAMPLES)))
@settings(max_examples=500, deadline=None)
def test_messages(octets: bytes) -> None:
    read_all(octets)


@given(damaged(SAMPLES))
@settings(max_examples=500, deadline=None)
def test_messages_whose_length_is_put_right(octets: bytes) -> None:
    octets = octets[: len(octets) & ~3]
    read_all(octets[:1] + len(octets).to_bytes(3, "big") + octets[4:])


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_avps(octets: bytes) -> None:
    try:
        found = parse_avps(octets)
    except PeerError:
        return
    written = encode_avps(found)
    assert parse_avps(written) == found


@given(st.lists(avps, max_size=6))
@settings(max_examples=300, deadline=None)
def test_avps_survive(found: list[Avp]) -> None:
    assert parse_avps(encode_avps(found)) == found
    message = DiameterMessage(303, 7, avps=found)
    assert parse(message.encode()) == message
    nested = Avp.grouped(628, [Avp.grouped(612, found, 10415), *found], 10415)
    assert nested.children[0].children == found


@given(st.lists(damaged(SAMPLES), min_size=1, max_size=3), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_the_framer_gives_the_same_however_it_is_fed(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)

    def run(step: int) -> tuple[list[bytes], bool]:
        framer, found = StreamFramer(limit=1 << 16), []
        for start in range(0, len(stream), step):
            try:
                found += framer.feed(stream[start : start + step])
            except PeerError:
                break
        return found, framer.error is None

    assert run(len(stream) or 1) == run(size)


@given(
    st.lists(st.one_of(damaged(SAMPLES), st.sampled_from(SAMPLES), st.binary(max_size=30)), max_size=4), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_a_peer_survives(pieces: list[bytes], initiator: bool) -> None:
    """No octets make it raise, and what it says can be read."""
    one = Peer(Identity("a", "b"), SeededEntropy(1), initiator=initiator)
    partner = Peer(Identity("c", "d"), SeededEntropy(2), initiator=not initiator)
    one.connected(0.0)
    partner.connected(0.0)
    for _ in range(2):
        partner.receive(one.take_output(), 0.0)
        one.receive(partner.take_output(), 0.0)
    assert one.is_open
    for piece in pieces:
        one.receive(piece, 1.0)
        for single in StreamFramer().feed(one.take_output()):
            parse(single)
    one.timed_out(100.0)


@given(st.one_of(st.binary(max_size=100), damaged([DOCUMENT], XML_SPICE)))
@settings(max_examples=300, deadline=None)
def test_user_data(octets: bytes) -> None:
    try:
        profile = parse_userdata(octets)
    except PeerError:
        return
    assert parse_userdata(write_userdata(profile)) == profile


def test_hostile_nesting_is_not_followed() -> None:
    """Some 5,000 groups inside one another: parsed in one step, and refused at a depth of eight."""
    nested = b""
    while len(nested) < 60_000:
        nested = Avp(628, 10415, 0xC0, nested).encode()
    message = parse(DiameterMessage(303, 16777216, avps=parse_avps(nested)).encode())
    assert len(message.avps) == 1
    with pytest.raises(DiameterError) as caught:
        cx.MultimediaAuthRequest.from_message(message)
    assert caught.value.result_code == 5004


def test_a_long_message_in_single_octets() -> None:
    """A header that promises a megabyte holds no more than what came."""
    framer = StreamFramer()
    framer.feed(bytes.fromhex("01100000"))
    for _ in range(50_000):
        assert framer.feed(b"\0") == []
    assert framer.pending == 50_004
