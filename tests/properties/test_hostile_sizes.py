"""Lengths that lie cost no memory, and long inputs cost time in proportion to their length.

Time is CPU time, measured on an input and on one TIMES as long: what grows with the square takes up to TIMES² as long,
and what takes less than LIMIT passes, at the third attempt too, so that a busy machine fails nothing.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import struct
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.diameter import cx
from imslab.diameter.avp import Avp
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage
from imslab.diameter.message import StreamFramer as DiameterFramer
from imslab.diameter.userdata import parse_userdata
from imslab.ipsec.packet import IpPacket, Reassembler, build_ip, build_tcp
from imslab.report.html import write_html
from imslab.report.ladder import build, draw
from imslab.report.summary import lines, summarise
from imslab.rules.judge import judge
from imslab.sip.parser import StreamFramer as SipFramer
from imslab.sip.reginfo import parse_reginfo
from imslab.trace.dissect import dissect
from imslab.trace.pcap import PcapngWriter, read
from tests.properties.readers import read_diameter, read_sip
from tests.trace.wire import HSS, IMPI, PCSCF, REALM, SCSCF, UE, Wire, request, sip

# --- memory ---

#: More than any of these may hold at a time, beyond its input.
MODEST = 4 << 20
PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
INTERFACE = struct.pack("<IIHHII", 1, 20, 101, 0, 0, 20)


def read_capture(octets: bytes) -> None:
    for _ in read(io.BytesIO(octets)):
        pass


def feed_sip(octets: bytes) -> None:
    SipFramer().feed(octets)


def feed_diameter(octets: bytes) -> None:
    DiameterFramer().feed(octets)


LIARS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "pcap packet of 4 GB": (read_capture, PCAP + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)),
    "pcap packet of 1 MB": (read_capture, PCAP + struct.pack("<IIII", 0, 0, 1 << 20, 1 << 20)),
    "pcapng block of 4 GB": (read_capture, SECTION + struct.pack("<II", 6, 0xFFFFFFFC) + bytes(40)),
    "pcapng block of 16 MB": (read_capture, SECTION + struct.pack("<II", 6, 1 << 24) + bytes(40)),
    "pcapng packet of 4 GB": (
        read_capture,
        SECTION + INTERFACE + struct.pack("<IIIIIIII", 6, 32, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 32),
    ),
    "gzip of 100 MB of blocks": (
        read_capture,
        gzip.compress(SECTION)
        + 100 * gzip.compress(struct.pack("<III", 10, 1 << 20, 0).ljust((1 << 20) - 4, b"\0"))
        + b"",
    ),
    "SIP body of 4 GB": (feed_sip, b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 4294967295\r\n\r\n"),
    "SIP body of 1 MB": (feed_sip, b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1000000\r\n\r\n"),
    "Diameter message of 16 MB": (feed_diameter, bytes.fromhex("01ffffff") + bytes(100)),
    "Diameter message of 1 MB": (feed_diameter, bytes.fromhex("01100000") + bytes(100)),
    "Diameter AVP of 16 MB": (
        read_diameter,
        bytes.fromhex("0100002080000101000000000000000000000000") + bytes.fromhex("0000010740ffffff00000000"),
    ),
    "XML that doubles itself": (
        parse_userdata,
        b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
        + b"]><IMSSubscription>&j;</IMSSubscription>",
    ),
}


@pytest.mark.parametrize("name", LIARS)
def test_a_length_that_lies_is_not_believed(name: str) -> None:
    feed, octets = LIARS[name]
    with contextlib.suppress(PeerError):
        feed(octets)  # what is made once is made now
    tracemalloc.start()
    try:
        with contextlib.suppress(PeerError):
            feed(octets)
        assert tracemalloc.get_traced_memory()[1] < MODEST
    finally:
        tracemalloc.stop()


def test_fragments_that_never_end() -> None:
    """A hundred thousand first fragments hold what the reassembler's own limits say, not what came."""
    reassembler = Reassembler()
    tracemalloc.start()
    try:
        for number in range(100_000):
            reassembler.feed(IpPacket(b"aaaa", b"bbbb", 17, bytes(1400), 0, True, number, 64, bytes(20)), 0.0)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


# --- time ---

TIMES = 16
LIMIT = 2.5 * TIMES
FEW = 200


