"""The security agreement: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.rules.clauses import Level
from tests.rules.build import EMPTY, FIRST, PCSCF, SECOND, THIRD, Script, answer, challenge, register, sane
from tests.rules.cases import PCSCF as P
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, every, header, sound

OFFER = "ipsec-3gpp;alg={alg};ealg={ealg};spi-c=0000011001;spi-s=0000011002;port-c=31001;port-s=30000"
LIST = "ipsec-3gpp;alg={alg};ealg={ealg};spi-c=0000021001;spi-s=0000021002;port-c=5101;port-s=6100"


def offers(*pairs: tuple[str, str]) -> Spoil:
    """A first REGISTER with this offer, and its challenge."""
    value = ", ".join(OFFER.format(alg=alg, ealg=ealg) for alg, ealg in pairs)
    return every(lambda script: script.until("challenge"), header("register", "Security-Client", value))


def lists(*pairs: tuple[str, str]) -> Spoil:
    """A challenge that lists this."""
    value = ", ".join(LIST.format(alg=alg, ealg=ealg) for alg, ealg in pairs)
    return every(lambda script: script.until("challenge"), header("challenge", "Security-Server", value))


def briefly(spoil: Spoil, last: str = "challenge") -> Spoil:
    """The story up to a step only, which is then spoilt."""
    return every(lambda script: script.until(last), spoil)


def another_ue(script: Script) -> None:
    """A second UE is given an SPI of the first one's standing set."""
    script.until("incoming")
    other = "192.0.2.11"
    text = register(1, "UDP", THIRD, EMPTY, port=5060)
    for old, new in (("192.0.2.10", other), ("call-1", "call-2"), ("reg-1", "reg-o"), ("0000001@", "0000002@")):
        text = text.replace(old, new)
    first = script["register"]
    there = first.src._replace(host=other)
    step = script.add("other", 30.0, (None, there, first.dst), text)
    reply = answer(step.message, "401 Unauthorized", challenge(1, FIRST)).replace(";rport", ";rport=5060")
    script.add("other-challenge", 30.1, (None, first.dst, there), reply.replace("0000021001", "0000029001"))


def lost(offer: str) -> Spoil:
    """The UE has lost its SAs and begins anew in clear."""

    def spoil(script: Script) -> None:
        script.until("incoming")
        text = register(1, "UDP", THIRD, EMPTY, port=5060).replace("call-1", "call-2").replace("reg-1", "reg-x")
        step = script.add("restart", 30.0, (None, script["register"].src, script["register"].dst), text)
        step.message.set("Security-Client", THIRD.client.replace("0000013001", offer))

    return spoil


