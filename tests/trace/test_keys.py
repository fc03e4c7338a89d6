"""Keys: where they come from, how files spell them, and that nothing shows them."""

from __future__ import annotations

from base64 import b64encode

import pytest

from imslab.aka.milenage import Milenage, derive_opc
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.trace import keys as keys_module
from imslab.trace.keys import KeyRing, SessionKeys, esp_sa, esp_sa_file, parse_esp_sa
from tests.trace.wire import IMPI, OPC, K

RAND = bytes(range(100, 116))
CK, IK = b"C" * 16, b"I" * 16
A, B = Endpoint("192.0.2.1", 0), Endpoint("192.0.2.2", 0)


def _sa(alg: str, ealg: str) -> Sa:
    return Sa(0x1001, A, B, alg, ealg, IK, CK)


def test_a_subscribers_keys_are_computed() -> None:
    res, ck, ik, _ = Milenage(K, OPC).f2345(RAND)
    for ring in (KeyRing(), KeyRing()):
        ring.add_milenage(K, opc=OPC)
        assert ring.sessions(RAND) == [SessionKeys(ck, ik, res, "K")]
    by_op = KeyRing()
    by_op.add_milenage(K, op=bytes(16), impi=IMPI)
    assert by_op.sessions(RAND, "someone@else") == []
    assert by_op.sessions(RAND, IMPI)[0].ck == Milenage(K, derive_opc(K, bytes(16))).f2345(RAND)[1]


def test_a_key_for_one_subscriber_comes_before_one_for_everybody() -> None:
    ring = KeyRing()
    ring.add_milenage(bytes(16), opc=OPC)
    ring.add_milenage(K, opc=OPC, impi=IMPI)
    assert ring.sessions(RAND, IMPI)[0].res == Milenage(K, OPC).f2345(RAND)[0]
    assert ring.sessions(RAND, "other")[0].res == Milenage(bytes(16), OPC).f2345(RAND)[0]


def test_either_op_or_opc() -> None:
    with pytest.raises(LocalError, match="either OPc or OP"):
        KeyRing().add_milenage(K)
    with pytest.raises(LocalError, match="not both"):
        KeyRing().add_milenage(K, op=OPC, opc=OPC)


def test_what_a_capture_shows_is_learned_once() -> None:
    ring = KeyRing()
    assert ring.learn(RAND, CK, IK, None, "401")
    assert not ring.learn(RAND, CK, IK, None, "401")
    assert not ring.learn(RAND, CK, IK, b"xres", "MAA")
    assert ring.sessions(RAND) == [SessionKeys(CK, IK, b"xres", "MAA")]
    assert ring.learn(RAND, IK, CK)
    assert len(ring.sessions(RAND)) == 2
    assert not ring.learn(RAND, b"short", IK)


def test_the_capture_comes_before_the_subscriber_and_equals_are_one() -> None:
    ring = KeyRing()
    ring.add_milenage(K, opc=OPC)
    res, ck, ik, _ = Milenage(K, OPC).f2345(RAND)
    ring.learn(RAND, ck, ik, None, "401")
    assert ring.sessions(RAND) == [SessionKeys(ck, ik, res, "K")]  # which knows RES too
    ring.learn(RAND, ck, ik, res, "MAA")
    assert [each.source for each in ring.sessions(RAND)] == ["MAA"]
    ring.learn(RAND, CK, IK, None, "401")
    assert [each.source for each in ring.sessions(RAND)] == ["MAA", "401"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MAX_SESSIONS", 3)
    ring = KeyRing()
    for number in range(5):
        ring.learn(bytes([number]) * 16, CK, IK)
    assert [bool(ring.sessions(bytes([number]) * 16)) for number in range(5)] == [False, False, True, True, True]


def test_nothing_shows_keys() -> None:
    ring = KeyRing()
    ring.add_milenage(K, opc=OPC)
    ring.learn(RAND, CK, IK, b"xres")
    ring.sas.append(_sa("hmac-md5-96", "null"))
    shown = repr(ring) + repr(ring.sessions(RAND)) + repr(ring.sas)
    for secret in (CK, IK, b"xres", K, OPC):
        assert secret.decode("latin-1") not in shown
        assert secret.hex() not in shown


@pytest.mark.parametrize(
    ("alg", "ealg", "line"),
    [
        (
            "hmac-md5-96",
            "null",
            '"IPv4","192.0.2.1","192.0.2.2","0x00001001","NULL","","HMAC-MD5-96 [RFC2403]","0x' + "49" * 16 + '"',
        ),
        (
            "hmac-sha-1-96",
            "aes-cbc",
            '"IPv4","192.0.2.1","192.0.2.2","0x00001001","AES-CBC [RFC3602]","0x' + "43" * 16 + '",'
            '"HMAC-SHA-1-96 [RFC2404]","0x' + "49" * 16 + "00000000" + '"',
        ),
        (
            "hmac-md5-96",
            "des-ede3-cbc",
            '"IPv4","192.0.2.1","192.0.2.2","0x00001001","TripleDES-CBC [RFC2451]","0x' + "43" * 24 + '",'
            '"HMAC-MD5-96 [RFC2403]","0x' + "49" * 16 + '"',
        ),
    ],
)
def test_esp_sa_lines_as_wireshark_spells_them(alg: str, ealg: str, line: str) -> None:
    assert esp_sa(_sa(alg, ealg)) == line
    back = parse_esp_sa(line)
    assert (back.spi, back.src, back.dst, back.alg, back.ealg, back.ik) == (0x1001, A, B, alg, ealg, IK)
    assert back.ck == (bytes(16) if ealg == "null" else CK)


def test_gcm_has_key_and_salt_in_one_and_gmac_is_a_comment() -> None:
    line = esp_sa(Sa(0x1001, Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2), "null", "aes-gcm", IK, CK))
    assert line.startswith('"IPv6","2001:db8::1","2001:db8::2","0x00001001","AES-GCM with 16 octet ICV [RFC4106]","0x')
    assert line.endswith(',"NULL",""')
    assert len(line.split('"')[11]) == 2 + 2 * 20
    assert esp_sa(_sa("aes-gmac", "null")).startswith("#")