def rows(n: int) -> Iterator[tuple[str, bytes]]:
    """SIP messages that have n of something."""
    for name, row in {
        "rows": b"X: y\r\n" * n,
        "known rows": b"Via: SIP/2.0/UDP a;branch=z9hG4bKb\r\n" * n,
        "folds": b"Subject: a" + b"\r\n b" * n + b"\r\n",
        "list": b"Route: " + b"<sip:a;lr>," * n + b"<sip:a>\r\n",
        "lengths": b"Content-Length: 0\r\n" * n,
        "parameters": b"Contact: <sip:a>" + b"".join(b";p%d=%d" % (each, each) for each in range(n)) + b"\r\n",
        "uri parameters": b"To: <sip:a" + b"".join(b";p%d=%d" % (each, each) for each in range(n)) + b">\r\n",
        "digest parameters": b"Authorization: Digest "
        + b",".join(b"p%d=%d" % (each, each) for each in range(n))
        + b"\r\n",
        "mechanisms": b"Security-Client: " + b"ipsec-3gpp;alg=hmac-md5-96;spi-c=1," * n + b"tls\r\n",
        **{
            f"{name}: {character!a}": name.encode() + b": " + character * n * 10 + b"\r\n"
            for name in ("To", "Via", "Contact", "Authorization", "Security-Client", "Event", "P-Charging-Vector")
            for character in (b"<", b">", b'"', b"\\", b";", b",", b" ", b"a", b"=", b'\\"', b"a,", b'"a', b"; ", b"[")
        },
    }.items():
        yield name, b"OPTIONS sip:a SIP/2.0\r\n" + row + b"\r\n"


SIP_SHAPES = [name for name, _ in rows(1)]


def sip_shape(name: str, n: int) -> Callable[[], object]:
    octets = dict(rows(n))[name]
    return lambda: read_sip(octets)


def uri_of(n: int) -> Callable[[], object]:
    octets = b"OPTIONS sip:" + b"%41" * n + b"@a;" + b"a;" * n + b"?" + b"h=v&" * n + b" SIP/2.0\r\n\r\n"
    return lambda: read_sip(octets)


def in_single_octets(framer: Callable[[], SipFramer | DiameterFramer], octets: bytes) -> Callable[[], object]:
    def feed() -> None:
        one = framer()
        for octet in octets:
            one.feed(bytes((octet,)))

    return feed


def sip_octets(n: int) -> Callable[[], object]:
    return in_single_octets(SipFramer, b"OPTIONS sip:a SIP/2.0\r\n" + b"X: y\r\n" * n)


def sip_messages(n: int) -> Callable[[], object]:
    octets = b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\n\r\na" * n
    return lambda: SipFramer().feed(octets)


def sip_pings(n: int) -> Callable[[], object]:
    return in_single_octets(SipFramer, b"\r\n" * n)


def diameter_octets(n: int) -> Callable[[], object]:
    return in_single_octets(DiameterFramer, DiameterMessage(303, avps=[Avp(1, 0, 0, bytes(n * 4))]).encode())


def diameter_messages(n: int) -> Callable[[], object]:
    octets = DiameterMessage(280).encode() * n
    return lambda: DiameterFramer().feed(octets)


def diameter_avps(n: int) -> Callable[[], object]:
    avps = [make("Public-Identity", "sip:a@b"), make("Route-Record", "a"), Avp(9999, 0, 0x40, b"")] * n
    octets = DiameterMessage(303, 16777216, avps=avps).encode()
    return lambda: read_diameter(octets)


def diameter_items(n: int) -> Callable[[], object]:
    items = [cx.AuthDataItem(each, "Digest-AKAv1-MD5", bytes(32), bytes(8)) for each in range(n)]
    question = DiameterMessage(303, 16777216)
    answer = cx.MultimediaAuthAnswer(result_code=2001, origin_host="h", origin_realm="r", items=items)
    octets = answer.to_message(question).encode()
    return lambda: read_diameter(octets)


def diameter_depth(n: int) -> Callable[[], object]:
    nested = b""
    for _ in range(n):
        nested = Avp(260, 0, 0x40, nested).encode()
    octets = bytes((1,)) + (20 + len(nested)).to_bytes(3, "big") + bytes(16) + nested
    return lambda: read_diameter(octets)


def xml_depth(n: int) -> Callable[[], object]:
    octets = b"<IMSSubscription>" * n * 10
    closed = octets + b"</IMSSubscription>" * n * 10

    def parse() -> None:
        for parser in (parse_userdata, parse_reginfo):
            for each in (octets, closed):
                with contextlib.suppress(PeerError):
                    parser(each)

    return parse


