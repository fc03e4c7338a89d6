"""Algorithms, keys, SPIs and the four SAs of a set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from Crypto.Cipher import DES3

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import SaSet
from imslab.ipsec.sa import (
    COMBINATIONS,
    Combination,
    Offer,
    allocate_spis,
    auth_key,
    check_offer,
    choose,
    cipher_key,
    combinations,
    derive_set,
    is_legal,
    kdf,
    require_legal,
    salt,
)
from tests.ipsec.known import CK, IK, Queue, vectors

SALTS = [each for each in vectors("kdf_ts33220") if "salt_32_lsb" in each]
KDFS = [each for each in vectors("kdf_ts33220") if "fc" in each]


@pytest.mark.parametrize("vector", KDFS, ids=lambda v: v["id"])
def test_kdf(vector: dict[str, object]) -> None:
    parameters = [bytes.fromhex(each) for each in vector["p"]]  # type: ignore[attr-defined]
    derived = kdf(bytes.fromhex(str(vector["key"])), int(str(vector["fc"]), 16), *parameters)
    assert derived.hex() == vector["output"]


def test_there_are_vectors() -> None:
    assert len(KDFS) == 16
    assert len(SALTS) == 6


@pytest.mark.parametrize("vector", SALTS, ids=lambda v: v["id"])
def test_salt(vector: dict[str, str]) -> None:
    keys = bytes.fromhex(vector["key"])
    token = "aes-gmac" if vector["id"].startswith("gmac") else "aes-gcm"
    assert salt(token, keys[:16], keys[16:]).hex() == vector["salt_32_lsb"]


def test_salt_of_what_has_none() -> None:
    with pytest.raises(LocalError, match="no salt"):
        salt("aes-cbc", CK, IK)


def test_integrity_keys() -> None:
    (vector,) = (each for each in vectors("kdf_ts33220") if each["id"] == "ik-expansion-sha1")
    assert auth_key("hmac-sha-1-96", bytes.fromhex(vector["ik_im"])).hex() == vector["ik_esp_sha1"]
    assert auth_key("hmac-md5-96", IK) == IK
    assert auth_key("aes-gmac", IK) == IK
    assert auth_key("null", IK) == b""


def test_cipher_keys() -> None:
    assert cipher_key("aes-cbc", CK) == CK
    assert cipher_key("aes-gcm", CK) == CK
    assert cipher_key("null", CK) == b""
    (vector,) = (each for each in vectors("esp_ims_computed") if each["id"] == "hmac-md5-96+des-ede3-cbc")
    assert cipher_key("des-ede3-cbc", CK).hex() == vector["enc_key"]


def test_des_parity_agrees_with_another_library() -> None:
    for seed in range(20):
        ck = SeededEntropy(seed).octets(16)
        assert cipher_key("des-ede3-cbc", ck) == DES3.adjust_key_parity(ck + ck[:8])


@pytest.mark.parametrize("length", [0, 15, 17, 20])
def test_keys_of_a_wrong_length(length: int) -> None:
    with pytest.raises(LocalError, match=f"IK of {length} octets"):
        auth_key("hmac-sha-1-96", bytes(length))
    with pytest.raises(LocalError, match=f"CK of {length} octets"):
        cipher_key("aes-cbc", bytes(length))
    with pytest.raises(LocalError, match="octets"):
        salt("aes-gcm", CK, bytes(length))


def test_unknown_tokens() -> None:
    with pytest.raises(LocalError, match=r"none of 33\.203 Annex H"):
        auth_key("hmac-sha-256-128", IK)
    with pytest.raises(LocalError, match=r"none of 33\.203 Annex H"):
        cipher_key("aes-ctr", CK)


def test_an_empty_or_cut_token_is_no_md5() -> None:
    for token in ("", "h", "hmac-md5", "hmac-md5-96 ", "HMAC-MD5-96"):
        with pytest.raises(LocalError):
            auth_key(token, IK)


def test_combinations_by_release() -> None:
    old, new = set(combinations(12)), set(combinations(13))
    assert old == {(a, e) for a in ("hmac-md5-96", "hmac-sha-1-96") for e in ("null", "aes-cbc", "des-ede3-cbc")}
    assert new == {
        ("null", "aes-gcm"),
        ("aes-gmac", "null"),
        ("hmac-sha-1-96", "aes-cbc"),
        ("hmac-sha-1-96", "null"),
    }
    assert set(combinations()) == old | new
    assert len(COMBINATIONS) == len(set(COMBINATIONS)) == 8


def test_legal_alone_does_not_make_legal_together() -> None:
    for alg, ealg in [
        ("null", "null"),
        ("null", "aes-cbc"),
        ("hmac-sha-1-96", "aes-gcm"),
        ("aes-gmac", "aes-gcm"),
        ("aes-gmac", "aes-cbc"),
    ]:
        assert not is_legal(alg, ealg)
        with pytest.raises(LocalError, match="no combination"):
            require_legal(alg, ealg)
    assert is_legal("hmac-md5-96", "null")
    assert not is_legal("hmac-md5-96", "null", release=13)
    assert not is_legal("null", "aes-gcm", release=12)


def test_choice_is_by_the_own_list() -> None:
    own = [("null", "aes-gcm"), ("hmac-sha-1-96", "aes-cbc"), ("hmac-sha-1-96", "null")]
    offered = [("hmac-sha-1-96", "null"), ("hmac-md5-96", "aes-cbc"), ("hmac-sha-1-96", "aes-cbc")]
    assert choose(own, offered) == ("hmac-sha-1-96", "aes-cbc")
    assert choose(own, reversed(offered)) == ("hmac-sha-1-96", "aes-cbc")


def test_choice_takes_a_combination_as_a_unit() -> None:
    own = [Combination("hmac-sha-1-96", "aes-cbc")]
    assert choose(own, [("hmac-sha-1-96", "null"), ("hmac-md5-96", "aes-cbc")]) is None


def test_choice_ignores_case_and_finds_nothing_in_nothing() -> None:
    assert choose([("hmac-sha-1-96", "null")], [("HMAC-SHA-1-96", "NULL")]) == ("hmac-sha-1-96", "null")
    assert choose([], [("hmac-sha-1-96", "null")]) is None
    assert choose([("hmac-sha-1-96", "null")], []) is None


def spi(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_spis_avoid_the_reserved_the_taken_and_each_other() -> None:
    entropy = Queue(spi(0), spi(255), spi(256), spi(256), spi(7000), spi(0xFFFFFFFF))
    assert allocate_spis(entropy, {7000}) == (256, 0xFFFFFFFF)


def test_spis_from_the_same_seed_are_the_same() -> None:
    first = allocate_spis(SeededEntropy(1))
    assert first == allocate_spis(SeededEntropy(1))
    assert first != allocate_spis(SeededEntropy(2))


def test_spis_from_worthless_entropy() -> None:
    with pytest.raises(LocalError, match="no free SPI"):
        allocate_spis(Queue(bytes(4000)))


UE = Offer(spi_c=1001, spi_s=1002, port_c=6000, port_s=6001)
PCSCF = Offer(spi_c=2001, spi_s=2002, port_c=7000, port_s=7001)


def derived(**changes: object) -> SaSet:
    arguments: dict[str, object] = {
        "number": 3,
        "local": "192.0.2.1",
        "ue_host": "192.0.2.1",
        "ue": UE,
        "pcscf_host": "192.0.2.2",
        "pcscf": PCSCF,
        "alg": "hmac-sha-1-96",
        "ealg": "aes-cbc",
        "ck": CK,
        "ik": IK,
        "lifetime": 240.0,
    }
    return derive_set(**(arguments | changes))  # type: ignore[arg-type]


def test_the_four_sas() -> None:
    uc, us = Endpoint("192.0.2.1", 6000), Endpoint("192.0.2.1", 6001)
    pc, ps = Endpoint("192.0.2.2", 7000), Endpoint("192.0.2.2", 7001)
    made = derived()
    assert [(sa.spi, sa.src, sa.dst) for sa in made.sas] == [
        (2002, uc, ps),  # the receiver's spi-s
        (1001, ps, uc),
        (1002, pc, us),
        (2001, us, pc),
    ]
    assert {(sa.alg, sa.ealg, sa.ik, sa.ck) for sa in made.sas} == {("hmac-sha-1-96", "aes-cbc", IK, CK)}
    assert (made.number, made.local, made.lifetime) == (3, "192.0.2.1", 240.0)
    assert [sa.spi for sa in made.inbound] == [1001, 1002]
    assert [sa.spi for sa in derived(local="192.0.2.2").inbound] == [2002, 2001]


@pytest.mark.parametrize(
    "changes",
    [
        {"local": "192.0.2.3"},
        {"ue_host": "192.0.2.2"},
        {"ealg": "aes-gcm"},
        {"ck": bytes(15)},
        {"ik": bytes(20)},
        {"ue": replace(UE, spi_c=0)},
        {"pcscf": replace(PCSCF, spi_s=1 << 32)},
        {"ue": replace(UE, spi_c=2001)},
        {"ue": replace(UE, spi_c=1002)},
    ],
    ids=str,
)
def test_sets_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        derived(**changes)


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (replace(UE, spi_c=-1), "spi-c=-1"),
        (replace(UE, spi_s=0), "spi-s=0"),
        (replace(UE, spi_s=1 << 32), "spi-s=4294967296"),
        (replace(UE, spi_s=1001), "both 1001"),
        (replace(UE, spi_s=4711), "spi-s=4711 is in use"),
        (replace(UE, port_c=5060), "port-c=5060"),
        (replace(UE, port_s=5061), "port-s=5061"),
        (replace(UE, port_s=0), "port-s=0"),
        (replace(UE, port_c=65536), "port-c=65536"),
    ],
)
def test_offers_of_a_peer_that_cannot_be_used(offer: Offer, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        check_offer(offer, taken={4711})


def test_offers_that_can_be_used() -> None:
    check_offer(UE, taken={4711})
    check_offer(Offer(256, 0xFFFFFFFF, 1, 65535))


def test_reserved_spis_of_a_peer_are_taken() -> None:
    """Kamailio's 100 and 101: reserved by RFC 4303 2.1, and in the field."""
    kamailio = Offer(spi_c=100, spi_s=101, port_c=5100, port_s=6100)
    check_offer(kamailio)
    assert [sa.spi for sa in derived(pcscf=kamailio).sas] == [101, 1001, 1002, 100]