def test_a_key_file_of_all_kinds_of_lines() -> None:
    nonce = b64encode(RAND + bytes(16)).decode()
    other = bytes(16)
    ring = KeyRing()
    ring.read(
        "\n".join(
            [
                "# a comment",
                "",
                *esp_sa_file([_sa("hmac-md5-96", "null")]).splitlines(),
                f"0x1001 HMAC-SHA-1-96 aes-cbc {IK.hex()} 0x{CK.hex()}",
                f"4098 hmac-md5-96 null {IK.hex()} -",
                f"ck={CK.hex()} IK={IK.hex()} nonce={nonce}",
                f"CK=0x{IK.hex()} ik={CK.hex()} rand={other.hex()}",
                f"k={K.hex()} opc={OPC.hex()} impi={IMPI}",
            ]
        )
    )
    assert [(sa.spi, sa.alg, sa.ealg, sa.dst.host) for sa in ring.sas] == [
        (0x1001, "hmac-md5-96", "null", "192.0.2.2"),
        (0x1001, "hmac-sha-1-96", "aes-cbc", "*"),
        (4098, "hmac-md5-96", "null", "*"),
    ]
    assert [each.source for each in ring.sessions(RAND, IMPI)] == ["key file", "K"]
    assert ring.sessions(other)[0].ck == IK
    ring.read(f"ck={CK.hex()} ik={IK.hex()}")
    assert ring.sessions(b"any other rand..") == [SessionKeys(CK, IK, None, "key file")]
    by_op = KeyRing()
    by_op.read(f"k={K.hex()} op={OPC.hex()}")
    assert by_op.algorithm("anyone") is not None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("what is this", "expected an esp_sa line"),
        ("0x1001 hmac-md5-96 null zz -", "hex"),
        ("0x1001 hmac-md5-96 null 00 -", "expected 16"),
        (f"many hmac-md5-96 null {IK.hex()} -", "no SPI"),
        (f"0x100000000 hmac-md5-96 null {IK.hex()} -", "no SPI"),
        (f"0x1001 sha-512 null {IK.hex()} -", "none of 33.203"),
        (f"0x1001 hmac-md5-96 blowfish {IK.hex()} -", "none of 33.203"),
        (f"ck={CK.hex()}", "expected"),
        (f"ck={CK.hex()} ik={IK.hex()} nonce=AAAA", "nonce"),
        (f"ck={CK.hex()} ik={IK.hex()} rand=AAAA", "expected 16"),
        (f"k={K.hex()}", "either OPc or OP"),
        (f"k={K.hex()} opc={OPC.hex()} colour=red", "expected"),
        ('"IPv4","192.0.2.1"', "expected"),
        ('"IPv4","192.0.2.1', "expected"),
        ('"IPv4","here","192.0.2.2","0x1","NULL","","NULL",""', "no IP address"),
        ('"IPv4","192.0.2.1","192.0.2.2","0x1","BLOWFISH","","NULL",""', "no algorithm"),
        ('"IPv4","192.0.2.1","192.0.2.2","0x1","NULL","","HMAC-SHA-256-128 [RFC4868]","0x00"', "no algorithm"),
        ('"IPv4","192.0.2.1","192.0.2.2","0x1","AES-GCM with 16 octet ICV [RFC4106]","0x00","NULL",""', "salt"),
        ('"IPv4","192.0.2.1","192.0.2.2","0x1","NULL","","HMAC-MD5-96 [RFC2403]","0x00"', "16 are needed"),
        ('"IPv4","192.0.2.1","192.0.2.2","*","NULL","","HMAC-MD5-96 [RFC2403]","0x00"', "no SPI"),
    ],
)
def test_lines_that_are_wrong_say_where(line: str, text: str) -> None:
    with pytest.raises(LocalError, match=r"mykeys, line 2") as caught:
        KeyRing().read(f"# one\n{line}\n", "mykeys")
    assert text in str(caught.value)
    assert IK.hex() not in str(caught.value)


def test_wildcards_of_wireshark() -> None:
    sa = parse_esp_sa('"IPv4","*","*","0x65","NULL","","hmac-md5-96","0x' + IK.hex() + '"')
    assert (sa.src.host, sa.dst.host) == ("*", "*")
