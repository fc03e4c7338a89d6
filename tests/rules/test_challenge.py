"""The challenge on Gm and what the UE makes of it: each rule broken by one knob."""

from __future__ import annotations

from base64 import b64encode

import pytest

from imslab.aka.digest import digest_response
from imslab.aka.vector import generate
from imslab.aka.xor import XorTest
from imslab.core.sa import Sa, SaSet
from imslab.rules.clauses import Level
from imslab.trace.model import NodeRecord
from tests.rules.build import (
    CALL,
    DOMAIN,
    EMPTY,
    FIRST,
    IMPI,
    NONCES,
    PCSCF,
    RANDS,
    RESPONSES,
    SECOND,
    TCP,
    THIRD,
    UE,
    Ports,
    Script,
    answer,
    challenge,
    credentials,
    findings,
    protected,
    register,
    sane,
    welcome,
)
from tests.rules.cases import PCSCF as P
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, every, header, sound

AUTS = b64encode(bytes(14)).decode()
CLEAR = (None, FIRST.flows[0][1]._replace(port=5060), FIRST.flows[0][2]._replace(port=5060))


def report(which: str, *, offer: Ports = SECOND, auts: str = "", response: str = "") -> str:
    """A REGISTER in clear that reports a failure."""
    given = f'Digest username="{IMPI}",realm="{DOMAIN}",uri="sip:{DOMAIN}",nonce="{NONCES[0]}",response="{response}"'
    given += ',algorithm=AKAv1-MD5,opaque="o"' + (f',auts="{auts}"' if auts else "")
    return register(2, "UDP", offer, given, port=5060).replace("reg-2", which)


def fails(text: str) -> Spoil:
    """The UE reports a failure in place of its answer."""

    def spoil(script: Script) -> None:
        script.until("challenge")
        script.add("report", 0.3, CLEAR, text)

    return spoil


def inside_the_new_set(script: Script) -> None:
    """The report goes where no SAs should be."""
    fails(report("r"))(script)
    script["report"].go_through(FIRST, 0)


def on_the_established_set(text: str, *, clear: bool) -> Spoil:
    """The re-registration's challenge is found bad."""

    def spoil(script: Script) -> None:
        script.until("rechallenge")
        body = text.replace(NONCES[0], NONCES[1]).replace("CSeq: 2", "CSeq: 4").replace(f"{UE}:5060", f"{UE}:30000")
        step = script.add("report", 1800.3, CLEAR, body + "")
        step.message.set("P-Access-Network-Info", "3GPP-E-UTRAN-FDD")
        step.transport = TCP
        if clear:
            step.message.remove("P-Access-Network-Info")
        else:
            step.go_through(FIRST, 0)

    return spoil


def three_failures(script: Script) -> None:
    """The network's challenges are bad, and the UE does not stop telling it so."""
    script.until("challenge")
    offers = (SECOND, THIRD, Ports(15001, 15002, 31005, 30000, 0, 0, 0, 0))
    for number, offer in enumerate(offers):
        text = report(f"r{number}", offer=offer).replace("CSeq: 2", f"CSeq: {number + 2}")
        if number:
            text = text.replace(NONCES[0], b64encode(bytes([number]) * 32).decode())
        step = script.add(f"report-{number}", 1.0 + number, CLEAR, text)
        ports = Ports(1, 2, 3, 4, 25001 + 2 * number, 25002 + 2 * number, 5201 + number, 6100)
        reply = answer(step.message, "401 Unauthorized", challenge(0, ports)).replace(";rport", ";rport=5060")
        reply = reply.replace(NONCES[0], b64encode(bytes([number + 1]) * 32).decode())
        script.add(f"challenge-{number}", 1.1 + number, (None, CLEAR[2], CLEAR[1]), reply)


def wrong_response(script: Script) -> None:
    """RES is known, and the response does not fit it."""
    script.until("welcome")
    script.keys.learn(RANDS[0], bytes(16), bytes(16), b"\1" * 8, "MAA")


