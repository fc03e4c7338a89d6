"""The mutation run: more than 200,000 spoilt inputs over every parser, and spoilt captures through the whole chain.

Each test has its own share and its own numbers, so that they may run side by side. What fails names the mutant and
shows its octets; `mutate.mutant(seeds, number, spice)` makes it again. Seeds are what a whole lab wrote (corpus.py).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.diameter.message import StreamFramer as DiameterFramer
from imslab.diameter.message import parse as parse_diameter
from imslab.diameter.userdata import parse_userdata, write_userdata
from imslab.ipsec.esp import EspTransform, Opener, Sealer
from imslab.ipsec.packet import (
    IpPacket,
    Reassembler,
    build_ip,
    build_tcp,
    build_udp,
    fragment_ip,
    mss_option,
    parse_ip,
)
from imslab.ipsec.sa import COMBINATIONS
from imslab.report.html import write_html
from imslab.report.ladder import build, draw, mermaid
from imslab.report.summary import lines, summarise
from imslab.rules.judge import judge
from imslab.sip.parser import StreamFramer as SipFramer
from imslab.sip.parser import parse as parse_sip
from imslab.sip.reginfo import parse_reginfo, write_reginfo
from imslab.trace.decrypt import decrypt
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing, esp_sa, parse_esp_sa
from imslab.trace.model import DiameterRecord, SipRecord
from imslab.trace.pcap import Packet, read
from imslab.trace.trace import Trace
from tests.properties.corpus import corpus, pcap
from tests.properties.mutate import (
    LIES,
    SIP_SPICE,
    Spoil,
    damage,
    feed_mutants,
    spoil_diameter,
    spoil_pcapng,
    spoil_sip,
    spoil_xml,
)
from tests.properties.readers import P4, P6, U4, U6, change_sip, read_diameter, read_packet, read_sip
from tests.require import require_shared

#: How many mutants each kind gets, over all its parts.
COUNTS = {
    "SIP datagrams": 48_000,
    "SIP streams": 16_000,
    "Diameter messages": 40_000,
    "Diameter streams": 16_000,
    "user data": 8_000,
    "reginfo": 8_000,
    "ESP": 32_000,
    "packets": 32_000,
    "pcap": 8_000,
    "pcapng": 8_000,
    "key files": 8_000,
}
#: Parts of a kind that is worth running side by side.
PARTS = 4
#: In what pieces a stream comes, in octets; single ones take their time, and are rare.
PIECES = (1, *(7, 100, 1460, 100_000) * 4)
#: A number of its own for the first mutant of each part.
APART = 1_000_000


def run_share(
    kind: str,
    part: int,
    seeds: tuple[bytes, ...],
    feed: Callable[[random.Random, bytes], object],
    spoil: Spoil = damage,
) -> None:
    """One of the PARTS of a kind's mutants."""
    feed_mutants(kind, seeds, COUNTS[kind] // PARTS, feed, first=part * APART, spoil=spoil)


in_parts = pytest.mark.parametrize("part", range(PARTS))


def test_there_are_enough() -> None:
    assert sum(count // PARTS * PARTS for count in COUNTS.values()) >= 200_000


# --- SIP ---


def a_datagram(chance: random.Random, octets: bytes) -> None:
    message = read_sip(octets)
    if not chance.randrange(8):
        change_sip(message)


@in_parts
def test_sip_datagrams(part: int) -> None:
    run_share("SIP datagrams", part, corpus().sip, a_datagram, spoil_sip)


def a_sip_stream(chance: random.Random, octets: bytes) -> None:
    """In pieces of any size: what comes out was in, and no more is held than the limit and one piece."""
    framer = SipFramer(limit=8192)
    found: list[bytes] = []
    size = chance.choice(PIECES)
    for start in range(0, len(octets), size):
        found += framer.feed(octets[start : start + size])
        assert framer.pending <= 8192 + size
        if framer.broken is not None:
            break
    assert all(message in octets for message in found)
    for message in found:
        read_sip(message)


@in_parts
def test_sip_streams(part: int) -> None:
    sip = corpus().sip
    seeds = tuple(first + b"\r\n\r\n" + second for first, second in pairwise(sip))
    run_share("SIP streams", part, seeds, a_sip_stream, spoil_sip)


def test_sip_torture() -> None:
    """Mutants of messages that were made to be hard to read: as many again, beyond the shares."""
    folder = require_shared("vectors/sip-torture")
    seeds = tuple(path.read_bytes() for path in sorted(folder.glob("*.dat")))
    assert len(seeds) > 40
    feed_mutants("SIP torture", seeds, 8_000, a_datagram, spoil=spoil_sip)


def a_reginfo(chance: random.Random, octets: bytes) -> None:
    info = parse_reginfo(octets)
    assert parse_reginfo(write_reginfo(info)) == info


@in_parts
def test_reginfo(part: int) -> None:
    run_share("reginfo", part, corpus().reginfo, a_reginfo, spoil_xml)


# --- Diameter ---


def a_diameter_message(chance: random.Random, octets: bytes) -> None:
    read_diameter(octets)


@in_parts
def test_diameter_messages(part: int) -> None:
    run_share("Diameter messages", part, corpus().diameter, a_diameter_message, spoil_diameter)


def a_diameter_stream(chance: random.Random, octets: bytes) -> None:
    framer = DiameterFramer(limit=8192)
    found: list[bytes] = []
    size = chance.choice(PIECES)
    for start in range(0, len(octets), size):
        found += framer.feed(octets[start : start + size])
        assert framer.pending <= 8192 + size
        if framer.error is not None:
            break
    assert octets.startswith(b"".join(found))
    for message in found:
        with contextlib.suppress(PeerError):
            read_diameter(message)


@in_parts
def test_diameter_streams(part: int) -> None:
    messages = corpus().diameter
    seeds = tuple(first + second for first, second in pairwise(messages))
    run_share("Diameter streams", part, seeds, a_diameter_stream)


def a_user_data(chance: random.Random, octets: bytes) -> None:
    profile = parse_userdata(octets)
    assert parse_userdata(write_userdata(profile)) == profile


@in_parts
def test_user_data(part: int) -> None:
    run_share("user data", part, corpus().userdata, a_user_data, spoil_xml)


# --- ESP and packets ---

HOSTS = Endpoint("192.0.2.1", 5062), Endpoint("192.0.2.2", 5064)
SAS = [Sa(0x1234, *HOSTS, alg, ealg, bytes(range(16)), bytes(range(16, 32))) for alg, ealg in COMBINATIONS]


@cache
def sealed() -> tuple[bytes, ...]:
    """Packets of every combination, with payloads of several lengths."""
    sealers = [Sealer(sa, SeededEntropy(sa.ealg)) for sa in SAS]
    return tuple(sealer.seal(17, bytes(length)) for sealer in sealers for length in (0, 1, 7, 16, 700, 1400))


@in_parts
def test_esp(part: int) -> None:
    """Every mutant is inspected, and opened, as one of its own combination and as one of some other."""
    inspectors = [Opener(sa) for sa in SAS]
    openers = [Opener(sa) for sa in SAS]
    transforms = [EspTransform(sa.alg, sa.ealg, sa.ik, sa.ck) for sa in SAS]
    protectors = [(transform, transform.protector(SeededEntropy(part))) for transform in transforms]
    originals = set(sealed())

    def feed(chance: random.Random, octets: bytes) -> None:
        which = chance.randrange(len(SAS))
        seen = inspectors[which].inspect(octets)
        if octets not in originals:
            # nobody but its owner makes a packet whose ICV is right
            assert not seen.icv_ok
            assert seen.payload is None
            assert seen.error is not None
        with contextlib.suppress(PeerError):
            openers[which].open(octets)
        # a peer with the keys may put anything before the ICV
        transform = protectors[which][0]
        plaintext = octets[8:]
        header = SAS[which].spi.to_bytes(4, "big") + chance.randrange(1, 1 << 32).to_bytes(4, "big")
        forged = protectors[which][1](header, plaintext[: len(plaintext) // transform.alignment * transform.alignment])
        seen = Opener(SAS[which]).inspect(forged)
        assert seen.payload is None or seen.payload in plaintext
        Opener(SAS[which]).open(forged)

    run_share("ESP", part, sealed(), feed)


@in_parts
def test_packets(part: int) -> None:
    seeds = [packet.octets for packet in corpus().packets[::3]]
    for src, dst in ((U4, P4), (U6, P6)):
        seeds += [
            build_ip(src, dst, 17, build_udp(src, dst, 5060, 6060, b"REGISTER")),
            build_ip(
                src, dst, 6, build_tcp(src, dst, 1, 2, seq=3, flags=2, options=b"\1\1" + mss_option(1360), data=b"x")
            ),
            # IPv6 extension headers: hop by hop, destination options, fragment
            build_ip(src, dst, 0, bytes((60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9))),
            *fragment_ip(build_ip(src, dst, 17, bytes(200)), 96),
        ]
    reassembler = Reassembler(packets=8)
    clock = iter(range(1, 1 << 40))

    def feed(chance: random.Random, octets: bytes) -> None:
        whole: IpPacket | None = reassembler.feed(parse_ip(octets), next(clock) / 1000)
        assert len(reassembler) <= 8
        if whole is not None:
            read_packet(whole.payload)

    run_share("packets", part, tuple(seeds), feed)


# --- captures and key files ---


def a_capture(chance: random.Random, octets: bytes) -> None:
    """Read to its end or to its damage; no more comes out than went in."""
    size = 0
    try:
        for packet in read(io.BytesIO(octets)):
            size += len(packet.octets)
            assert packet.number > 0
    finally:
        assert size <= len(octets)


def a_capture_packed_or_not(chance: random.Random, octets: bytes) -> None:
    if chance.randrange(16):
        a_capture(chance, octets)
    else:
        packed = gzip.compress(octets, 1)
        with contextlib.suppress(PeerError):
            a_capture(chance, packed + octets)
        for _ in read(io.BytesIO(damage(chance, packed))):
            pass


@in_parts
def test_pcapng(part: int) -> None:
    some = corpus().pcapng
    blocks = [some[:2000], some[:8000]]
    run_share("pcapng", part, tuple(blocks), a_capture_packed_or_not, spoil_pcapng)


@in_parts
def test_pcap(part: int) -> None:
    packets = corpus().packets
    seeds = tuple(
        pcap(packets[start : start + 6], order, nano)
        for start, order, nano in ((0, "<", False), (20, ">", False), (40, "<", True), (60, ">", True))
    )
    run_share("pcap", part, seeds, a_capture_packed_or_not)


@cache
def key_files() -> tuple[bytes, ...]:
    """Lines of every kind that a key file may have."""
    wireshark = [esp_sa(sa) for sa in SAS if sa.alg != "aes-gmac" and sa.ealg != "aes-gcm"]
    key = bytes(range(16)).hex()
    others = [
        f"0x1001 hmac-sha-1-96 aes-cbc {key} {key}",
        f"0x1002 hmac-md5-96 null {key} -",
        f"ck={key} ik=0x{key} rand={key}",
        f"ck={key} ik={key} nonce={'A' * 43}=",
        f"k={key} opc={key} impi=a@b",
        f"k={key} op={key}",
        "# comment",
    ]
    return tuple("\n".join([first, second]).encode() for first in wireshark for second in others)


def a_key_file(chance: random.Random, octets: bytes) -> None:
    """A file of the user's own: what is wrong with it is a LocalError."""
    text = octets.decode("utf-8", "replace")
    for take in (KeyRing().read, parse_esp_sa):
        with contextlib.suppress(LocalError):
            take(text)


@in_parts
def test_key_files(part: int) -> None:
    spice = (*LIES, b'"', b",", b"\n", b"=", b" ", b"0x", b"*", b"#", b"\xff", "²".encode(), b"9" * 5000, b"\0")
    run_share("key files", part, key_files(), a_key_file, partial(damage, spice=spice))


# --- the whole chain ---


def spoilt(chance: random.Random, packets: tuple[Packet, ...]) -> list[Packet]:
    """A capture with some packets damaged, twice, lost, swapped, late, or cut off by the snap length."""
    changed = list(packets)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(changed))
        packet = changed[at]
        match chance.randrange(7):
            case 0 | 1:
                spice = chance.choice((LIES, SIP_SPICE))
                changed[at] = packet._replace(octets=damage(chance, packet.octets, spice))
            case 2:
                changed.insert(at, packet)
            case 3 if len(changed) > 1:
                del changed[at]
            case 4:
                other = chance.randrange(len(changed))
                changed[at], changed[other] = changed[other], packet
            case 5:
                changed[at] = packet._replace(time=chance.choice((0.0, -1e9, 1e18, packet.time + 100)))
            case _:
                changed[at] = packet._replace(octets=packet.octets[: chance.randrange(len(packet.octets) + 1)])
    return [packet._replace(number=number) for number, packet in enumerate(changed, 1)]


def see(trace: Trace) -> None:
    """Every question and every report there is, and sane results."""
    findings = judge(trace)
    document = summarise(trace, findings)
    assert document["verdict"] in ("pass", "fail", "inconclusive")
    json.dumps(document)
    frames = {frame for record in trace.records for frame in (*record.frames, *record.copies)}
    assert frames <= set(range(1, trace.packets + 1))
    for finding in findings:
        assert set(finding.records) <= frames
        assert finding.text
        assert finding.rule
    for line in lines(trace, findings):
        assert line.isprintable()
    ladder = build(trace)
    for line in draw(ladder, width=120):
        assert line.isprintable()
    for line in mermaid(ladder):
        assert line.isprintable()
    page = write_html(document, ladder, title="mutants")
    assert page.count("<script") == EMPTY_PAGE.count("<script")
    assert all(c.isprintable() or c in "\n\t" for c in page)
    for record in trace.sip_records:
        trace.relayed(record)
        trace.request_of(record)
        trace.set_of(record)


EMPTY_PAGE = write_html({"verdict": "pass", "registrations": [], "findings": []}, build(dissect([])), title="")


def spoilt_capture(chance: random.Random) -> None:
    """Some 60 packets from anywhere, dissected, judged, and written again with their ESP opened."""
    packets = corpus().packets
    start = chance.randrange(len(packets) - 20)
    capture = spoilt(chance, packets[start : start + 60] if chance.randrange(4) else packets[:60])
    trace = dissect(capture)
    assert trace.packets == len(capture)
    see(trace)
    stream = io.BytesIO()
    assert decrypt(capture, trace, stream).packets == len(capture)
    again = list(read(io.BytesIO(stream.getvalue())))
    assert [packet.number for packet in again] == [packet.number for packet in capture]


def spoilt_messages(chance: random.Random) -> None:
    """A trace some of whose messages say something else: whatever can still be read is judged."""
    whole = corpus_trace()
    start = chance.randrange(len(whole.records) - 20)
    records = []
    for record in whole.records[start if chance.randrange(4) else 0 :][:80]:
        if isinstance(record, SipRecord | DiameterRecord) and not chance.randrange(4):
            octets = record.message.octets or b""
            with contextlib.suppress(PeerError):
                if isinstance(record, SipRecord):
                    record = replace(record, message=parse_sip(spoil_sip(chance, octets)))
                else:
                    record = replace(record, message=parse_diameter(spoil_diameter(chance, octets)))
        records.append(record)
    see(Trace(records, whole.sas, sets=whole.sets, keyed_sas=whole.keyed_sas, keys=whole.keys, packets=whole.packets))


@cache
def corpus_trace() -> Trace:
    return dissect(corpus().packets)


#: Spoilt captures, and traces of spoilt messages, that go through everything.
CHAINS = 320


@pytest.mark.parametrize("spoil", [spoilt_capture, spoilt_messages])
@in_parts
def test_whole_chain(part: int, spoil: Callable[[random.Random], None]) -> None:
    for number in range(part * APART, part * APART + CHAINS // PARTS):
        try:
            spoil(random.Random(number))
        except Exception as error:
            error.add_note(f"{spoil.__name__}(random.Random({number}))")
            raise
