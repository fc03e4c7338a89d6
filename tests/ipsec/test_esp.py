"""ESP against published packets, scapy, tshark, and whatever an attacker could do to a packet."""

from __future__ import annotations

import hashlib
import hmac
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES, DES3
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.entropy import SeededEntropy, SystemEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.ipsec import esp
from imslab.ipsec.esp import (
    DUMMY,
    EspFormatError,
    EspTransform,
    IcvError,
    Opened,
    Opener,
    PaddingError,
    ReplayError,
    Sealer,
    SequenceExhausted,
    SpiError,
)
from imslab.ipsec.packet import IpPacket, Reassembler, build_ip, build_udp, parse_ip, parse_tcp, parse_udp
from imslab.ipsec.sa import COMBINATIONS, auth_key, cipher_key, salt
from tests.ipsec.known import CK, IK, Queue, make_sa, scapy_ip, scapy_sa, tshark, vectors
from tests.require import require_shared

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.utils import RawPcapNgReader

ALL = pytest.mark.parametrize(("alg", "ealg"), COMBINATIONS, ids=lambda token: token)
HMAC = [each for each in COMBINATIONS if each.alg.startswith("hmac")]
CBC = [each for each in HMAC if each.ealg.endswith("cbc")]
HASH = {"hmac-md5-96": "md5", "hmac-sha-1-96": "sha1"}


def sealer(alg: str, ealg: str, seed: int = 0) -> Sealer:
    return Sealer(make_sa(alg, ealg), SeededEntropy(seed))


def opener(alg: str, ealg: str) -> Opener:
    return Opener(make_sa(alg, ealg))


def forge(alg: str, ealg: str, plaintext: bytes, sequence: int = 1) -> bytes:
    """A packet with a right ICV around a plaintext, trailer included, that no sealer would make."""
    header = (0xC0DE).to_bytes(4, "big") + sequence.to_bytes(4, "big")
    return EspTransform(alg, ealg, IK, CK).protector(SeededEntropy(9))(header, plaintext)


# ------------------------------------------------------------------------------------------------ published packets


@pytest.mark.parametrize("vector", vectors("esp_ims_computed"), ids=lambda v: v["id"])
def test_ims_packets_open(vector: dict[str, Any]) -> None:
    alg, ealg = vector.get("alg"), vector.get("ealg")
    if alg is None or ealg is None:
        alg, ealg = ("null", "aes-gcm") if vector["id"] == "aes-gcm" else ("aes-gmac", "null")
        assert salt("aes-gcm" if alg == "null" else "aes-gmac", CK, IK).hex() == vector["salt"]
    receiver = Opener(make_sa(alg, ealg, spi=int(vector["spi"], 16)))
    expected = Opened(vector["next_header"], bytes.fromhex(vector["payload"]), vector["seq"])
    assert receiver.open(bytes.fromhex(vector["esp_packet"])) == expected


def chain_block(ealg: str, iv: bytes) -> bytes:
    """The random block that makes `iv` the IV of a sealer's first packet: its decryption, by another library."""
    key = cipher_key(ealg, CK)
    if ealg == "aes-cbc":
        return AES.new(key, AES.MODE_ECB).decrypt(iv)
    return DES3.new(key, DES3.MODE_ECB).decrypt(iv)


@pytest.mark.parametrize("vector", [v for v in vectors("esp_ims_computed") if "alg" in v], ids=lambda v: v["id"])
def test_ims_packets_seal(vector: dict[str, Any]) -> None:
    iv = bytes.fromhex(vector["iv"])
    entropy = Queue(chain_block(vector["ealg"], iv) if iv else b"")
    sender = Sealer(make_sa(vector["alg"], vector["ealg"], spi=int(vector["spi"], 16)), entropy)
    sender.sequence = vector["seq"] - 1
    packet = sender.seal(vector["next_header"], bytes.fromhex(vector["payload"]))
    assert packet.hex() == vector["esp_packet"]