def key_is_known(script: Script) -> None:
    """The user's key is given, and made the first challenge; its answer fits, where there is one."""
    algorithm = XorTest(bytes(range(32, 48)))
    script.keys.add_subscriber(algorithm, IMPI)
    vector = generate(algorithm, RANDS[0], 64, bytes(2))
    response = digest_response(
        algorithm="AKAv1-MD5",
        username=IMPI,
        realm=DOMAIN,
        password=vector.xres,
        nonce=vector.nonce,
        method="REGISTER",
        uri=f"sip:{DOMAIN}",
        qop="auth",
        nc="00000001",
        cnonce="c0",
    )
    for step in script.steps.values():
        for name in ("WWW-Authenticate", "Authorization"):
            if step.message.has(name):
                text = (step.message.get(name) or "").replace(NONCES[0], vector.nonce)
                step.message.set(name, text.replace(RESPONSES[0], response))


def replayed(script: Script) -> None:
    """The re-registration is challenged with the RAND and AUTN of the first one, and the UE answers."""
    script.until("rewelcome")
    script["rechallenge"].edit("WWW-Authenticate", 'nonce="[^"]*"', f'nonce="{NONCES[0]}"')
    script["reanswer"].edit("Authorization", 'nonce="[^"]*"', f'nonce="{NONCES[0]}"')


def short_nonce(script: Script) -> None:
    """A nonce of 31 octets is answered."""
    nonce = b64encode(bytes(31)).decode()
    script.until("welcome")
    for step, name in (("challenge", "WWW-Authenticate"), ("answer", "Authorization")):
        script[step].edit(name, 'nonce="[^"]*"', f'nonce="{nonce}"')


def no_agreement(script: Script) -> None:
    """The 401 has no Security-Server, and the UE answers all the same."""
    script.until("welcome")
    script["challenge"].message.remove("Security-Server")
    script["answer"].message.remove("Security-Verify")


def begins_again(script: Script) -> None:
    """The 401 has no Security-Server; the UE begins again under the same Call-ID."""
    script.until("challenge")
    script["challenge"].message.remove("Security-Server")
    script.add("register-2", 0.3, CLEAR, register(2, "UDP", SECOND, EMPTY, port=5060))


def half_an_agreement(script: Script) -> None:
    """The 401 names no port-s."""
    script.until("welcome")
    script["challenge"].edit("Security-Server", ";port-s=6100", "")


def second_challenge(*, mirrors: Ports) -> Spoil:
    """The first answer is challenged anew; what does the second one mirror?"""

    def spoil(script: Script) -> None:
        script.until("answer")
        reply = answer(script["answer"].message, "401 Unauthorized", challenge(1, SECOND))
        ports = Ports(*(FIRST.spi_uc, FIRST.spi_us, FIRST.uc, FIRST.us), 22001, 22002, 5102, 6100)
        step = script.add("once-more", 0.5, FIRST.flows[1], reply, TCP)
        step.message.set("Security-Server", ports.server)
        mirrored = ports if mirrors is SECOND else FIRST
        text = register(3, "TCP", FIRST, credentials(1), more=protected(mirrored))
        script.add("last", 0.7, ports.flows[0], text, TCP)

    return spoil


def clear_answer(script: Script) -> None:
    """The UE answers in clear; nobody answers that."""
    script.until("answer")
    script["answer"].go_clear()
    script["answer"].message.remove("P-Access-Network-Info")


def late_sas(script: Script) -> None:
    """A live run tells that the P-CSCF installed its SAs after the 401 had left."""
    script.until("challenge")
    sas = tuple(Sa(spi, src, dst, "hmac-sha-1-96", "null", bytes(16), bytes(16)) for spi, src, dst in FIRST.flows)
    made = SaSet(1, PCSCF, sas, 240.0)  # type: ignore[arg-type]
    for time, after, kind in ((0.102, 2, "install-sas"), (0.103, 2, "remove-sas")):
        data = {"sas": made} if kind == "install-sas" else {}
        script.extra.append(
            NodeRecord(time=time, node="pcscf", host=PCSCF, role=P, kind=kind, text="", data=data, after=after)
        )


