"""Digest against what others published: RFC 2617, RFC 7616, an Internet-Draft, real registrations."""

from __future__ import annotations

import hashlib
import subprocess
from base64 import b64encode
from typing import Any

import pytest

from imslab.aka.digest import (
    aka_keys,
    aka_password,
    aka_version,
    digest_ha1,
    digest_response,
    join_nonce,
    parse_auts,
    rspauth,
    split_nonce,
    write_auts,
)
from imslab.aka.milenage import Milenage
from imslab.aka.usim import Authenticated, Usim
from imslab.core.errors import LocalError, PeerError
from tests.known_answers import each, load, load_shared
from tests.require import require_program, require_shared

h = bytes.fromhex

#: A plain question; tests change one thing at a time.
PLAIN: dict[str, Any] = {
    "algorithm": "MD5",
    "username": "bob",
    "realm": "biloxi.com",
    "password": b"zanzibar",
    "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
    "method": "INVITE",
    "uri": "sip:bob@biloxi.com",
}
WITH_QOP: dict[str, Any] = {**PLAIN, "qop": "auth", "nc": "00000001", "cnonce": "0a4f113b"}


def question(entry: dict[str, Any], password: bytes) -> dict[str, Any]:
    return {
        "algorithm": entry["algorithm"],
        "username": entry["user"],
        "realm": entry["realm"],
        "password": password,
        "nonce": entry["nonce"],
        "method": entry["method"],
        "uri": entry["uri"],
        "qop": entry.get("qop", ""),
        "nc": entry.get("nc", ""),
        "cnonce": entry.get("cnonce", ""),
        "body": h(entry.get("body_hex", "")),
    }