@pytest.mark.parametrize("vector", vectors("rfc3602_aes_cbc_esp"), ids=lambda v: v["id"])
def test_rfc_3602(vector: dict[str, Any]) -> None:
    """Blocks and packets of RFC 3602 4, which have no ICV: one is put behind them."""
    transform = EspTransform("hmac-sha-1-96", "aes-cbc", IK, bytes.fromhex(vector["key"]))
    if vector["type"] == "aes-cbc":
        body = bytes(8) + bytes.fromhex(vector["iv"] + vector["ciphertext"])
        plaintext = bytes.fromhex(vector["plaintext"])
    else:
        body = bytes.fromhex(vector["esp_packet"])
        plaintext = bytes.fromhex(vector["payload"] + vector["padding"])
        plaintext += bytes((vector["pad_length"], vector["next_header"]))
    icv = hmac.digest(auth_key("hmac-sha-1-96", IK), body, "sha1")[:12]
    assert transform.unprotector()(body + icv) == plaintext


@pytest.mark.parametrize("vector", vectors("tdes_cbc_nist"), ids=lambda v: v["id"])
def test_triple_des_chain(vector: dict[str, Any]) -> None:
    body = bytes(8) + bytes.fromhex(vector["iv"] + vector["ciphertext"])
    cipher = TripleDES(bytes.fromhex(vector["key"]))
    opened = esp._cbc_unprotect(cipher, lambda octets: bytes(12))(body + bytes(12))
    assert opened == bytes.fromhex(vector["plaintext"])


@pytest.mark.parametrize(
    "vector",
    [v for v in vectors("hmac_rfc2202") if v["algorithm"] in ("HMAC-MD5", "HMAC-SHA1") and len(v["key"]) <= 128],
    ids=lambda v: v["id"],
)
def test_hmac(vector: dict[str, Any]) -> None:
    alg = "hmac-md5-96" if vector["algorithm"] == "HMAC-MD5" else "hmac-sha-1-96"
    icv = esp._hmac_96(alg, bytes.fromhex(vector["key"]))
    assert icv(bytes.fromhex(vector["data"])).hex() == vector["digest_96"]


@pytest.mark.parametrize("vector", [v for v in vectors("esp_gcm_gmac") if v.get("esn") is False], ids=lambda v: v["id"])
def test_gcm_packets(vector: dict[str, Any]) -> None:
    key, own_salt = bytes.fromhex(vector["key"]), bytes.fromhex(vector["salt"])
    opened = esp._gcm_unprotect(key, own_salt)(bytes.fromhex(vector["esp_packet"]))
    assert opened == bytes.fromhex(vector["plaintext_with_trailer"])


def test_gcm_packet_of_a_peer_with_its_own_salt() -> None:
    (vector,) = (v for v in vectors("esp_gcm_gmac") if v["id"] == "gcm-test-p7")
    packet = bytes.fromhex(vector["esp_packet"])
    own_salt = bytes.fromhex(vector["salt"])
    transform = EspTransform("null", "aes-gcm", IK, bytes.fromhex(vector["key"]), own_salt=own_salt)
    assert transform.unprotector()(packet) == bytes.fromhex(vector["plaintext_with_trailer"])
    assert EspTransform("null", "aes-gcm", IK, bytes.fromhex(vector["key"])).unprotector()(packet) is None


def test_gmac_packet() -> None:
    (vector,) = (v for v in vectors("esp_gcm_gmac") if v["type"] == "esp-aes-gmac")
    key, own_salt = bytes.fromhex(vector["key"]), bytes.fromhex(vector["salt"])
    transform = EspTransform("aes-gmac", "null", key, CK, own_salt=own_salt)
    assert transform.unprotector()(bytes.fromhex(vector["esp_packet"])) == bytes.fromhex(vector["payload_with_trailer"])


# ------------------------------------------------------------------------------------------------ a tablet, a Kamailio


def esp_packets(capture: Path) -> Iterator[tuple[str, IpPacket]]:
    """The ESP packets of a Linux cooked capture, made whole, with their capture points: bare, or a GTP-U tunnel's ends.

    Both the tunnel and what it carries come in fragments.
    """
    reassemblers: defaultdict[str, Reassembler] = defaultdict(Reassembler)
    with RawPcapNgReader(str(capture)) as reader:
        for frame, _ in reader:
            if frame[14:16] != b"\x08\0":
                continue
            point = "bare"
            packet = reassemblers[point].feed(parse_ip(frame[16:]), 0.0)
            if packet is not None and packet.protocol == 17:
                outer = parse_udp(packet.payload, packet.src, packet.dst, check=False)
                if outer.dst_port != 2152:
                    continue
                point = f"{packet.src.hex()} {packet.dst.hex()}"
                packet = reassemblers[point].feed(parse_ip(outer.data[8:]), 0.0)
            if packet is not None and packet.protocol == 50:
                yield point, packet


