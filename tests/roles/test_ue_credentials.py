"""Authorization of the UE. The published answers of RFC 2617's digest are recomputed here with hashlib."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import replace
from hmac import digest as hmac_digest

import pytest

from imslab.aka.digest import rspauth
from imslab.aka.milenage import Milenage
from imslab.aka.usim import Authenticated, MacFailure, SyncFailure, Usim
from imslab.aka.vector import generate
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.roles.profiles import CONFORMANT
from imslab.roles.ue_config import UeConfig
from imslab.roles.ue_credentials import answer_challenge, choose_challenge, empty_credentials, proves_itself
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge
from tests.roles.ue_lab import DOMAIN, IMPI, IMPU, OPC, K, md5

CONFIG = UeConfig("192.0.2.1", IMPI, IMPU, DOMAIN, (Endpoint("192.0.2.2", 5060),))


def rand_with(predicate: str) -> bytes:
    """A RAND whose RES has a zero octet first, in the middle or last."""
    algorithm = Milenage(K, OPC)
    for number in range(100000):
        rand = number.to_bytes(16, "big")
        res = algorithm.f2345(rand)[0]
        place = {"first": res[0], "middle": res[3], "last": res[-1]}[predicate]
        if place == 0 and (res[1] | res[2]) & 0x80:
            return rand
    raise AssertionError("no such RAND")


def challenge(rand: bytes = bytes(16), sqn: int = 64, more: str = "", tail: bytes = b"") -> DigestChallenge:
    vector = generate(Milenage(K, OPC), rand, sqn, b"\x80\x00")
    nonce = b64encode(vector.rand + vector.autn + tail).decode()
    return DigestChallenge.parse(f'Digest realm="{DOMAIN}", nonce="{nonce}", algorithm=AKAv1-MD5{more}')


def usim() -> Usim:
    return Usim(Milenage(K, OPC))


def test_empty_credentials() -> None:
    assert empty_credentials(CONFIG, first=True) == (
        f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="", uri="sip:{DOMAIN}", response="", algorithm=AKAv1-MD5'
    )
    assert "algorithm" not in empty_credentials(CONFIG, first=False)
    silent = UeConfig("a", IMPI, IMPU, DOMAIN, CONFIG.pcscf, profile=replace(CONFORMANT, algorithm_first=False))
    assert "algorithm" not in empty_credentials(silent, first=True)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_res_with_zero_and_high_octets(place: str) -> None:
    # AKA-02
    rand = rand_with(place)
    found = choose_challenge([challenge(rand)], CONFORMANT)
    answer = answer_challenge(found, CONFIG, usim(), SeededEntropy(1))
    res = Milenage(K, OPC).f2345(rand)[0]
    expected = md5(md5(IMPI, DOMAIN, res), found.nonce, md5("REGISTER", f"sip:{DOMAIN}"))
    assert f'response="{expected}"' in answer.authorization
    assert isinstance(answer.verdict, Authenticated)


def test_opaque_and_nonce_with_server_data_are_echoed() -> None:
    # AKA-06, AKA-20
    found = choose_challenge([challenge(more=', opaque="o\\"p"', tail=b"12345678")], CONFORMANT)
    answer = answer_challenge(found, CONFIG, usim(), SeededEntropy(1))
    assert 'opaque="o\\"p"' in answer.authorization
    assert f'nonce="{found.nonce}"' in answer.authorization
    assert len(found.nonce) > 44


@pytest.mark.parametrize(("name", "hash_name"), [("AKAv2-MD5", "md5"), ("AKAv2-SHA-256", "sha256")])
def test_akav2(name: str, hash_name: str) -> None:
    # AKA-23; RFC 4169 3
    text = str(challenge()).replace("AKAv1-MD5", name)
    found = choose_challenge([DigestChallenge.parse(text)], CONFORMANT)
    answer = answer_challenge(found, CONFIG, usim(), SeededEntropy(1))
    res, ck, ik, _ = Milenage(K, OPC).f2345(bytes(16))
    password = b64encode(hmac_digest(res + ik + ck, b"http-digest-akav2-password", hash_name))

    def h(*parts: bytes | str) -> str:
        octets = [part.encode() if isinstance(part, str) else part for part in parts]
        return hashlib.new(hash_name, b":".join(octets)).hexdigest()

    expected = h(h(IMPI, DOMAIN, password), found.nonce, h("REGISTER", f"sip:{DOMAIN}"))
    assert f'response="{expected}"' in answer.authorization
    assert (answer.ck, answer.ik) == (ck, ik)


def test_first_of_two_equal_challenges() -> None:
    one, two = challenge(sqn=64), challenge(sqn=96)
    assert choose_challenge([one, two], CONFORMANT).nonce == one.nonce


def test_challenge_whose_nonce_is_there_twice() -> None:
    with pytest.raises(PeerError):
        choose_challenge([DigestChallenge.parse(f'{challenge()}, nonce="x"')], CONFORMANT)


def test_auts() -> None:
    # AKA-13, with qop: the response has an empty password (RFC 3310 3.4)
    card = usim()
    first = choose_challenge([challenge(sqn=320)], CONFORMANT)
    assert isinstance(answer_challenge(first, CONFIG, card, SeededEntropy(1)).verdict, Authenticated)
    stale = choose_challenge([challenge(bytes(15) + b"\x01", sqn=320, more=', qop="auth"')], CONFORMANT)
    answer = answer_challenge(stale, CONFIG, card, SeededEntropy(1))
    assert isinstance(answer.verdict, SyncFailure)
    assert f'auts="{b64encode(answer.verdict.auts).decode()}"' in answer.authorization
    cnonce = SeededEntropy(1).octets(8).hex()
    a1, a2 = md5(IMPI, DOMAIN, b""), md5("REGISTER", f"sip:{DOMAIN}")
    expected = md5(a1, stale.nonce, "00000001", cnonce, "auth", a2)
    assert f'response="{expected}"' in answer.authorization
    assert (answer.ck, answer.ik) == (b"", b"")


def test_mac_comes_before_sqn() -> None:
    # AKA-15
    card = usim()
    answer_challenge(choose_challenge([challenge(sqn=320)], CONFORMANT), CONFIG, card, SeededEntropy(1))
    found = choose_challenge([challenge(sqn=320)], CONFORMANT)
    found.autn = found.autn[:-1] + bytes((found.autn[-1] ^ 1,))
    answer = answer_challenge(found, CONFIG, card, SeededEntropy(1))
    assert isinstance(answer.verdict, MacFailure)
    assert "auts" not in answer.authorization
    assert 'response=""' in answer.authorization


def test_proof_of_the_network() -> None:
    # AKA-25
    found = choose_challenge([challenge(more=', qop="auth-int"')], CONFORMANT)
    answer = answer_challenge(found, CONFIG, usim(), SeededEntropy(1))
    res = Milenage(K, OPC).f2345(bytes(16))[0]
    proof = rspauth(
        algorithm="AKAv1-MD5",
        username=IMPI,
        realm=DOMAIN,
        password=res,
        nonce=found.nonce,
        uri=f"sip:{DOMAIN}",
        qop="auth-int",
        nc="00000001",
        cnonce=answer.cnonce,
        body=b"x",
    )
    good = AuthenticationInfo.parse(f'rspauth="{proof.upper()}"')
    assert proves_itself(good, answer, CONFIG, b"x")
    assert not proves_itself(good, answer, CONFIG, b"y")
    assert proves_itself(None, answer, CONFIG, b"")
    assert proves_itself(AuthenticationInfo.parse('nextnonce="n"'), answer, CONFIG, b"")
    assert proves_itself(good, None, CONFIG, b"")


def test_keys_are_not_shown() -> None:
    answer = answer_challenge(choose_challenge([challenge()], CONFORMANT), CONFIG, usim(), SeededEntropy(1))
    assert answer.ha1 not in repr(answer)
    assert repr(answer.ck) not in repr(answer)