class TestPublished:
    @each("digest", 10)
    def test_response(self, entry: dict[str, Any]) -> None:
        # RFC 7616 3.9.2 prints SHA-512 cut short where it says SHA-512/256; the entry has the right value beside it.
        expected = entry.get("computed_response", entry["response"])
        assert digest_response(**question(entry, entry["pw"].encode())) == expected

    @each("digest", 10)
    def test_a_stored_ha1_gives_the_same(self, entry: dict[str, Any]) -> None:
        asked = question(entry, entry["pw"].encode())
        stored = digest_ha1(**{name: asked[name] for name in ("algorithm", "username", "realm", "password")})
        assert digest_response(**{**asked, "password": b"", "ha1": stored}) == digest_response(**asked)
        if "sess" not in entry["algorithm"] and "computed_response" not in entry:
            assert stored == entry["ha1"]

    @pytest.mark.parametrize("number", [1, 2])
    def test_the_xor_registrations(self, number: int) -> None:
        entry = load_shared("digest_aka")[f"xor-akav1-{number}"]
        known = load("xor_ts34108")[number - 1]
        assert entry["nonce"] == known["nonce_b64"]
        assert digest_response(**question(entry, h(known["res"]))) == entry["response"]

    @pytest.mark.parametrize(
        "name", ["openimscore-alice-register", "xor-akav1-1", "xor-akav1-2", "aosp-imsstack-digest"]
    )
    def test_akav1(self, name: str) -> None:
        entry = load_shared("digest_aka")[name]
        res = h(entry["pw_hex"]) if "pw_hex" in entry else entry["pw"].encode()
        assert digest_response(**question(entry, aka_password("AKAv1-MD5", res, b"", b""))) == entry["response"]

    def test_alice_from_her_key_to_the_response(self) -> None:
        entry = load_shared("digest_aka")["openimscore-alice-register"]
        rand, autn, server_data = split_nonce(entry["nonce"])
        assert (rand.hex(), autn.hex(), server_data) == (entry["rand"], entry["autn"], b"")
        card = Usim(Milenage(h(entry["k"]), h(entry["opc"])))
        answer = card.authenticate(rand, autn)
        assert isinstance(answer, Authenticated)
        assert (answer.res.hex(), answer.ck.hex(), answer.ik.hex()) == (entry["res"], entry["ck"], entry["ik"])
        assert f"{answer.sqn:012x}" == entry["sqn"]
        password = aka_password(entry["algorithm"], answer.res, answer.ck, answer.ik)
        assert digest_response(**question(entry, password)) == entry["response"]

    def test_alice_without_a_registration(self) -> None:
        entry = load_shared("digest_aka")["openimscore-alice-aka"]
        card = Usim(Milenage.from_op(h(entry["k"]), h(entry["op"])))
        answer = card.authenticate(h(entry["rand"]), h(entry["autn"]))
        assert isinstance(answer, Authenticated)
        assert (answer.res.hex(), answer.ck.hex(), answer.ik.hex()) == (entry["res"], entry["ck"], entry["ik"])

    def test_akav2_password(self) -> None:
        entry = load_shared("digest_aka")["aosp-akav2-password"]
        made = aka_password("AKAv2-MD5", h(entry["res_hex"]), h(entry["ck_hex"]), h(entry["ik_hex"]))
        assert made.decode() == entry["password_b64"]

    def test_akav2_keys(self) -> None:
        entries = load_shared("digest_aka")
        ck, ik = aka_keys("AKAv2-MD5", h(entries["aosp-akav2-ck"]["ck_hex"]), h(entries["aosp-akav2-ik"]["ik_hex"]))
        assert ck.hex() == entries["aosp-akav2-ck"]["derived"]
        assert ik.hex() == entries["aosp-akav2-ik"]["derived"]

    @pytest.mark.parametrize("number", [3, 20])
    def test_akav2_over_published_sets(self, number: int) -> None:
        entry = load_shared("digest_aka")[f"akav2-computed-TS35.208-set-{number}"]
        res, ck, ik = h(entry["res"]), h(entry["ck"]), h(entry["ik"])
        assert aka_password("AKAv2-MD5", res, ck, ik).decode() == entry["password_b64"]
        assert [key.hex() for key in aka_keys("AKAv2-MD5", ck, ik)] == [entry["ck_akav2"], entry["ik_akav2"]]

    def test_the_nonce_that_rfc_3310_prints_is_no_base64(self) -> None:
        # 44 characters need no "=", and it has two.
        with pytest.raises(PeerError, match="nonce: not base64"):
            split_nonce(load_shared("digest_aka")["RFC3310-s4-placeholder"]["nonce"])

    def test_a_real_tablet(self) -> None:
        """Its REGISTER as a dissector reads it; qop auth-int, the body of a REGISTER being empty."""
        capture = require_shared("captures/samsung-kamailio-ipsec-reg.pcapng")
        fields = ["username", "realm", "uri", "nonce", "qop", "nc", "cnonce", "response"]
        names = {"nc": "sip.auth.nc", "cnonce": "sip.auth.cnonce", "response": "sip.auth.digest.response"}
        command = [
            require_program("tshark"),
            "-r",
            str(capture),
            "-Y",
            "sip.auth.nc",
            "-T",
            "fields",
            "-E",
            "occurrence=f",
        ]
        for field in fields:
            command += ["-e", names.get(field, f"sip.auth.{field}")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
        values = {name: value.strip('"') for name, value in zip(fields, said[0].split("\t"), strict=True)}
        rand, autn, _ = split_nonce(values["nonce"])
        milenage = Milenage.from_op(h("8baf473f2f8fd09487cccbd7097c6862"), h("11" * 16))
        answer = Usim(milenage).authenticate(rand, autn)
        assert isinstance(answer, Authenticated)
        assert answer.res.hex() == "17447172f62cf13e"
        response = values.pop("response")
        assert (values["qop"], response) == ("auth-int", "63175c06a7a88bd479f5c9f714487476")
        assert digest_response(algorithm="AKAv1-MD5", method="REGISTER", password=answer.res, **values) == response


class TestPassword:
    def test_res_is_octets(self) -> None:
        for res in (b"\0" * 8, b"ab\0cdefg", bytes(range(248, 256)), b'\r\n:"\\;=,'):
            assert aka_password("AKAv1-MD5", res, bytes(16), bytes(16)) == res
            a1 = b"bob:biloxi.com:" + res
            assert digest_ha1(**{**ha1_part(), "password": res}) == hashlib.md5(a1).hexdigest()

    def test_a_zero_octet_does_not_end_it(self) -> None:
        long, short = (digest_response(**{**PLAIN, "password": res}) for res in (b"ab\0cdefg", b"ab"))
        assert long != short

    def test_akav2_sha_256_uses_sha_256_as_prf(self) -> None:
        # RFC 2104 by hand, so that the definition is tested and not the library's shorthand for it.
        key = b"R" * 8 + b"I" * 16 + b"C" * 16
        inner, outer = (bytes(octet ^ pad for octet in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
        mac = hashlib.sha256(outer + hashlib.sha256(inner + b"http-digest-akav2-password").digest()).digest()
        assert aka_password("AKAv2-SHA-256", b"R" * 8, b"C" * 16, b"I" * 16) == b64encode(mac)

    def test_akav1_keys_are_the_cards_own(self) -> None:
        assert aka_keys("AKAv1-MD5", b"C" * 16, b"I" * 16) == (b"C" * 16, b"I" * 16)

    @pytest.mark.parametrize(
        ("name", "version"),
        [("MD5", 0), ("", 0), ("sha-256", 0), ("AKAv1-MD5", 1), ("akaV2-Sha-256", 2), ("AKAv2-MD5", 2)],
    )
    def test_version(self, name: str, version: int) -> None:
        assert aka_version(name) == version

    @pytest.mark.parametrize("name", ["MD5", "SHA-256-sess", ""])
    def test_no_aka_no_password(self, name: str) -> None:
        for make in (lambda: aka_password(name, b"", b"", b""), lambda: aka_keys(name, b"", b"")):
            with pytest.raises(PeerError, match="is no AKA algorithm"):
                make()

    @pytest.mark.parametrize("name", ["AKAv3-MD5", "AKAv1", "MD", "MD5 ", "AKAv1-MD5-", "token"])
    def test_an_unknown_algorithm_is_not_taken_for_its_beginning(self, name: str) -> None:
        with pytest.raises(PeerError, match="is not known"):
            digest_response(**{**PLAIN, "algorithm": name})


def ha1_part() -> dict[str, Any]:
    return {name: PLAIN[name] for name in ("algorithm", "username", "realm", "password")}


class TestResponse:
    def test_case_of_names_does_not_matter(self) -> None:
        assert digest_response(**{**WITH_QOP, "algorithm": "md5", "qop": "AUTH"}) == digest_response(**WITH_QOP)

    def test_akav1_md5_is_md5_in_all_but_its_password(self) -> None:
        assert digest_response(**{**WITH_QOP, "algorithm": "AKAv1-MD5"}) == digest_response(**WITH_QOP)
        assert digest_response(**{**WITH_QOP, "algorithm": "AKAv2-SHA-256"}) == digest_response(
            **{**WITH_QOP, "algorithm": "SHA-256"}
        )

    def test_without_qop_nc_and_cnonce_do_not_count(self) -> None:
        assert digest_response(**{**PLAIN, "nc": "00000009", "cnonce": "x"}) == digest_response(**PLAIN)

    def test_auth_int_covers_the_body_and_auth_does_not(self) -> None:
        covering = {**WITH_QOP, "qop": "auth-int"}
        assert digest_response(**covering, body=b"a") != digest_response(**covering, body=b"b")
        assert digest_response(**WITH_QOP, body=b"a") == digest_response(**WITH_QOP, body=b"b")

    @pytest.mark.parametrize("change", ["username", "realm", "nonce", "method", "uri", "nc", "cnonce"])
    def test_everything_counts(self, change: str) -> None:
        assert digest_response(**{**WITH_QOP, change: WITH_QOP[change] + "x"}) != digest_response(**WITH_QOP)

    def test_a_resynchronisation_has_an_empty_password(self) -> None:
        # RFC 3310 3.4
        auts = write_auts(bytes(14))
        assert digest_response(**WITH_QOP, auts=auts) == digest_response(**{**WITH_QOP, "password": b""})
        assert digest_response(**WITH_QOP, auts=auts) != digest_response(**WITH_QOP)

    def test_octets_that_are_no_utf_8_go_back_as_they_came(self) -> None:
        name = b"b\xf6b".decode("utf-8", "surrogateescape")
        made = digest_ha1(**{**ha1_part(), "username": name})
        assert made == hashlib.md5(b"b\xf6b:biloxi.com:zanzibar").hexdigest()

    @pytest.mark.parametrize("qop", ["auth,auth-int", "authint", "none", "auth-conf"])
    def test_an_unknown_qop(self, qop: str) -> None:
        with pytest.raises(PeerError, match="qop: expected auth or auth-int"):
            digest_response(**{**WITH_QOP, "qop": qop})

    @pytest.mark.parametrize(
        "lacking",
        [
            {**WITH_QOP, "nc": ""},
            {**WITH_QOP, "cnonce": ""},
            {**WITH_QOP, "qop": "auth-int", "cnonce": ""},
            {**PLAIN, "algorithm": "MD5-sess"},
        ],
    )
    def test_qop_and_session_need_their_parameters(self, lacking: dict[str, Any]) -> None:
        with pytest.raises(PeerError, match="nc, cnonce: missing"):
            digest_response(**lacking)


class TestRspauth:
    def asked(self, **changes: Any) -> dict[str, Any]:
        asked = {**WITH_QOP, **changes}
        del asked["method"]
        return asked

    def test_it_is_the_response_without_a_method(self) -> None:
        # RFC 2617 3.2.3, written out.
        a1 = hashlib.md5(b"bob:biloxi.com:zanzibar").hexdigest()
        a2 = hashlib.md5(b":sip:bob@biloxi.com").hexdigest()
        text = f"{a1}:{PLAIN['nonce']}:00000001:0a4f113b:auth:{a2}"
        assert rspauth(**self.asked()) == hashlib.md5(text.encode()).hexdigest()
        assert rspauth(**self.asked()) == digest_response(**{**WITH_QOP, "method": ""})

    def test_auth_int_covers_the_body_of_the_answer(self) -> None:
        a1 = hashlib.sha256(b"bob:biloxi.com:zanzibar").hexdigest()
        a2 = hashlib.sha256(b":sip:bob@biloxi.com:" + hashlib.sha256(b"body").hexdigest().encode()).hexdigest()
        text = f"{a1}:{PLAIN['nonce']}:00000001:0a4f113b:auth-int:{a2}"
        made = rspauth(**self.asked(algorithm="AKAv2-SHA-256", qop="auth-int"), body=b"body")
        assert made == hashlib.sha256(text.encode()).hexdigest()

    def test_a_stored_ha1_gives_the_same(self) -> None:
        assert rspauth(**self.asked(password=b""), ha1=digest_ha1(**ha1_part())) == rspauth(**self.asked())


class TestNonce:
    RAND, AUTN = bytes(range(16)), bytes(range(16, 32))

    @pytest.mark.parametrize("data", [b"", b"x", b"ab", b"abc", b"12345678", bytes(200)])
    @pytest.mark.parametrize("padded", [True, False])
    def test_with_and_without_server_data_and_padding(self, data: bytes, padded: bool) -> None:
        nonce = join_nonce(self.RAND, self.AUTN, data)
        assert split_nonce(nonce if padded else nonce.rstrip("=")) == (self.RAND, self.AUTN, data)

    @pytest.mark.parametrize("length", [0, 1, 16, 31])
    def test_too_short(self, length: int) -> None:
        nonce = b64encode(bytes(length)).decode()
        with pytest.raises(PeerError, match=f"32 octets or more, got {length}") as caught:
            split_nonce(nonce)
        assert caught.value.clause == "RFC 3310 3.2"

    @pytest.mark.parametrize(
        "change",
        [
            lambda nonce: nonce + "=",
            lambda nonce: nonce[:-1] + "==",
            lambda nonce: nonce[:-1] + "\n",
            lambda nonce: nonce + "\n",
            lambda nonce: " " + nonce,
            lambda nonce: nonce[:5] + "=" + nonce[6:],
            lambda nonce: nonce[:5] + "_" + nonce[6:],
            lambda nonce: nonce[:5] + "-" + nonce[6:],
            lambda nonce: nonce[:5] + "é" + nonce[6:],
            lambda nonce: nonce[:5] + "٣" + nonce[6:],
            lambda nonce: nonce[:-1] + "AA",  # 4n + 1 characters hold no whole octet at their end
            lambda nonce: nonce[:-2] + "9=",  # bits beyond the last octet
            lambda nonce: nonce[:5] + "\udcff" + nonce[6:],
        ],
    )
    def test_anything_else_is_the_peers_fault(self, change: Any) -> None:
        nonce = join_nonce(self.RAND, self.AUTN)
        assert nonce.endswith("8=")
        with pytest.raises(PeerError, match="nonce: not base64"):
            split_nonce(change(nonce))

    def test_a_nonce_is_made_of_16_and_16(self) -> None:
        for rand, autn in ((b"", self.AUTN), (self.RAND, b"")):
            with pytest.raises(LocalError, match="expected 16 octets of RAND and of AUTN"):
                join_nonce(rand, autn)


class TestAuts:
    @pytest.mark.parametrize("padded", [True, False])
    def test_there_and_back(self, padded: bool) -> None:
        auts = bytes(range(240, 254))
        text = write_auts(auts)
        assert parse_auts(text if padded else text.rstrip("=")) == auts

    @pytest.mark.parametrize("length", [0, 13, 15, 16])
    def test_14_octets_or_the_peers_fault(self, length: int) -> None:
        with pytest.raises(PeerError, match=f"auts: expected 14 octets, got {length}") as caught:
            parse_auts(b64encode(bytes(length)).decode())
        assert caught.value.clause == "RFC 3310 3.4"

    @pytest.mark.parametrize("text", ["?", "AAAAAAAAAAAAAAAAAA", "hello world"])
    def test_what_is_no_base64(self, text: str) -> None:
        with pytest.raises(PeerError, match="auts"):
            parse_auts(text)

    def test_writing_another_length_is_ours(self) -> None:
        with pytest.raises(LocalError, match="auts: expected 14 octets, got 13"):
            write_auts(bytes(13))