def test_a_real_registration_opens() -> None:
    """A Samsung tablet with Kamailio: hmac-md5-96 and null, UDP and TCP inside, up to three copies of a packet."""
    capture = require_shared("captures/samsung-kamailio-ipsec-reg.pcapng")
    ik = bytes.fromhex("e1763cf28cc2e584588800193137ec92")
    openers: dict[tuple[str, int], Opener] = {}
    protocols = set()
    packets = 0
    for point, packet in esp_packets(capture):
        spi = int.from_bytes(packet.payload[:4], "big")
        key = (point, spi)
        if key not in openers:
            openers[key] = Opener(make_sa("hmac-md5-96", "null", spi=spi, ik=ik))
        next_header, payload, _ = openers[key].open(packet.payload)
        packets += 1
        protocols.add(next_header)
        if next_header == 17:
            parse_udp(payload, packet.src, packet.dst)
        else:
            parse_tcp(payload, packet.src, packet.dst)
    assert packets == 42
    assert protocols == {6, 17}
    assert {spi for _, spi in openers} == {101, 25656, 25657}


# ------------------------------------------------------------------------------------------------------------- scapy

PAYLOADS = [b"", b"x", b"REGISTER sip:ims.example SIP/2.0\r\n\r\n", bytes(range(256)) * 5]


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@ALL
def test_scapy_opens_what_we_seal(alg: str, ealg: str, ipv6: bool) -> None:
    sa = make_sa(alg, ealg, ipv6=ipv6)
    sender, receiver = Sealer(sa, SystemEntropy()), scapy_sa(sa)
    src, dst = ((0x20010DB8 << 96) + 1).to_bytes(16, "big"), ((0x20010DB8 << 96) + 2).to_bytes(16, "big")
    if not ipv6:
        src, dst = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    for data in PAYLOADS:
        datagram = build_udp(src, dst, 6000, 6001, data)
        packet = build_ip(src, dst, 50, sender.seal(17, datagram))
        opened = parse_ip(bytes(receiver.decrypt(scapy_ip(packet))))
        assert (opened.protocol, opened.payload) == (17, datagram)