def on_the_older_set(script: Script) -> None:
    """A refresh on the second set is challenged on the first one, which still stands."""
    script.until("refresh")
    ports = Ports(13001, 13002, 31003, 30000, 23001, 23002, 5103, 6100)
    text = answer(script["refresh"].message, "401 Unauthorized", challenge(0, ports)).replace(NONCES[0], "A" * 43 + "=")
    script.add("stray", 3600.1, FIRST.flows[1], text, TCP)


CASES = [
    Case(
        "CHL-15",
        on_the_older_set,
        "stray",
        "another SA set than that of its REGISTER",
        role=P,
        evidence=("refresh",),
    ),
    Case("CHL-16", late_sas, "challenge", "2.000 ms after the 401", role=P, level=Level.WARNING),
    Case(
        "CHL-10", edit("challenge", "WWW-Authenticate", "qop=", 'CK="00",qop='), "challenge", "still carries ck", role=P
    ),
    Case("CHL-10", edit("challenge", "WWW-Authenticate", "$", ', ik="1",ck="2"'), "challenge", "ck and ik", role=P),
    Case(
        "CHL-14",
        lambda s: s.until("challenge")["challenge"].go_through(FIRST, 2),
        "challenge",
        "came in clear",
        role=P,
        evidence=("register",),
    ),
    Case(
        "CHL-14",
        lambda s: s["challenge"].go_clear(dst=5099),
        "challenge",
        "401 to 192.0.2.10:5099",
        role=P,
        evidence=("register",),
    ),
    Case(
        "CHL-15",
        lambda s: s.until("rechallenge")["rechallenge"].go_clear(),
        "rechallenge",
        "came in ESP",
        role=P,
        evidence=("reregister",),
    ),
    Case(
        "TRN-14",
        lambda s: s.again("repeated", "challenge", 0.2).edit("Security-Server", "21001", "21003"),
        "repeated",
        "another Security-Server",
        role=P,
        evidence=("challenge",),
    ),
    Case("AKA-01", wrong_response, "answer", "does not fit RES"),
    Case(
        "AKA-04",
        edit("challenge", "WWW-Authenticate", ',qop="[^"]*"', ""),
        "answer",
        "has qop, nc, cnonce",
        evidence=("challenge",),
    ),
    Case(
        "AKA-05",
        edit("challenge", "WWW-Authenticate", 'qop="[^"]*"', 'qop="auth-int"'),
        "answer",
        "offered was auth-int",
        evidence=("challenge",),
    ),
    Case("AKA-05", edit("answer", "Authorization", "qop=auth", 'qop="auth"'), "answer", "expected it unquoted"),
    Case("AKA-05", edit("answer", "Authorization", "nc=00000001", "nc=1"), "answer", "nc=1"),
    Case("AKA-05", edit("answer", "Authorization", "nc=00000001,", ""), "answer", "no nc"),
    Case("AKA-05", edit("answer", "Authorization", ',cnonce="c0"', ""), "answer", "without cnonce"),
    Case(
        "AKA-06",
        edit("answer", "Authorization", ',opaque="o"', ""),
        "answer",
        "opaque is missing",
        evidence=("challenge",),
    ),
    Case(
        "AKA-06",
        lambda s: s.until("welcome")["answer"].edit("Authorization", 'realm="[^"]*"', 'realm="other"'),
        "answer",
        "realm is other",
    ),
    Case("AKA-06", edit("answer", "Authorization", "AKAv1-MD5", "akav1-md5"), "answer", "algorithm is akav1-md5"),
    Case(
        "AKA-06",
        lambda s: s.until("welcome")["answer"].edit("Authorization", 'nonce="[^"]*"', 'nonce="AAAA"'),
        "answer",
        "nonce is AAAA",
    ),
    Case(
        "AKA-07",
        lambda s: [s.until("welcome")[step].edit("Call-ID", "call-1", "call-9") for step in ("answer", "welcome")],
        "answer",
        "Call-ID call-9",
        evidence=("challenge",),
    ),
    Case(
        "AKA-07",
        lambda s: [s.until("welcome")[step].edit("CSeq", "2", "1") for step in ("answer", "welcome")],
        "answer",
        "CSeq 1 after 1",
    ),
    Case(
        "AKA-08",
        lambda s: s.until("answer")["answer"].message.remove("Security-Client"),
        "answer",
        "no Security-Client",
    ),
    Case(
        "AKA-08",
        lambda s: s.until("answer")["answer"].edit("Security-Client", "31001", "31009"),
        "answer",
        "differs from that of the first",
    ),
    Case(
        "AKA-08",
        lambda s: s.until("answer")["answer"].message.remove("Security-Verify"),
        "answer",
        "no Security-Verify",
    ),
    Case(
        "AKA-08",
        lambda s: s.until("answer")["answer"].edit("Security-Verify", "aes-cbc", "null"),
        "answer",
        "entry 1 is",
        evidence=("challenge",),
    ),
    Case("AKA-08", lambda s: s.until("answer")["answer"].edit("Security-Verify", ", .*", ""), "answer", "1 entries"),
    Case("LIF-27", second_challenge(mirrors=FIRST), "last", "of an earlier challenge", evidence=("once-more",)),
    Case("AKA-09", clear_answer, "answer", "goes in clear over TCP", evidence=("challenge",)),
    Case(
        "AKA-09",
        lambda s: s.until("reanswer")["reanswer"].go_through(FIRST, 0),
        "reanswer",
        "expected in ESP with SPI 22002",
        evidence=("rechallenge",),
    ),
    Case(
        "AKA-10",
        fails(report("r", offer=Ports(11001, 15002, 31001, 30000, 0, 0, 0, 0))),
        "report",
        "repeats spi-c=11001, port-c=31001",
        evidence=("register",),
    ),
    Case("AKA-10", inside_the_new_set, "report", "no SAs come of that challenge", also=frozenset({"PRT-06", "INI-11"})),
    Case(
        "AKA-10",
        every(fails(report("r")), header("report", "Security-Client", None)),
        "report",
        "has no Security-Client",
    ),
    Case("AKA-10", on_the_established_set(report("r", offer=THIRD), clear=True), "report", "though SAs stand"),
    Case("AKA-13", fails(report("r", auts="AAAA")), "report", "auts"),
    Case("AKA-13", fails(report("r", offer=FIRST, auts=AUTS)), "report", "spi-c=11001, spi-s=11002, port-c=31001"),
    Case(
        "AKA-14",
        every(fails(report("r", auts=AUTS)), key_is_known),
        "report",
        "its MAC-S is wrong",
        evidence=("challenge",),
    ),
    Case(
        "AKA-15",
        every(on_the_established_set(report("r", offer=THIRD, auts=AUTS), clear=False), key_is_known),
        "report",
        "whose MAC is wrong",
        evidence=("rechallenge",),
    ),
    Case(
        "AKA-26",
        every(fails(report("r", auts=AUTS)), edit("report", "CSeq", "2", "1")),
        "report",
        "CSeq 1 after 1",
        evidence=("challenge",),
    ),
    Case(
        "AKA-26", every(fails(report("r")), edit("report", "Call-ID", "call-1", "call-9")), "report", "Call-ID call-9"
    ),
    Case("AKA-11", three_failures, "report-2", "3 times in a row", evidence=("report-0", "report-1")),
    Case("AKA-16", replayed, "reanswer", "a second time", evidence=("rechallenge", "answer")),
    Case("AKA-19", short_nonce, "answer", "31", evidence=("challenge",)),
    Case(
        "AKA-27", no_agreement, "answer", "without Security-Server", evidence=("challenge",), also=frozenset({"CHL-13"})
    ),
    Case("AKA-27", begins_again, "register-2", "ended", evidence=("challenge",), also=frozenset({"CHL-13"})),
    Case("AKA-28", half_an_agreement, "answer", "is incomplete", evidence=("challenge",), also=frozenset({"CHL-13"})),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "challenge")


