"""Messages and framing: known octets of others, cut and glued in every way."""

from __future__ import annotations

import json

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.diameter.avp import Avp, DiameterError
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage, StreamFramer, answer, new_session_id, parse
from tests.diameter import samples
from tests.diameter.test_avp import check_tree
from tests.require import require_shared


def test_a_known_message() -> None:
    # A device watchdog request, written by hand from RFC 6733 3 and 5.5.1.
    octets = bytes.fromhex(
        "0100003880000118000000000000000100000002"
        "000001084000000b612e6200"
        "000001284000000a62620000"
        "000001164000000c00000007"
    )
    message = parse(octets)
    assert (message.name, message.hop_by_hop, message.end_to_end) == ("DWR", 1, 2)
    assert (message.get("Origin-Host"), message.get("Origin-Realm")) == ("a.b", "bb")
    assert message.get("Origin-State-Id") == 7
    assert message.get("User-Name") is None
    assert message.octets == octets
    assert message.encode() == octets
    built = DiameterMessage(280, hop_by_hop=1, end_to_end=2)
    for name, value in (("Origin-Host", "a.b"), ("Origin-Realm", "bb"), ("Origin-State-Id", 7)):
        built.add(name, value)
    assert built.encode() == octets
    assert built == message


def vectors() -> list[dict]:
    found = json.loads(require_shared("vectors/diameter_messages.json").read_text())["vectors"]
    assert len(found) >= 19
    return found


def test_messages_of_others() -> None:
    for vector in vectors():
        octets, expected = bytes.fromhex(vector["hex"]), vector["decoded"]
        message = parse(octets)
        assert message.encode() == octets, vector["id"]
        assert message.command == expected["command"]
        assert message.request is expected["request"]
        assert message.application == expected["application"]
        assert message.hop_by_hop == int(expected["hop_by_hop"], 16)
        assert message.end_to_end == int(expected["end_to_end"], 16)
        assert len(message.avps) == len(expected["avps"])
        for avp, row in zip(message.avps, expected["avps"], strict=True):
            check_tree(avp, row)


def test_header_flags() -> None:
    for flags, name in ((0x80, "request"), (0x40, "proxiable"), (0x20, "error"), (0x10, "retransmitted")):
        octets = bytes.fromhex("01000014") + bytes([flags]) + bytes.fromhex("00012f") + bytes(12)
        message = parse(octets)
        assert getattr(message, name)
        assert sum((message.request, message.proxiable, message.error, message.retransmitted)) == 1
        assert message.encode() == octets
    octets = bytes.fromhex("010000140f00012f") + bytes(12)
    assert parse(octets).reserved == 15
    assert parse(octets).encode() == octets


def test_find_and_get() -> None:
    message = DiameterMessage(301, avps=[make("Public-Identity", "a"), make("Public-Identity", "b")])
    assert message.get_all("Public-Identity") == ["a", "b"]
    assert message.get("Public-Identity") == "a"
    assert message.find(601) is None
    assert [avp.data for avp in message.find_all(601, 10415)] == [b"a", b"b"]
    assert message.session_id is None
    assert message.result_code is None
    assert message.experimental_result is None
    message.add("Experimental-Result", [])
    assert message.experimental_result is None
    message.add("Session-Id", "s")
    message.add("Result-Code", 2001)
    assert (message.session_id, message.result_code) == ("s", 2001)
    with pytest.raises(LocalError):
        message.get("Nonsense")


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        ("", 5015),
        ("01000014", 5015),
        ("0200001480000118" + "00" * 12, 5011),
        ("0100001380000118" + "00" * 12, 5015),
        ("0100001880000118" + "00" * 12, 5015),
        ("0100001580000118" + "00" * 13, 5015),
        ("0100001c80000118" + "00" * 12 + "0000010840000009", 5014),
        ("0100001880000118" + "00" * 12 + "00000108", 5014),
    ],
)
def test_broken_messages(octets: str, code: int) -> None:
    whole = bytes.fromhex(octets)
    with pytest.raises(DiameterError) as caught:
        parse(whole)
    assert caught.value.result_code == code
    assert (caught.value.header is not None) is (len(whole) >= 20)


