"""AKA: vectors per second, against a textbook Milenage and against what was promised; and the other hot functions."""

from __future__ import annotations

import hashlib

from imslab.aka.digest import digest_response
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import SqnWindow, join_sqn
from imslab.aka.tuak import Tuak
from imslab.aka.usim import Authenticated, Usim
from imslab.aka.vector import generate
from tests.benchmarks import textbook_milenage
from tests.benchmarks.table import Row, measure

_K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
_OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
_RAND = bytes.fromhex("23553cbe9637a89d218ae64dae47bf35")
_AMF = b"\x80\0"
_SQN = join_sqn(1000, 3)
_SQN_OCTETS = _SQN.to_bytes(6, "big")

#: What the project promises: vectors per second, and times the textbook.
_PROMISED = 100_000.0
_TIMES = 10.0

_ASKED = {
    "algorithm": "AKAv1-MD5",
    "username": "001010000000001@ims.mnc001.mcc001.3gppnetwork.org",
    "realm": "ims.mnc001.mcc001.3gppnetwork.org",
    "nonce": "I1PLvqliN2idjE9dkDO2ZvJdX2o2EoAASpRPHsCtmRw=",
    "method": "REGISTER",
    "uri": "sip:ims.mnc001.mcc001.3gppnetwork.org",
    "qop": "auth",
    "nc": "00000001",
    "cnonce": "0a4f113b",
}


def _by_hand(password: bytes) -> str:
    """The same response without a question asked: the least that any digest costs here."""
    a = _ASKED
    ha1 = hashlib.md5(f"{a['username']}:{a['realm']}:".encode() + password).hexdigest()
    ha2 = hashlib.md5(f"{a['method']}:{a['uri']}".encode()).hexdigest()
    return hashlib.md5(f"{ha1}:{a['nonce']}:{a['nc']}:{a['cnonce']}:{a['qop']}:{ha2}".encode()).hexdigest()


def run() -> list[Row]:
    """Vectors, answers of a card, and digests per second."""
    milenage = Milenage(_K, _OPC)
    made = generate(milenage, _RAND, _SQN, _AMF)
    assert made == textbook_milenage.vector(_K, _OPC, _RAND, _SQN_OCTETS, _AMF)
    ours = measure(lambda: generate(milenage, _RAND, _SQN, _AMF))
    textbook = measure(lambda: textbook_milenage.vector(_K, _OPC, _RAND, _SQN_OCTETS, _AMF))

    def answer() -> None:
        card = Usim(milenage, SqnWindow())
        assert isinstance(card.authenticate(_RAND, made.autn), Authenticated)

    assert digest_response(**_ASKED, password=made.xres) == _by_hand(made.xres)
    once, twice = Tuak(_K, _OPC + _OPC), Tuak(_K, _OPC + _OPC, iterations=2)
    return [
        Row("Milenage vectors, one key", ours, "textbook", textbook, "vectors/s", _TIMES),
        Row("Milenage vectors, one key", ours, "the promise", _PROMISED, "vectors/s", 1.0),
        Row(
            "Milenage vectors, a new key each",
            measure(lambda: generate(Milenage(_K, _OPC), _RAND, _SQN, _AMF)),
            "textbook",
            textbook,
            "vectors/s",
            None,
        ),
        Row("a new card answers a challenge", measure(answer), "textbook vector", textbook, "answers/s", None),
        Row(
            "Digest response, AKAv1-MD5, qop auth",
            measure(lambda: digest_response(**_ASKED, password=made.xres)),
            "three bare MD5",
            measure(lambda: _by_hand(made.xres)),
            "responses/s",
            None,
        ),
        Row(
            "TUAK vectors, one iteration",
            measure(lambda: generate(once, _RAND, _SQN, _AMF)),
            "two, permuted in Python",
            measure(lambda: generate(twice, _RAND, _SQN, _AMF)),
            "vectors/s",
            None,
        ),
    ]