def test_no_key_is_ever_repeated() -> None:
    script = sane()
    secret = "d53c02758b376066fad0af7daa6df765"
    script["challenge"].edit("WWW-Authenticate", "$", f', ck="{secret}", ik="{secret}"')
    found = findings(script)
    assert [each.rule for each in found] == ["CHL-10"]
    assert secret not in repr(found)


def test_the_response_is_not_judged_where_autn_does_not_fit_the_keys_either() -> None:
    def other_keys(script: Script) -> None:
        script.keys.add_milenage(bytes(16), opc=bytes(16))

    sound(other_keys)


@pytest.mark.parametrize(
    ("header", "pattern", "replacement", "rule"),
    [
        ("Authorization", 'realm="[^"]*"', 'realm="other"', "AKA-06"),
        ("Authorization", "nc=00000001,", "", "AKA-05"),
        ("Authorization", "0000001@", "0000003@", "GM-02"),
    ],
)
def test_a_response_is_not_judged_by_what_was_changed_behind_it(
    header: str, pattern: str, replacement: str, rule: str
) -> None:
    script = sane().until("answer")
    script.keys.learn(RANDS[0], bytes(16), bytes(16), b"\1" * 8, "MAA")
    script["answer"].edit(header, pattern, replacement)
    assert [each.rule for each in findings(script)] == [rule]