@ALL
def test_we_open_what_scapy_seals(alg: str, ealg: str) -> None:
    sa = make_sa(alg, ealg)
    sender, receiver = scapy_sa(sa), Opener(sa)
    src, dst = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    for sequence, data in enumerate(PAYLOADS, 1):
        datagram = build_udp(src, dst, 6000, 6001, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            packet = bytes(sender.encrypt(scapy_ip(build_ip(src, dst, 17, datagram))))
        assert receiver.open(parse_ip(packet).payload) == (17, datagram, sequence)


# ------------------------------------------------------------------------------------------------------------ tshark


def sealed_ip(alg: str, ealg: str, count: int, ipv6: bool = False) -> list[bytes]:
    sa = make_sa(alg, ealg, ipv6=ipv6)
    sender = Sealer(sa, SeededEntropy(5))
    src, dst = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    if ipv6:
        src, dst = ((0x20010DB8 << 96) + 1).to_bytes(16, "big"), ((0x20010DB8 << 96) + 2).to_bytes(16, "big")
    return [
        build_ip(src, dst, 50, sender.seal(17, build_udp(src, dst, 6000, 6001, bytes(range(64, 64 + size)))))
        for size in range(1, count + 1)
    ]


FIELDS = ["esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "udp.srcport", "udp.dstport", "udp.length"]


@pytest.mark.parametrize(("alg", "ealg"), HMAC, ids=lambda token: token)
def test_tshark_decrypts_and_verifies(alg: str, ealg: str, tmp_path: Path) -> None:
    packets = sealed_ip(alg, ealg, 18)
    rows = tshark(packets, [make_sa(alg, ealg)], FIELDS, tmp_path)
    assert rows == [
        ["0x0000c0de", str(size), "1", "0", "6000", "6001", str(size + 8)] for size in range(1, len(packets) + 1)
    ]


def test_tshark_would_have_noticed(tmp_path: Path) -> None:
    """A wrong octet before the ICV: the check above can fail."""
    (packet,) = sealed_ip("hmac-sha-1-96", "aes-cbc", 1)
    packet = packet[:-13] + bytes((packet[-13] ^ 1,)) + packet[-12:]
    (row,) = tshark([packet], [make_sa("hmac-sha-1-96", "aes-cbc")], FIELDS, tmp_path)
    assert row[2:4] == ["0", "1"]


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_tshark_decrypts_gcm(ipv6: bool, tmp_path: Path) -> None:
    packets = sealed_ip("null", "aes-gcm", 18, ipv6)
    rows = tshark(
        packets, [make_sa("null", "aes-gcm", ipv6=ipv6)], ["esp.sequence", "udp.srcport", "udp.length"], tmp_path
    )
    assert rows == [[str(size), "6000", str(size + 8)] for size in range(1, len(packets) + 1)]


# --------------------------------------------------------------------------------------------------- what comes back


@ALL
@settings(max_examples=40)
@given(payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=4), next_header=st.integers(0, 255))
def test_round_trip(alg: str, ealg: str, payloads: list[bytes], next_header: int) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    for sequence, payload in enumerate(payloads, 1):
        packet = sender.seal(next_header, payload)
        assert len(packet) == len(payload) + sender.transform.overhead(len(payload))
        assert receiver.open(packet) == (next_header, payload, sequence)


@ALL
def test_every_bit_counts(alg: str, ealg: str) -> None:
    """Each single bit of a packet, turned over, makes it one that is discarded, and leaves the window alone."""
    packet = sealer(alg, ealg).seal(17, b"REGISTER sip:a")
    receiver = opener(alg, ealg)
    for bit in range(len(packet) * 8):
        changed = bytearray(packet)
        changed[bit // 8] ^= 0x80 >> bit % 8
        expected: tuple[type[PeerError], ...] = (IcvError,)
        if bit < 32:
            expected = (SpiError,)
        elif bit == 63:
            expected = (ReplayError,)  # number 1 becomes 0
        with pytest.raises(expected):
            receiver.open(bytes(changed))
        assert receiver.window.highest == 0
    assert receiver.open(packet).payload == b"REGISTER sip:a"


@ALL
@settings(max_examples=40)
@given(payload=st.binary(max_size=200), data=st.data())
def test_any_change_is_noticed(alg: str, ealg: str, payload: bytes, data: st.DataObject) -> None:
    packet = sealer(alg, ealg).seal(6, payload)
    at = data.draw(st.integers(0, len(packet) - 1))
    changed = packet[:at] + bytes((packet[at] ^ data.draw(st.integers(1, 255)),)) + packet[at + 1 :]
    with pytest.raises(PeerError):
        opener(alg, ealg).open(changed)


@ALL
def test_no_part_of_a_packet_passes(alg: str, ealg: str) -> None:
    packet = sealer(alg, ealg).seal(17, bytes(40))
    receiver = opener(alg, ealg)
    for length in range(len(packet)):
        with pytest.raises(PeerError):
            receiver.open(packet[:length])
    for tail in range(1, 33):
        with pytest.raises(PeerError):
            receiver.open(packet + bytes(tail))


@ALL
def test_other_keys_do_not_open(alg: str, ealg: str) -> None:
    packet = sealer(alg, ealg).seal(17, bytes(40))
    wrong = make_sa(alg, ealg, ck=bytes(16)) if ealg == "aes-gcm" else make_sa(alg, ealg, ik=bytes(16))
    with pytest.raises(IcvError):
        Opener(wrong).open(packet)


@pytest.mark.parametrize(("alg", "ealg"), CBC, ids=lambda token: token)
def test_a_wrong_ck_alone_is_a_padding_error(alg: str, ealg: str) -> None:
    packet = sealer(alg, ealg).seal(17, bytes(40))
    with pytest.raises(PaddingError):
        Opener(make_sa(alg, ealg, ck=IK)).open(packet)


# ------------------------------------------------------------------------------------------- sequence numbers, replay


@ALL
def test_numbers_count_from_1(alg: str, ealg: str) -> None:
    sender = sealer(alg, ealg)
    for number in (1, 2, 3):
        assert sender.seal(17, b"").startswith((0xC0DE).to_bytes(4, "big") + number.to_bytes(4, "big"))
    assert sender.sequence == 3


@ALL
def test_the_last_number_and_no_further(alg: str, ealg: str) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    sender.sequence = 0xFFFFFFFE
    last = sender.seal(17, b"last")
    assert receiver.open(last) == (17, b"last", 0xFFFFFFFF)
    for _ in range(2):
        with pytest.raises(SequenceExhausted, match="a new SA is needed"):
            sender.seal(17, b"one more")
    assert sender.sequence == 0xFFFFFFFF
    with pytest.raises(ReplayError, match="received before"):
        receiver.open(last)


@ALL
def test_number_0_is_dropped(alg: str, ealg: str) -> None:
    sender = sealer(alg, ealg)
    sender.sequence = -1
    with pytest.raises(ReplayError, match="sequence number 0"):
        opener(alg, ealg).open(sender.seal(17, b""))


@ALL
def test_replay_and_reordering(alg: str, ealg: str) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    packets = [sender.seal(17, bytes((number,))) for number in range(70)]
    for at in (0, 2, 1, 69, 6):
        assert receiver.open(packets[at]).payload == bytes((at,))
    for at in (69, 6):
        with pytest.raises(ReplayError, match="received before"):
            receiver.open(packets[at])
    with pytest.raises(ReplayError, match="left of the window that ends at 70"):
        receiver.open(packets[5])


@ALL
def test_a_jump_of_500(alg: str, ealg: str) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    first = sender.seal(17, b"1")
    receiver.open(first)
    sender.sequence += 500
    assert receiver.open(sender.seal(17, b"502")).sequence == 502
    with pytest.raises(ReplayError):
        receiver.open(first)


@ALL
def test_a_forged_number_does_not_move_the_window(alg: str, ealg: str) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    first, second = sender.seal(17, b"1"), sender.seal(17, b"2")
    with pytest.raises(IcvError):
        receiver.open(first[:4] + b"\xff\xff\xff\xff" + first[8:])
    assert receiver.open(first).sequence == 1
    assert receiver.open(second).sequence == 2


def test_the_window_is_asked_before_the_icv() -> None:
    """RFC 4303 3.4.3: a repeat costs no ICV; so a repeat with a wrong ICV is a repeat."""
    sender, receiver = sealer("hmac-sha-1-96", "aes-cbc"), opener("hmac-sha-1-96", "aes-cbc")
    packet = sender.seal(17, b"1")
    receiver.open(packet)
    with pytest.raises(ReplayError):
        receiver.open(packet[:-1] + bytes((packet[-1] ^ 1,)))


def test_the_window_has_the_size_that_was_asked_for() -> None:
    receiver = Opener(make_sa("hmac-md5-96", "null"), window=128)
    assert (receiver.window.size, receiver.transform.icv_length) == (128, 12)
    with pytest.raises(LocalError):
        Opener(make_sa("hmac-md5-96", "null"), window=8)


# -------------------------------------------------------------------------------------------------- trailer and sizes


@ALL
def test_padding_other_than_1_2_3(alg: str, ealg: str) -> None:
    receiver = opener(alg, ealg)
    with pytest.raises(PaddingError, match="1, 2, 3"):
        receiver.open(forge(alg, ealg, bytes(12) + b"\0\0\2\x11"))
    # its ICV was right, so its number counts (RFC 4303 3.4.4)
    assert receiver.window.highest == 1
    assert receiver.open(forge(alg, ealg, bytes(12) + b"\1\2\2\x11", 2)) == (17, bytes(12), 2)


@ALL
def test_more_padding_than_needed_is_allowed(alg: str, ealg: str) -> None:
    padding = bytes(range(1, 256)) + b"\xff\x11"
    plaintext = bytes(-len(padding) % 16) + padding
    assert opener(alg, ealg).open(forge(alg, ealg, plaintext)).payload == bytes(-len(padding) % 16)


@ALL
def test_a_pad_length_beyond_the_packet(alg: str, ealg: str) -> None:
    with pytest.raises(PaddingError, match="pad length 15"):
        opener(alg, ealg).open(forge(alg, ealg, bytes(14) + b"\x0f\x11"))


@ALL
def test_the_trailer_of_a_dummy_packet_is_enough(alg: str, ealg: str) -> None:
    assert opener(alg, ealg).open(forge(alg, ealg, bytes(12) + b"\7\7\2\x3b")) == (DUMMY, bytes(12), 1)


def test_sizes_that_cannot_be() -> None:
    receiver = opener("hmac-sha-1-96", "aes-cbc")
    header = (0xC0DE).to_bytes(4, "big") + (1).to_bytes(4, "big")
    with pytest.raises(EspFormatError, match="cut short"):
        receiver.open(header[:7])
    for body in (0, 12, 28, 43, 45, 59):
        with pytest.raises(EspFormatError, match="no ESP packet with hmac-sha-1-96 and aes-cbc"):
            receiver.open(header + bytes(body))
    for body in (44, 60):
        with pytest.raises(IcvError):
            receiver.open(header + bytes(body))


def test_overhead() -> None:
    assert EspTransform("hmac-sha-1-96", "aes-cbc", IK, CK).overhead(14) == 8 + 16 + 0 + 2 + 12
    assert EspTransform("hmac-sha-1-96", "aes-cbc", IK, CK).overhead(15) == 8 + 16 + 15 + 2 + 12
    assert EspTransform("hmac-md5-96", "null", IK, CK).overhead(1) == 8 + 0 + 1 + 2 + 12
    assert EspTransform("hmac-md5-96", "des-ede3-cbc", IK, CK).overhead(6) == 8 + 8 + 0 + 2 + 12
    assert EspTransform("null", "aes-gcm", IK, CK).overhead(2) == 8 + 8 + 0 + 2 + 16
    assert EspTransform("aes-gmac", "null", IK, CK).overhead(2) == 8 + 8 + 0 + 2 + 16


def test_what_cannot_be_asked_for() -> None:
    for next_header in (-1, 256):
        with pytest.raises(LocalError, match="8 bits"):
            sealer("hmac-md5-96", "null").seal(next_header, b"")
    with pytest.raises(LocalError, match="no combination"):
        EspTransform("null", "aes-cbc", IK, CK)
    with pytest.raises(LocalError, match="no combination"):
        Sealer(make_sa("null", "null"), SystemEntropy())
    with pytest.raises(LocalError, match="no combination"):
        Opener(make_sa("hmac-sha-1-96", "aes-gcm"))
    with pytest.raises(LocalError, match="IK of 8 octets"):
        EspTransform("hmac-md5-96", "null", bytes(8), CK)
    with pytest.raises(LocalError, match="salt of 3 octets"):
        EspTransform("null", "aes-gcm", IK, CK, own_salt=bytes(3))


# --------------------------------------------------------------------------------------------------------- IVs, chain


@pytest.mark.parametrize(("alg", "ealg"), CBC, ids=lambda token: token)
def test_chained_packets_are_what_single_encryptors_give(alg: str, ealg: str) -> None:
    """Each packet of the chain, decrypted by another library from its own IV alone."""
    sender = sealer(alg, ealg)
    key = cipher_key(ealg, CK)
    size = sender.transform.iv_length
    for number in range(1, 6):
        payload = bytes((number,)) * (number * 7)
        packet = sender.seal(17, payload)
        iv, ciphertext = packet[8 : 8 + size], packet[8 + size : -12]
        if ealg == "aes-cbc":
            plaintext = AES.new(key, AES.MODE_CBC, iv).decrypt(ciphertext)
        else:
            plaintext = DES3.new(key, DES3.MODE_CBC, iv).decrypt(ciphertext)
        assert plaintext.startswith(payload)
        assert plaintext[-1] == 17
        assert packet[-12:] == hmac.digest(auth_key(alg, IK), packet[:-12], HASH[alg])[:12]


@pytest.mark.parametrize(("alg", "ealg"), CBC, ids=lambda token: token)
def test_an_iv_hangs_on_fresh_entropy(alg: str, ealg: str) -> None:
    """Same key, same history, other random block for the second packet: its IV is another, and never the last block."""
    size = EspTransform(alg, ealg, IK, CK).iv_length
    second = []
    for block in (bytes(size), bytes(size - 1) + b"\1"):
        sender = Sealer(make_sa(alg, ealg), Queue(bytes(size), block))
        first = sender.seal(17, b"same")
        second.append(sender.seal(17, b"same")[8 : 8 + size])
        assert second[-1] != first[-12 - size : -12]
    assert second[0] != second[1]


@pytest.mark.parametrize(("alg", "ealg"), [("null", "aes-gcm"), ("aes-gmac", "null")], ids=lambda token: token)
def test_no_nonce_comes_twice_under_the_keys_of_a_set(alg: str, ealg: str) -> None:
    ivs = []
    for spi in (1001, 1002, 2001, 2002):
        sender = Sealer(make_sa(alg, ealg, spi=spi), SystemEntropy())
        ivs += [sender.seal(17, b"")[8:16] for _ in range(50)]
    assert len(set(ivs)) == 200


@ALL
def test_the_same_seed_gives_the_same_octets(alg: str, ealg: str) -> None:
    first, second = sealer(alg, ealg, seed=4), sealer(alg, ealg, seed=4)
    for _ in range(3):
        assert first.seal(17, b"same") == second.seal(17, b"same")


# ----------------------------------------------------------------------------------------------------------- inspect


@ALL
def test_inspect(alg: str, ealg: str) -> None:
    sender, receiver = sealer(alg, ealg), opener(alg, ealg)
    packet = sender.seal(17, b"hello")
    seen = receiver.inspect(packet)
    assert (seen.spi, seen.sequence, seen.icv_ok, seen.replayed) == (0xC0DE, 1, True, False)
    assert (seen.next_header, seen.payload, seen.error) == (17, b"hello", None)

    again = receiver.inspect(packet)
    assert (again.icv_ok, again.replayed, again.payload) == (True, True, b"hello")
    assert isinstance(again.error, ReplayError)

    packet = sender.seal(17, b"world")
    spoilt = packet[:-1] + bytes((packet[-1] ^ 1,))
    bad = receiver.inspect(spoilt)
    assert (bad.sequence, bad.icv_ok, bad.replayed, bad.payload) == (2, False, False, None)
    assert isinstance(bad.error, IcvError)
    assert receiver.inspect(packet).error is None  # the forged one did not move the window
    both = receiver.inspect(spoilt)
    assert (both.icv_ok, both.replayed) == (False, True)
    assert isinstance(both.error, ReplayError)


@ALL
def test_inspect_bad_padding(alg: str, ealg: str) -> None:
    receiver = opener(alg, ealg)
    packet = forge(alg, ealg, bytes(12) + b"\0\0\2\x11")
    seen = receiver.inspect(packet)
    assert (seen.icv_ok, seen.replayed, seen.next_header, seen.payload) == (True, False, None, None)
    assert isinstance(seen.error, PaddingError)
    assert isinstance(receiver.inspect(packet).error, ReplayError)  # the first reason of the two


def test_inspect_what_is_no_packet_of_the_sa() -> None:
    receiver = opener("hmac-sha-1-96", "aes-cbc")
    short = receiver.inspect(b"\0\0\xc0")
    assert (short.spi, short.sequence, short.icv_ok) == (0, 0, None)
    assert isinstance(short.error, EspFormatError)
    other = receiver.inspect(Sealer(make_sa("hmac-sha-1-96", "aes-cbc", spi=7000), SystemEntropy()).seal(17, b""))
    assert (other.spi, other.sequence, other.icv_ok) == (7000, 1, None)
    assert isinstance(other.error, SpiError)


def test_icvs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every HMAC verdict goes through hmac.compare_digest (the AEADs compare inside the library)."""
    asked = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        asked.append(len(one))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    for alg, ealg in HMAC:
        opener(alg, ealg).open(sealer(alg, ealg).seal(17, b""))
    assert asked == [12] * len(HMAC)


def test_md5_is_there() -> None:
    """Where the platform forbids MD5 as such, it must still be usable for a peer that asks for it."""
    assert hashlib.new("md5", b"", usedforsecurity=False).hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"