def fragments(n: int) -> Callable[[], object]:
    """Small fragments of one packet and then of many, in the worst order."""
    count = min(n * 4, 8000)
    pieces = [IpPacket(b"aaaa", b"bbbb", 17, bytes(8), (count - at) * 8, True, 1, 64, bytes(20)) for at in range(count)]
    others = [IpPacket(b"aaaa", b"bbbb", 17, bytes(8), 8, True, at, 64, bytes(20)) for at in range(n * 4)]

    def feed() -> None:
        reassembler = Reassembler()
        for piece in (*pieces, *others):
            with contextlib.suppress(PeerError):
                reassembler.feed(piece, 0.0)

    return feed


def interfaces(n: int) -> Callable[[], object]:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    for _ in range(n):
        writer.packet(writer.interface("same", 101), 0.0, b"x", "remark")
    octets = stream.getvalue()
    return lambda: read_capture(octets)


PARSERS = [
    uri_of, sip_octets, sip_messages, sip_pings, diameter_octets, diameter_messages, diameter_avps, diameter_items,
    diameter_depth, xml_depth, fragments, interfaces,
]  # fmt: skip


def spent(work: Callable[[], object]) -> float:
    """CPU seconds."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        with contextlib.suppress(PeerError):
            work()
        return time.process_time() - start
    finally:
        gc.enable()


def assert_linear(make_work: Callable[[int], Callable[[], object]], few: int = FEW) -> None:
    """Compare `few` with TIMES as many. Below two milliseconds, what is paid once hides what grows."""
    work = make_work(few)
    short = max(0.002, min(spent(work) for _ in range(3)))
    work = make_work(few * TIMES)
    for _ in range(3):
        long = spent(work)
        if long < short * LIMIT:
            return
    pytest.fail(f"{few} take {short:.4f} s, {few * TIMES} take {long:.4f} s")


@pytest.mark.parametrize("name", SIP_SHAPES)
def test_sip_takes_linear_time(name: str) -> None:
    assert_linear(lambda n: sip_shape(name, n))


@pytest.mark.parametrize("shape", PARSERS, ids=lambda shape: shape.__name__)
def test_parsers_take_linear_time(shape: Callable[[int], Callable[[], object]]) -> None:
    assert_linear(shape)


# --- captures made to be slow to judge ---


def challenge(call: str, rand: bytes, extra: str = "", vias: int = 1, cseq: int = 1) -> str:
    nonce = b64encode(rand + bytes(16)).decode()
    return sip(
        "SIP/2.0 401 Unauthorized",
        *(f"Via: SIP/2.0/UDP hop{via}.example;branch=z9hG4bK-{call}-{cseq}-{via}" for via in range(vias, 0, -1)),
        f"From: <sip:{IMPI}>;tag=f",
        f"To: <sip:{IMPI}>;tag=t",
        f"Call-ID: {call}",
        f"CSeq: {cseq} REGISTER",
        f'WWW-Authenticate: Digest realm="{REALM}", nonce="{nonce}", algorithm=AKAv1-MD5{extra}',
        "Security-Server: ipsec-3gpp;alg=hmac-sha-1-96;spi-c=1000;spi-s=1001;port-c=5064;port-s=5065",
    )


CLIENT = "Security-Client: ipsec-3gpp;alg=hmac-sha-1-96;spi-c=2000;spi-s=2001;port-c=5062;port-s=5063"
DIGEST = f'Authorization: Digest username="{IMPI}", realm="{REALM}", nonce="", uri="sip:{REALM}", response=""'


def retransmissions(wire: Wire, n: int) -> None:
    for _ in range(n):
        wire.udp(UE, PCSCF, request("REGISTER"))


def one_branch(wire: Wire, n: int) -> None:
    """As of proxies whose Via is always the same."""
    for number in range(n):
        wire.udp(UE, PCSCF, request("REGISTER", call=f"call-{number}", branch="same"))
        wire.udp(PCSCF, UE, challenge("same", bytes(16), cseq=1))


def one_call(wire: Wire, n: int) -> None:
    for number in range(n):
        wire.udp(UE, PCSCF, request("REGISTER", cseq=number, branch=str(number)))


def one_user(wire: Wire, n: int) -> None:
    """As many registrations of one user at one time as there are questions on Cx about him."""
    for number in range(n):
        wire.udp(UE, PCSCF, request("REGISTER", DIGEST, call=f"call-{number}"))
    for number in range(n):
        uar = DiameterMessage(300, 16777216, avps=[make("User-Name", IMPI)], hop_by_hop=number)
        wire.tcp(SCSCF, HSS, uar.encode())
    for number in range(n):
        wire.udp(PCSCF, UE, challenge(f"call-{number}", bytes(16)))


def one_nonce(wire: Wire, n: int) -> None:
    """A challenge shown over and over, with other keys each time."""
    for number in range(n):
        call = f"call-{number}"
        wire.udp(UE, PCSCF, request("REGISTER", CLIENT, DIGEST, call=call))
        keys = f', ck="{number:032x}", ik="{number:032x}"'
        wire.udp(PCSCF, UE, challenge(call, bytes(16), keys))


def one_spi(wire: Wire, n: int) -> None:
    """ESP that nobody can open, and agreements about its SPI whose keys come late."""
    for number in range(n):
        packet = struct.pack("!II", 1001, number) + bytes(60)
        wire.ip(build_ip(bytes((192, 0, 2, 10)), bytes((192, 0, 2, 20)), 50, packet, ident=number & 0xFFFF))
    for number in range(n):
        call = f"call-{number}"
        wire.udp(UE, PCSCF, request("REGISTER", CLIENT, DIGEST, call=call))
        wire.udp(PCSCF, UE, challenge(call, number.to_bytes(16, "big")))
    for number in range(n - 1):
        keys = f', ck="{number:032x}", ik="{number:032x}"'
        wire.udp(SCSCF, PCSCF, challenge(f"call-{number}", number.to_bytes(16, "big"), keys, vias=2))


def stray_esp(wire: Wire, n: int) -> None:
    for number in range(n):
        packet = struct.pack("!II", number + 256, 1) + bytes(60)
        wire.ip(build_ip(bytes((192, 0, 2, 10)), bytes((192, 0, 2, 20)), 50, packet, ident=number & 0xFFFF))


def many_hosts(wire: Wire, n: int) -> None:
    for number in range(n):
        host = Endpoint(f"10.1.{number >> 8 & 255}.{number & 255}", 5060)
        wire.udp(host, PCSCF, request("REGISTER", call=f"call-{number}"))


def bad_messages(wire: Wire, n: int) -> None:
    for number in range(n):
        wire.udp(UE, PCSCF, f"REGISTER sip:a SIP/2.0\r\nbad row {number}\r\n\r\n")


def segments_backwards(wire: Wire, n: int) -> None:
    for number in range(n):
        segment = build_tcp(
            bytes((192, 0, 2, 10)), bytes((192, 0, 2, 20)), 5060, 5060, seq=(n - number) * 10, flags=16, data=b"x" * 10
        )
        wire.ip(build_ip(bytes((192, 0, 2, 10)), bytes((192, 0, 2, 20)), 6, segment, ident=number & 0xFFFF))


def small_segments(wire: Wire, n: int) -> None:
    for octet in (request("REGISTER") * (1 + n // 200)).encode()[:n]:
        wire.tcp(UE, PCSCF, bytes((octet,)))


def answers(wire: Wire, n: int) -> None:
    """One request, and as many different answers."""
    wire.udp(UE, PCSCF, request("REGISTER"))
    for number in range(n):
        text = challenge("call-1", bytes(16)).replace("401 Unauthorized", f"{200 + number % 400} x")
        wire.udp(PCSCF, UE, text)


CAPTURES = [
    retransmissions, one_branch, one_call, one_user, one_nonce, one_spi, stray_esp, many_hosts, bad_messages,
    segments_backwards, small_segments, answers,
]  # fmt: skip


@pytest.mark.parametrize("fill", CAPTURES, ids=lambda fill: fill.__name__)
def test_captures_are_judged_in_linear_time(fill: Callable[[Wire, int], None]) -> None:
    def make_work(n: int) -> Callable[[], object]:
        wire = Wire()
        fill(wire, n)

        def work() -> None:
            trace = dissect(wire.packets)
            findings = judge(trace)
            document = summarise(trace, findings)
            ladder = build(trace)
            for _ in lines(trace, findings):
                pass
            for _ in draw(ladder):
                pass
            if n <= FEW:  # jinja's templates are slow, not square
                write_html(document, ladder, title="")

        return work

    assert_linear(make_work, 100)