def test_reports_in_clear_after_a_clear_register_are_right() -> None:
    sound(fails(report("r")))
    sound(fails(report("r", auts=AUTS)))
    sound(fails(report("r", auts=AUTS, response=RESPONSES[0])))  # NOTE of 24.229 5.1.1.5.3


def test_a_report_on_the_established_set_is_right() -> None:
    sound(on_the_established_set(report("r", offer=THIRD), clear=False))


def test_a_second_challenge_may_be_answered() -> None:
    sound(second_challenge(mirrors=SECOND))


def test_a_retransmitted_fault_is_one_finding() -> None:
    script = sane()
    script["challenge"].edit("WWW-Authenticate", "$", ', ck="00"')
    script.again("repeated", "challenge", 0.2)
    found = findings(script)
    assert [(each.rule, each.records) for each in found] == [
        ("CHL-10", (script.frame("challenge"), script.frame("repeated")))
    ]


def test_a_capture_without_the_challenge_says_nothing_of_the_answer() -> None:
    sound(lambda script: script.drop("register", "challenge"), clear_nothing)


def clear_nothing(script: Script) -> None:
    """An answer that would be wrong in many ways, if one knew what it answers."""
    script.until("welcome")
    script["answer"].edit("Authorization", "nc=00000001", "nc=00000009")
    script["answer"].message.remove("Security-Verify")


def test_a_refresh_is_not_taken_for_the_answer_that_the_capture_missed() -> None:
    script = sane()
    script.drop("answer", "welcome", "rechallenge", "reanswer", "rewelcome")
    assert all(each.level is Level.NOTE for each in findings(script))


def test_the_first_register_again_is_no_answer() -> None:
    # a UE that lost its memory begins anew with the same Call-ID
    def restart(script: Script) -> None:
        script.until("challenge")
        script.add("anew", 2.0, CLEAR, register(2, "UDP", THIRD, EMPTY, port=5060))

    sound(restart)


def test_story_has_the_call() -> None:
    assert CALL in sane()["welcome"].message.encode().decode()
    assert "expires=3600" in welcome()