def test_a_broken_avp_can_be_answered() -> None:
    octets = bytearray(samples.mar().to_message(7, 8).encode())
    place = octets.index(b"\x00\x00\x02\x5f")  # SIP-Number-Auth-Items, code 607
    octets[place + 5 : place + 8] = (0xFFFF).to_bytes(3, "big")
    with pytest.raises(DiameterError) as caught:
        parse(bytes(octets))
    header = caught.value.header
    assert header is not None
    assert (header.name, header.hop_by_hop, header.end_to_end, header.avps) == ("MAR", 7, 8, [])
    assert caught.value.failed == (Avp(607, 10415, 0xC0, b"\0\0\0\0"),)


def test_what_does_not_fit() -> None:
    for message in (
        DiameterMessage(1 << 24),
        DiameterMessage(1, -1),
        DiameterMessage(1, hop_by_hop=1 << 32),
        DiameterMessage(1, avps=[Avp(1, 0, 0, bytes(1 << 23))] * 2),
    ):
        with pytest.raises(LocalError):
            message.encode()


def test_framing_in_every_way() -> None:
    whole = [message.encode() for message in samples.messages()]
    stream = b"".join(whole)
    assert StreamFramer().feed(stream) == whole
    framer = StreamFramer()
    single: list[bytes] = []
    for octet in stream:
        single += framer.feed(bytes([octet]))
    assert single == whole
    assert framer.pending == 0
    for size in (3, 7, 64, 1000):
        framer, cut = StreamFramer(), []
        for start in range(0, len(stream), size):
            cut += framer.feed(stream[start : start + size])
        assert cut == whole
    framer = StreamFramer()
    assert framer.feed(stream + whole[0][:30]) == whole
    assert framer.pending == 30
    assert framer.feed(whole[0][30:]) == [whole[0]]


def test_a_stream_that_cannot_be_followed() -> None:
    good = samples.messages()[0].encode()
    for bad in ("16030100", "01000013", "01ffffff"):
        framer = StreamFramer(limit=1 << 16)
        assert framer.feed(good + bytes.fromhex(bad)) == [good]
        assert framer.error is not None
        assert framer.pending == 0
        with pytest.raises(DiameterError):
            framer.feed(good)
        framer.reset()
        assert framer.feed(good) == [good]
        fresh = StreamFramer(limit=1 << 16)
        with pytest.raises(DiameterError):
            fresh.feed(bytes.fromhex(bad))


def test_the_limit_holds() -> None:
    framer = StreamFramer(limit=100)
    assert framer.feed(bytes.fromhex("01000064")) == []
    framer.reset()
    with pytest.raises(DiameterError) as caught:
        framer.feed(bytes.fromhex("01000068"))
    assert caught.value.result_code == 5015


def test_answers_copy_what_they_must() -> None:
    request = samples.mar().to_message(11, 12)
    proxies = [Avp.grouped(284, [make("Proxy-Host", name), make("Proxy-State", b"x")]) for name in ("p1", "p2")]
    request.avps += proxies
    reply = answer(request, origin_host="h", origin_realm="r", result_code=3004, error_message="busy")
    assert (reply.name, reply.hop_by_hop, reply.end_to_end, reply.application) == ("MAA", 11, 12, 16777216)
    assert reply.error
    assert reply.proxiable
    assert reply.avps[0] == make("Session-Id", "scscf;1;2")
    assert reply.avps[-2:] == proxies
    assert reply.get("Error-Message") == "busy"
    failed = [make("User-Name", "")]
    other = answer(request, experimental=5001, failed=failed, avps=[make("User-Name", "u")])
    assert not other.error
    assert (other.result_code, other.experimental_result) == (None, 5001)
    assert other.get("Failed-AVP") == failed
    bare = answer(DiameterMessage(280), result_code=2001)
    assert [avp.code for avp in bare.avps] == [268]


def test_session_ids_differ_and_can_be_reproduced() -> None:
    entropy = SeededEntropy(1)
    made = [new_session_id("scscf.example", entropy, "cx") for _ in range(50)]
    assert len(set(made)) == 50
    host, high, low, suffix = made[0].split(";")
    assert (host, suffix) == ("scscf.example", "cx")
    assert max(int(high), int(low)) < 1 << 32
    assert new_session_id("scscf.example", SeededEntropy(1)) + ";cx" == made[0]
