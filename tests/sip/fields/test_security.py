"""Security-Client, Security-Server, Security-Verify."""

from __future__ import annotations

import json

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.security import SecurityMechanism, same_list
from imslab.sip.grammar import split_list
from tests.require import require_shared

IPSEC = (
    "ipsec-3gpp; alg=hmac-sha-1-96; ealg=aes-cbc; prot=esp; mod=trans; spi-c=0000000256; spi-s=4294967295;"
    " port-c=1; port-s=65535; q=0.1"
)


def read(text: str) -> list[SecurityMechanism]:
    return [SecurityMechanism.parse(piece) for piece in split_list(text)]


def test_reading() -> None:
    mechanism = SecurityMechanism.parse(IPSEC)
    assert mechanism.is_ipsec_3gpp
    assert (mechanism.alg, mechanism.ealg, mechanism.prot, mechanism.mod) == (
        "hmac-sha-1-96",
        "aes-cbc",
        "esp",
        "trans",
    )
    assert (mechanism.spi_c, mechanism.spi_s) == (256, 2**32 - 1)
    assert (mechanism.port_c, mechanism.port_s) == (1, 65535)
    assert mechanism.q == 0.1
    # Rules look at the ten digits.
    assert mechanism.params["spi-c"] == "0000000256"
    assert str(mechanism) == IPSEC


def test_defaults_of_annex_h() -> None:
    mechanism = SecurityMechanism.parse("IPSEC-3GPP;ALG=HMAC-MD5-96")
    assert mechanism.is_ipsec_3gpp
    assert (mechanism.alg, mechanism.ealg, mechanism.prot, mechanism.mod) == ("hmac-md5-96", "null", "esp", "trans")
    assert mechanism.q is None


@pytest.mark.parametrize("name", ["alg", "spi_c", "spi_s", "port_c", "port_s"])
def test_what_has_no_default_must_be_there(name: str) -> None:
    with pytest.raises(PeerError, match="missing"):
        getattr(SecurityMechanism.parse("ipsec-3gpp"), name)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ("spi-c=4294967296", "spi_c"),
        ("spi-c=-1", "spi_c"),
        ("spi-c=0x100", "spi_c"),
        ("spi-s=" + "1" * 5000, "spi_s"),
        ("spi-s", "spi_s"),
        ("port-c=0", "port_c"),
        ("port-c=65536", "port_c"),
        ("port-s=a", "port_s"),
        ("q=2", "q"),
        ("q=0.1234", "q"),
        ('alg="x"', "alg"),
        ("ealg", "ealg"),
        ("prot=(x)", "prot"),
        ("mod=a/b", "mod"),
    ],
)
def test_out_of_range(params: str, name: str) -> None:
    mechanism = SecurityMechanism.parse(f"ipsec-3gpp;{params}")
    with pytest.raises(PeerError):
        getattr(mechanism, name)


@pytest.mark.parametrize("text", ["", ";alg=a", "ipsec 3gpp", "ipsec-3gpp;", "ipsec-3gpp;alg=a;ALG=b", "a;b=", "a,b"])
def test_malformed(text: str) -> None:
    with pytest.raises(PeerError):
        SecurityMechanism.parse(text)


def test_writing() -> None:
    mechanism = SecurityMechanism("ipsec-3gpp", {"alg": "aes-gmac", "spi-c": "0000001000"})
    assert str(mechanism) == "ipsec-3gpp;alg=aes-gmac;spi-c=0000001000"
    assert str(mechanism.with_params({"spi-c": "1", "q": "0.5"})) == "ipsec-3gpp;alg=aes-gmac;spi-c=1;q=0.5"
    assert str(mechanism.without_params("alg", "spi-c")) == "ipsec-3gpp"
    with pytest.raises(LocalError):
        str(SecurityMechanism("ipsec 3gpp"))


@pytest.mark.parametrize(
    "cosmetic",
    [
        IPSEC,
        IPSEC.replace(" ", ""),
        IPSEC.upper(),
        "ipsec-3gpp;q=0.1;port-s=65535;port-c=1;spi-s=4294967295;spi-c=0000000256;mod=trans;prot=esp;ealg=aes-cbc"
        ";alg=hmac-sha-1-96",
    ],
)
def test_cosmetic_differences_do_not_count(cosmetic: str) -> None:
    assert same_list(read(f"{IPSEC}, tls;q=0.2"), read(f"{cosmetic},tls ; q = 0.2"))


@pytest.mark.parametrize(
    "other",
    [
        "",
        "tls;q=0.2",
        f"{IPSEC}, {IPSEC}",
        IPSEC.replace("sha-1", "md5"),
        IPSEC.replace("spi-c=0000000256", "spi-c=256"),
        IPSEC.replace("spi-c=0000000256", "spi-c=0000000257"),
        IPSEC.replace("port-s=65535", "port-s=65534"),
        IPSEC.replace("; q=0.1", ""),
        IPSEC.replace("q=0.1", "q"),
        IPSEC + ";x",
        IPSEC.replace("ipsec-3gpp", "ipsec-ike"),
        IPSEC.replace("; mod=trans", ""),
    ],
)
def test_true_differences_count(other: str) -> None:
    assert not same_list(read(IPSEC), read(other))
    assert not same_list(read(other), read(IPSEC))


def test_the_order_of_mechanisms_counts() -> None:
    assert not same_list(read("tls, digest"), read("digest, tls"))


def test_quoted_values_have_a_case() -> None:
    assert not same_list(read('digest;d-ver="aB"'), read('digest;d-ver="ab"'))


def test_headers_of_others() -> None:
    vectors = json.loads(require_shared("vectors/sec_agree_headers.json").read_text())["vectors"]
    assert len(vectors) == 12
    for vector in vectors:
        mechanisms = read(vector["value"])
        told = [{"mechanism": mechanism.mechanism, "params": dict(mechanism.params)} for mechanism in mechanisms]
        assert told == vector["decoded"], vector["id"]
        for mechanism, decoded in zip(mechanisms, vector["decoded"], strict=True):
            if mechanism.is_ipsec_3gpp:
                assert mechanism.alg == decoded["params"]["alg"]
                assert mechanism.ealg == decoded["params"].get("ealg", "null")
                assert mechanism.spi_c == int(decoded["params"]["spi-c"])
                assert mechanism.port_s == int(decoded["params"]["port-s"])
