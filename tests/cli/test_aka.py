"""`imslab aka`: the spellings, the JSON keys and the exit codes that scripts rely on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any, ClassVar

import pytest

from imslab.aka.digest import aka_password, digest_response, join_nonce
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import DELTA, join_sqn
from imslab.aka.tuak import Tuak
from imslab.aka.vector import generate, make_auts
from imslab.aka.xor import XorTest
from imslab.cli.main import main
from tests.known_answers import each, load, load_shared

h = bytes.fromhex

SET_1 = load("milenage")[0]
K, OP, OPC, RAND, AUTN = SET_1["k"], SET_1["op"], SET_1["opc"], SET_1["rand"], SET_1["derived"]["autn"]
NONCE = b64encode(h(RAND + AUTN)).decode()
CARD = ["--k", K, "--opc", OPC]
SECRETS = (K, OP, OPC)


class Said:
    """What a command said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer


@pytest.fixture
def aka(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Said:
        code = main(["aka", *arguments])
        return Said(code, *capsys.readouterr())

    return call


class TestVector:
    @each("milenage", 26)
    def test_published(self, aka: Any, entry: dict[str, Any]) -> None:
        flags = ["--k", entry["k"], "--sqn", entry["sqn"], "--amf", entry["amf"], "--rand", entry["rand"], "--json"]
        for constant in (["--op", entry["op"]], ["--opc", entry["opc"]]):
            said = aka("vector", *flags, *constant)
            assert said.code == 0
            assert said.json == {
                "rand": entry["rand"],
                "autn": entry["derived"]["autn"],
                "xres": entry["f2"],
                "ck": entry["f3"],
                "ik": entry["f4"],
                "nonce": b64encode(h(entry["rand"] + entry["derived"]["autn"])).decode(),
            }

    def test_amf_is_8000_unless_said_otherwise(self, aka: Any) -> None:
        said = aka("vector", *CARD, "--sqn", "20", "--rand", RAND, "--json")
        assert said.json["autn"] == generate(Milenage(h(K), h(OPC)), h(RAND), 0x20, b"\x80\0").autn.hex()

    def test_a_random_rand(self, aka: Any) -> None:
        rands = {aka("vector", *CARD, "--sqn", "20", "--json").json["rand"] for _ in range(4)}
        assert len(rands) == 4

    def test_for_humans(self, aka: Any) -> None:
        said = aka("vector", *CARD, "--sqn", SET_1["sqn"], "--amf", SET_1["amf"], "--rand", RAND)
        assert said.out.splitlines() == [
            f"RAND   {RAND}",
            f"AUTN   {AUTN}",
            f"XRES   {SET_1['f2']}",
            f"CK     {SET_1['f3']}",
            f"IK     {SET_1['f4']}",
            f"nonce  {NONCE}",
        ]

    def test_other_cards(self, aka: Any) -> None:
        common = ["--sqn", "000000000020", "--rand", RAND, "--json"]
        constant = OPC + OPC
        expected = generate(Tuak(h(K), h(constant), res_bits=128), h(RAND), 32, b"\x80\0")
        said = aka("vector", "--card", "tuak", "--k", K, "--opc", constant, "--res-bits", "128", *common)
        assert (said.json["autn"], said.json["xres"]) == (expected.autn.hex(), expected.xres.hex())
        said = aka("vector", "--card", "tuak", "--k", K + K, "--op", constant, *common)
        assert said.json["autn"] == generate(Tuak.from_top(h(K + K), h(constant)), h(RAND), 32, b"\x80\0").autn.hex()
        for flags, octets in (([], 16), (["--res-bits", "64"], 8)):
            expected = generate(XorTest(h(K), res_length=octets), h(RAND), 32, b"\x80\0")
            said = aka("vector", "--card", "xor", "--k", K, *flags, *common)
            assert (said.json["autn"], said.json["xres"]) == (expected.autn.hex(), expected.xres.hex())


class TestCheck:
    ANSWER: ClassVar[dict[str, str]] = {
        "rand": RAND,
        "autn": AUTN,
        "sqn": SET_1["sqn"],
        "amf": SET_1["amf"],
        "mac": "ok",
        "sqn_check": "unchecked",
        "res": SET_1["f2"],
        "ck": SET_1["f3"],
        "ik": SET_1["f4"],
        "ak": SET_1["f5"],
    }

    @pytest.mark.parametrize("constant", [["--op", OP], ["--opc", OPC], ["--opc", OPC.upper()], ["--op", f"0x{OP}"]])
    @pytest.mark.parametrize("nonce", [NONCE, NONCE.rstrip("=")])
    def test_a_nonce_that_fits(self, aka: Any, constant: list[str], nonce: str) -> None:
        said = aka("check", "--nonce", nonce, "--k", K, *constant, "--json")
        assert (said.code, said.json, said.err) == (0, self.ANSWER, "")

    def test_a_real_challenge(self, aka: Any) -> None:
        entry = load_shared("digest_aka")["openimscore-alice-register"]
        said = aka("check", "--nonce", entry["nonce"], "--k", entry["k"], "--opc", entry["opc"], "--json")
        assert said.code == 0
        assert {name: said.json[name] for name in ("rand", "autn", "sqn", "res", "ck", "ik")} == {
            name: entry[name] for name in ("rand", "autn", "sqn", "res", "ck", "ik")
        }

    def test_server_data(self, aka: Any) -> None:
        nonce = join_nonce(h(RAND), h(AUTN), b"\x01\x02")
        assert aka("check", "--nonce", nonce, *CARD, "--json").json == {**self.ANSWER, "server_data": "0102"}
        assert "server data  0102" in aka("check", "--nonce", nonce, *CARD).out

    def test_another_key_is_a_mac_failure(self, aka: Any) -> None:
        for flags in (["--sqn", "0"], []):
            said = aka("check", "--nonce", NONCE, "--k", OP, "--opc", OPC, *flags, "--json")
            assert said.code == 1
            assert (said.json["mac"], said.json["sqn_check"]) == ("failure", "unchecked")
        said = aka("check", "--nonce", NONCE, "--k", OP, "--opc", OPC, "--sqn", "0")
        assert said.code == 1
        assert said.out.startswith("MAC        failure")
        assert "unchecked: MAC comes first" in said.out

    @pytest.mark.parametrize(
        ("seq_ms", "expected", "words"),
        [
            (99, "ok", "ok"),
            (100, "out-of-range", "replayed"),
            (101, "out-of-range", "replayed"),
            (100 - DELTA, "ok", "ok"),
            (99 - DELTA, "out-of-range", "too far ahead"),
        ],
    )
    def test_sqn(self, aka: Any, seq_ms: int, expected: str, words: str) -> None:
        seq = 100 if seq_ms > 0 else 100 + DELTA
        seq_ms += 0 if seq_ms > 0 else DELTA
        nonce = generate(Milenage(h(K), h(OPC)), h(RAND), join_sqn(seq, 3), b"\x80\0").nonce
        flags = ["--nonce", nonce, *CARD, "--sqn", f"{join_sqn(seq_ms, 3):012x}"]
        said = aka("check", *flags, "--json")
        assert (said.code, said.json["mac"], said.json["sqn_check"]) == (0, "ok", expected)
        assert words in next(line for line in aka("check", *flags).out.splitlines() if line.startswith("SQN check"))

    def test_for_humans(self, aka: Any) -> None:
        said = aka("check", "--nonce", NONCE, *CARD)
        assert said.code == 0
        assert said.out.splitlines()[:4] == [
            "MAC        ok",
            "SQN        ff9bb4d0b607  (SEQ 8782631830960, IND 7)",
            "SQN check  unchecked: --sqn gives the card's SQN_MS",
            "AMF        b9b9",
        ]
        for name in ("rand", "autn", "res", "ck", "ik", "ak"):
            assert f"{name.upper():<9}  {self.ANSWER[name]}" in said.out


class TestResync:
    AUTS = SET_1["derived"]["auts_with_amf_star_0000"]

    @pytest.mark.parametrize(
        "auts", [AUTS, AUTS.upper(), b64encode(h(AUTS)).decode(), b64encode(h(AUTS)).decode()[:-1]]
    )
    def test_the_cards_own(self, aka: Any, auts: str) -> None:
        said = aka("resync", "--auts", auts, "--rand", RAND, *CARD, "--json")
        assert (said.code, said.json) == (0, {"sqn_ms": SET_1["sqn"], "mac_s": "ok"})

    def test_not_the_cards_own(self, aka: Any) -> None:
        flags = ["resync", "--auts", self.AUTS, "--rand", AUTN, *CARD]
        said = aka(*flags, "--json")
        assert (said.code, said.json["mac_s"]) == (1, "failure")
        said = aka(*flags)
        assert said.code == 1
        assert said.out.startswith("MAC-S   failure")

    def test_for_humans(self, aka: Any) -> None:
        auts = make_auts(Milenage(h(K), h(OPC)), h(RAND), join_sqn(127, 4)).hex()
        said = aka("resync", "--auts", auts, "--rand", RAND, *CARD)
        assert said.out.splitlines() == ["MAC-S   ok", "SQN_MS  000000000fe4  (SEQ 127, IND 4)"]


class TestDigest:
    WHO = ("--username", "alice@ims.example", "--realm", "ims.example", "--uri", "sip:ims.example")
    ASKED: ClassVar[dict[str, str]] = {
        "username": "alice@ims.example",
        "realm": "ims.example",
        "uri": "sip:ims.example",
    }

    def expected(self, algorithm: str = "AKAv1-MD5", method: str = "REGISTER", **more: Any) -> str:
        password = aka_password(algorithm, h(SET_1["f2"]), h(SET_1["f3"]), h(SET_1["f4"]))
        return digest_response(algorithm=algorithm, password=password, nonce=NONCE, method=method, **self.ASKED, **more)

    def test_without_qop(self, aka: Any) -> None:
        said = aka("digest", "--nonce", NONCE, *CARD, *self.WHO, "--json")
        assert (said.code, said.json, said.err) == (0, {"response": self.expected()}, "")
        assert aka("digest", "--nonce", NONCE, *CARD, *self.WHO).out == f"response  {self.expected()}\n"

    def test_real_registrations(self, aka: Any) -> None:
        entries = load_shared("digest_aka")
        for name, card in (
            ("openimscore-alice-register", ["--opc", entries["openimscore-alice-register"]["opc"]]),
            ("xor-akav1-1", ["--card", "xor"]),
            ("xor-akav1-2", ["--card", "xor"]),
        ):
            entry = entries[name]
            flags = ["--k", entry["k"], *card, "--nonce", entry["nonce"], "--username", entry["user"]]
            flags += ["--realm", entry["realm"], "--uri", entry["uri"], "--qop", entry["qop"], "--nc", entry["nc"]]
            said = aka("digest", *flags, "--cnonce", entry["cnonce"], "--method", entry["method"], "--json")
            assert (said.code, said.json, said.err) == (0, {"response": entry["response"]}, "")

    @pytest.mark.parametrize("algorithm", ["AKAv1-MD5", "AKAv2-MD5", "AKAv2-SHA-256"])
    @pytest.mark.parametrize("qop", ["auth", "auth-int"])
    def test_algorithms_and_qop(self, aka: Any, algorithm: str, qop: str, tmp_path: Path) -> None:
        body = tmp_path / "body"
        body.write_bytes(b"v=0\r\n\0")
        flags = ["--algorithm", algorithm, "--method", "MESSAGE", "--qop", qop, "--cnonce", "c", "--nc", "0000000a"]
        said = aka("digest", "--nonce", NONCE, *CARD, *self.WHO, *flags, "--body", str(body), "--json")
        more = {"qop": qop, "cnonce": "c", "nc": "0000000a", "body": b"v=0\r\n\0"}
        assert said.json == {"response": self.expected(algorithm, "MESSAGE", **more)}

    def test_nc_is_1_and_the_body_empty_unless_said_otherwise(self, aka: Any) -> None:
        said = aka("digest", "--nonce", NONCE, *CARD, *self.WHO, "--qop", "auth-int", "--cnonce", "c", "--json")
        assert said.json == {"response": self.expected(qop="auth-int", cnonce="c", nc="00000001")}

    def test_the_body_may_come_through_a_pipe(self, aka: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"body")))
        flags = ["--qop", "auth-int", "--cnonce", "c", "--body", "-", "--json"]
        said = aka("digest", "--nonce", NONCE, *CARD, *self.WHO, *flags)
        assert said.json == {"response": self.expected(qop="auth-int", cnonce="c", nc="00000001", body=b"body")}

    def test_a_nonce_of_another_key_is_answered_with_a_note(self, aka: Any) -> None:
        said = aka("digest", "--nonce", NONCE, "--k", OP, "--opc", OPC, *self.WHO, "--json")
        assert said.code == 0
        assert "MAC of this nonce does not fit this key" in said.err
        assert set(said.json) == {"response"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (
                ["--k", K[:-1], "--opc", OPC],
                "--k: expected 16 octets (32 hex digits) or 32 octets (64 hex digits), got 31",
            ),
            (["--k", K + "g", "--opc", OPC], "--k: expected 16 octets (32 hex digits)"),
            (["--k", "", "--opc", OPC], "--k: expected 16 octets (32 hex digits)"),
            (["--k", K + K, "--opc", OPC], "--k: expected 16 octets (32 hex digits) for this --card, got 32 octets"),
            (["--k", K, "--opc", OPC + OPC], "--opc: expected 16 octets (32 hex digits) for this --card, got 32"),
            (["--k", K, "--op", OP + OP], "--op: expected 16 octets (32 hex digits) for this --card, got 32"),
            (
                ["--k", K, "--op", OP, "--card", "tuak"],
                "--op: expected 32 octets (64 hex digits) for this --card, got 16",
            ),
            (["--k", K, "--op", OP, "--card", "xor"], "--opc, --op: the XOR algorithm has none"),
            (["--k", K, "--card", "xor", "--opc", OPC], "--opc, --op: the XOR algorithm has none"),
            (["--k", K], "--opc, --op: expected one of the two"),
            (["--k", K, "--op", OP, "--opc", OPC], "--opc, --op: expected one of the two"),
            (["--op", OP], "Missing option '--k'"),
            (["--k", K, "--op", OP, "--res-bits", "64"], "--res-bits: a RES of Milenage always has 64 bits"),
            (["--k", K, "--op", OP, OPC], "unexpected extra argument (<32 hex digits>)"),
            (["--k", K, "--op", OP, f"--{OPC}"], "<32 hex digits>"),
        ],
    )
    def test_cards(self, aka: Any, arguments: list[str], text: str) -> None:
        said = aka("check", "--nonce", NONCE, *arguments)
        assert said.code == 2
        assert said.out == ""
        assert said.err.startswith("imslab: aka check: ")
        assert text in said.err
        assert said.err.count("\n") == 1
        for secret in SECRETS:
            assert secret[:24] not in said.err

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["check", "--nonce", NONCE + "="], "--nonce: not base64"),
            (["check", "--nonce", NONCE[:-2] + "=="], "--nonce: not base64"),
            (["check", "--nonce", ""], "--nonce: expected RAND and AUTN, 32 octets or more, got 0"),
            (["check", "--nonce", NONCE[:40]], "--nonce: expected RAND and AUTN, 32 octets or more, got 30"),
            (["check"], "Missing option '--nonce'"),
            (["check", "--nonce", NONCE, "--sqn", "0" * 13], "--sqn: expected 48 bits (up to 12 hex digits), got 13"),
            (["check", "--nonce", NONCE, "--sqn", "-1"], "--sqn: expected 48 bits"),
            (["vector"], "Missing option '--sqn'"),
            (["vector", "--sqn", "20", "--amf", "80"], "--amf: expected 2 octets (4 hex digits), got 2 hex digits"),
            (
                ["vector", "--sqn", "20", "--rand", "xyz"],
                "--rand: expected 16 octets (32 hex digits), got 3 characters",
            ),
            (["resync", "--rand", RAND, "--auts", RAND], "--auts: expected 14 octets"),
            (
                ["resync", "--rand", RAND, "--auts", "?"],
                "--auts: expected 14 octets, as 28 hex digits or as base64, got 1",
            ),
            (["digest", "--nonce", NONCE], "Missing option '--username'"),
            (["digest", "--nonce", NONCE, *TestDigest.WHO, "--qop", "auth"], "--cnonce: expected beside --qop auth"),
            (
                ["digest", "--nonce", NONCE, *TestDigest.WHO, "--nc", "1"],
                "--nc: expected 8 hex digits, got 1 characters",
            ),
            (["digest", "--nonce", NONCE, *TestDigest.WHO, "--qop", "best"], "--qop"),
            (["digest", "--nonce", NONCE, *TestDigest.WHO, "--algorithm", "MD5"], "--algorithm"),
            (["digest", "--nonce", NONCE, *TestDigest.WHO, "--body", "/no/such/file"], "'/no/such/file': No such file"),
        ],
    )
    def test_everything_else(self, aka: Any, arguments: list[str], text: str) -> None:
        said = aka(*arguments, *CARD)
        assert said.code == 2
        assert said.out == ""
        assert said.err.startswith(f"imslab: aka {arguments[0]}: ")
        assert text in said.err
        assert said.err.count("\n") == 1


def test_as_a_process() -> None:
    """Through a real command line: one JSON document on stdout, nothing on stderr, and the exit code counts."""
    project = Path(__file__).resolve().parents[2]
    for key, code in ((K, 0), (OP, 1), ("12", 2)):
        command = [
            sys.executable,
            "-m",
            "imslab.cli",
            "aka",
            "check",
            "--nonce",
            NONCE,
            "--k",
            key,
            "--opc",
            OPC,
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=project)
        assert done.returncode == code
        if code == 2:
            assert (done.stdout, done.stderr.count("\n")) == ("", 1)
        else:
            assert json.loads(done.stdout)["mac"] == ("ok" if code == 0 else "failure")
            assert done.stderr == ""