CASES = [
    # Security-Client
    Case(
        "SEC-01",
        briefly(edit("register", "Security-Client", ";alg=hmac-sha-1-96", "")),
        "register",
        "entry 1, 2 of 2: ",
    ),
    Case(
        "SEC-01",
        briefly(edit("register", "Security-Client", "spi-c=0000011001", "spi-c=x")),
        "register",
        "entry 1, 2 of 2: ",
    ),
    Case(
        "SEC-01",
        briefly(edit("register", "Security-Client", "0000011001", "4294967296")),
        "register",
        "entry 1, 2 of 2: ",
    ),
    Case(
        "SEC-01",
        briefly(edit("register", "Security-Client", "0000011001", "0000000000")),
        "register",
        "which is no SPI",
    ),
    Case(
        "SEC-01",
        briefly(edit("register", "Security-Client", "31001;port-s=30000,", "31009;port-s=30000,")),
        "register",
        "2 different sets",
    ),
    Case(
        "SEC-01",
        every(*[edit(step, "Security-Client", "00000110", "110") for step in ("register", "answer")]),
        "register",
        "spi-c=11001, spi-s=11002: the grammar",
        level=Level.NOTE,
    ),
    Case(
        "SEC-02",
        offers(("hmac-sha-256-128", "aes-cbc"), ("hmac-sha-1-96", "aes-cbc")),
        "register",
        "alg=hmac-sha-256-128",
    ),
    Case("SEC-02", offers(("hmac-sha-1-96", "aes-ctr")), "register", "ealg=aes-ctr"),
    Case("SEC-03", offers(("hmac-md5-96", "aes-cbc")), "register", "hmac-md5-96 alone", level=Level.WARNING),
    Case("ADD-09", offers(("hmac-sha-1-96", "null")), "register", "offers no cipher"),
    Case(
        "SPI-01",
        briefly(every(edit("register", "Security-Client", "0000011002", "0000011001"))),
        "register",
        "are both",
    ),
    Case(
        "SPI-01",
        briefly(edit("register", "Security-Client", "0000011001", "0000000255")),
        "register",
        "reserved",
        level=Level.WARNING,
    ),
    Case("SPI-01", lost("0000011002"), "restart", "SPI 11002 again", evidence=("register",)),
    Case(
        "SPI-07", briefly(edit("register", "Security-Client", "port-c=31001", "port-c=5060")), "register", "port-c=5060"
    ),
    Case(
        "SPI-07", briefly(edit("register", "Security-Client", "port-s=30000", "port-s=5061")), "register", "port-s=5061"
    ),
    Case(
        "SPI-07",
        briefly(edit("register", "Security-Client", "port-s=30000", "port-s=31001")),
        "register",
        "are both",
        level=Level.WARNING,
    ),
    Case(
        "SPI-08",
        briefly(edit("reregister", "Security-Client", "port-s=30000", "port-s=30009"), "reregister"),
        "reregister",
        "before it was 30000",
        evidence=("register",),
    ),
    Case(
        "SPI-08",
        briefly(edit("reregister", "Security-Client", "port-c=31002", "port-c=31001"), "reregister"),
        "reregister",
        "port-c=31001 as before",
    ),
    # Security-Server
    Case(
        "CHL-13",
        briefly(header("challenge", "Security-Server", None)),
        "challenge",
        "no Security-Server",
        role=P,
        evidence=("register",),
    ),
    Case(
        "CHL-13",
        briefly(edit("challenge", "Security-Server", ";alg=hmac-sha-1-96", "")),
        "challenge",
        "alg is missing",
        role=P,
        also=frozenset(),
    ),
    Case(
        "CHL-13",
        briefly(edit("challenge", "Security-Server", "port-s=6100", "port-s=0")),
        "challenge",
        "0 is no port",
        role=P,
    ),
    Case(
        "CHL-13",
        briefly(edit("challenge", "Security-Server", "00000210", "210")),
        "challenge",
        "ten digits",
        role=P,
        level=Level.NOTE,
    ),
    Case("ADD-01", lists(("hmac-sha-1-96", "aes-cbc")), "challenge", "one combination only", role=P),
    Case(
        "SEC-24", briefly(edit("challenge", "Security-Server", "prot=esp", "prot=ah")), "challenge", "prot=ah", role=P
    ),
    Case(
        "SEC-24", briefly(edit("challenge", "Security-Server", "mod=trans", "mod=tun")), "challenge", "mod=tun", role=P
    ),
    Case(
        "ALG-10",
        lists(("null", "aes-cbc"), ("hmac-sha-1-96", "null")),
        "challenge",
        "alg=null with ealg=aes-cbc",
        role=P,
    ),
    Case("ALG-10", lists(("hmac-sha-1-96", "aes-gcm"), ("hmac-sha-1-96", "null")), "challenge", "ealg=aes-gcm", role=P),
    Case("ALG-10", offers(("null", "null"), ("hmac-sha-1-96", "aes-cbc")), "register", "alg=null with ealg=null"),
    Case(
        "ALG-20",
        every(
            offers(("hmac-md5-96", "null"), ("hmac-sha-1-96", "aes-cbc")),
            lists(("hmac-md5-96", "null"), ("hmac-sha-1-96", "null")),
        ),
        "challenge",
        "hmac-md5-96 chosen",
        role=P,
        level=Level.WARNING,
        evidence=("register",),
    ),
    Case(
        "SPI-02",
        briefly(edit("challenge", "Security-Server", "0000021001", "0000000100")),
        "challenge",
        "reserved",
        role=P,
        level=Level.WARNING,
    ),
    Case(
        "SPI-02",
        briefly(edit("challenge", "Security-Server", "0000021001", "0000021002")),
        "challenge",
        "are both",
        role=P,
    ),
    Case(
        "SPI-02",
        briefly(edit("challenge", "Security-Server", "0000021001", "0000011002")),
        "challenge",
        "which the UE chose",
        role=P,
        evidence=("register",),
    ),
    Case("SPI-02", another_ue, "other-challenge", "of another UE", role=P, evidence=("challenge",)),
    Case(
        "CHL-17",
        briefly(edit("rechallenge", "Security-Server", "0000022001", "0000021001"), "rechallenge"),
        "rechallenge",
        "SPI 21001 again",
        role=P,
        evidence=("challenge",),
    ),
    Case(
        "SPI-06",
        briefly(edit("challenge", "Security-Server", "port-s=6100", "port-s=5060")),
        "challenge",
        "port-s=5060",
        role=P,
    ),
    Case(
        "SPI-06",
        briefly(edit("challenge", "Security-Server", "port-s=6100", "port-s=5101")),
        "challenge",
        "are both",
        role=P,
        level=Level.WARNING,
    ),
    Case(
        "SPI-09",
        briefly(edit("rechallenge", "Security-Server", "port-s=6100", "port-s=6101"), "rechallenge"),
        "rechallenge",
        "before it was 6100",
        role=P,
        evidence=("challenge",),
    ),
    Case(
        "SPI-09",
        briefly(edit("rechallenge", "Security-Server", "port-c=5102", "port-c=5101"), "rechallenge"),
        "rechallenge",
        "port-c=5101 as before",
        role=P,
    ),
    # what the P-CSCF makes of it
    Case(
        "SEC-10",
        briefly(header("answer", "Security-Verify", None), "welcome"),
        "welcome",
        "no Security-Verify",
        role=P,
        evidence=("answer",),
        also=frozenset({"AKA-08"}),
    ),
    Case(
        "SEC-11",
        briefly(header("answer", "Security-Client", None), "welcome"),
        "welcome",
        "no Security-Client",
        role=P,
        evidence=("answer",),
        also=frozenset({"AKA-08"}),
    ),
    Case(
        "SEC-12",
        briefly(edit("answer", "Security-Verify", "aes-cbc", "null"), "welcome"),
        "welcome",
        "differs from",
        role=P,
        evidence=("answer", "challenge"),
        also=frozenset({"AKA-08"}),
    ),
    Case(
        "SEC-13",
        briefly(edit("answer", "Security-Client", "31001", "31009"), "welcome"),
        "welcome",
        "of the first REGISTER",
        role=P,
        evidence=("answer", "register"),
        also=frozenset({"AKA-08"}),
    ),
    Case("SEC-25", header("message", "Require", None), "message", "lacks sec-agree in Require"),
    Case("SEC-25", header("message", "Security-Verify", None), "message", "lacks Security-Verify"),
    Case(
        "SEC-25",
        header("message", "Security-Verify", SECOND.server),
        "message",
        "differs from the last",
        evidence=("challenge",),
    ),
    Case(
        "SEC-28",
        header("welcome", "Security-Server", FIRST.server),
        "welcome",
        "has Security-Server",
        role=P,
        level=Level.WARNING,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "secagree")


def test_cosmetics_are_no_difference() -> None:
    # RFC 3261 7.3.1: case, blanks, the order of parameters, rows
    def rewritten(script: Script) -> None:
        entries = sane()["answer"].message.values("Security-Verify")
        turned = []
        for entry in entries:
            name, *params = entry.split(";")
            turned.append(" ; ".join([name.upper(), *reversed(params)]))
        script["answer"].message.replace("Security-Verify", turned)

    sound(rewritten)


def test_other_mechanisms_are_let_pass() -> None:
    sound(
        lambda script: script["register"].message.prepend("Security-Client", "tls"),
        lambda script: script["challenge"].message.prepend("Security-Server", "tls"),
    )


def test_mediasec_may_be_in_the_200() -> None:
    sound(header("welcome", "Security-Server", "sdes-srtp;mediasec"))


def test_gcm_and_gmac_are_legal() -> None:
    sound(offers(("null", "aes-gcm"), ("aes-gmac", "null")), lists(("null", "aes-gcm"), ("aes-gmac", "null")))


def test_a_ue_that_lost_its_sas_may_begin_in_clear() -> None:
    sound(lost("0000013001"))


def test_after_a_farewell_spis_may_come_again() -> None:
    def anew(script: Script) -> None:
        text = register(1, "UDP", FIRST, EMPTY, port=5060).replace("call-1", "call-2").replace("reg-1", "reg-x")
        step = script.add("anew", 9000.0, (None, script["register"].src, script["register"].dst), text)
        reply = answer(step.message, "401 Unauthorized", challenge(1, FIRST)).replace(";rport", ";rport=5060")
        script.add("anew-challenge", 9000.1, (None, script["challenge"].src, script["challenge"].dst), reply)

    sound(anew)


def test_the_address_of_the_pcscf_is_that_of_the_packets() -> None:
    assert FIRST.flows[0][2].host == PCSCF
