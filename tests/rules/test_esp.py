"""ESP itself: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.esp import IcvError, PaddingError
from imslab.rules.clauses import Level
from imslab.trace.model import Icv, SaSetView, SaView
from tests.rules.build import FIRST, PCSCF, RANDS, UDP, UE, Script, esp, findings, malformed, sane
from tests.rules.cases import NOBODY, Case, Spoil, cases_lacking, check, sound
from tests.rules.cases import PCSCF as P


def packet(step: str, **values: object) -> Spoil:
    """What one ESP packet is like."""
    return lambda script: script.edit_esp.update({step: values})


def all_bad(script: Script) -> None:
    """No packet of the UE's first SA verifies."""
    script.until("received")
    for name, step in script.steps.items():
        if step.spi == FIRST.spi_ps:
            script.edit_esp[name] = {"icv": Icv.BAD}


def stranger(script: Script) -> None:
    """Packets with an SPI that nobody announced."""
    script.strangers.append(SaView(spi=0xDEAD, src=Endpoint(UE, 0), dst=Endpoint(PCSCF, 0), alg="", ealg="", packets=1))
    script.extra.append(esp(UE, PCSCF, 0xDEAD, 1, 5.0))


def chosen(alg: str, ealg: str) -> Spoil:
    """A packet has proved which algorithms are used in the first set."""

    def spoil(script: Script) -> None:
        script.until("received")
        sas = tuple(Sa(spi, src, dst, alg, ealg, bytes(16), bytes(16)) for spi, src, dst in FIRST.flows)
        script.views.append(SaSetView(ue=UE, pcscf=PCSCF, rand=RANDS[0], impi="", sas=[], keyed=sas))

    return spoil


def silence(seconds: float) -> Spoil:
    """The UE speaks ESP into the void."""

    def spoil(script: Script) -> None:
        script.until("challenge")
        for number in range(3):
            script.extra.append(esp(UE, PCSCF, FIRST.spi_ps, number + 1, 0.3 + number, (90 + number,)))
        script.extra.append(esp("203.0.113.1", "203.0.113.2", 999, 1, 0.3 + seconds, (99,)))

    return spoil


def padding(error: Exception) -> Spoil:
    """A packet whose trailer is damaged though its ICV is right."""
    return lambda script: script.extra.append(malformed(error, UE, PCSCF, 5.0, 9999))


def bare(script: Script) -> None:
    """The same with the ESP taken away."""
    for step in script.steps.values():
        step.spi = None
    script.with_esp = False


CASES = [
    Case(
        "ESP-01",
        packet("message", icv=Icv.BAD),
        "message",
        "1 of 6 packets do not verify",
        role=NOBODY,
        level=Level.WARNING,
    ),
    Case("ESP-01", all_bad, "answer", "no packet verifies", role=NOBODY, level=Level.WARNING),
    Case("ESP-02", packet("message", replayed=True), "message", "1 replayed packets", role=NOBODY, level=Level.NOTE),
    Case("ESP-03", stranger, "extra", "SPI 57005 = 0x0000dead from 192.0.2.10", role=NOBODY, level=Level.NOTE),
    Case(
        "ESP-04",
        lambda s: [
            packet(name, sequence=s.frame(name) + 5)(s) for name, step in s.steps.items() if step.spi == FIRST.spi_us
        ],
        "subscribed",
        "the lowest sequence number is 11",
        role=NOBODY,
        level=Level.NOTE,
    ),
    Case("DRP-12", packet("sent", sequence=0), "sent", "sequence number 0", role=P),
    Case("DRP-12", packet("message", sequence=0), "message", "sequence number 0"),
    Case("ALG-18", packet("sent", next_header=59), "sent", "dummy packets", role=P),
    Case("ALG-18", padding(PaddingError("padding other than 1, 2, 3 …")), "extra", "padding other than"),
    Case("SPI-05", packet("message", next_header=4), "message", "tunnel mode"),
    Case(
        "DRP-08", packet("message", inner_src_port=31777), "message", "31777 to 6100 inside, agreed were 31001 to 6100"
    ),
    Case("SEC-06", chosen("hmac-sha-1-96", "null"), "answer", "null is used; the first", evidence=("challenge",)),
    Case("ESP-05", silence(9), "extra", "nothing comes back within 9 s", role=NOBODY, level=Level.WARNING),
    Case("ESP-06", bare, "challenge", "no ESP at all", role=NOBODY, level=Level.NOTE, evidence=("rechallenge",)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "esp")


def test_the_first_combination_listed_is_right() -> None:
    sound(chosen("hmac-sha-1-96", "aes-cbc"))


def test_silence_at_the_end_of_a_capture_is_none() -> None:
    sound(silence(3))


def test_whoever_answers_breaks_the_silence() -> None:
    def answered(script: Script) -> None:
        silence(9)(script)
        script.extra.append(esp(PCSCF, UE, FIRST.spi_uc, 1, 0.5, (95,)))

    sound(answered)


def test_other_damage_is_no_matter_of_padding() -> None:
    sound(padding(IcvError("wrong ICV")))


def test_a_finding_does_not_name_packets_without_end() -> None:
    script = sane()
    script.until("received")
    for number in range(100):
        record = esp(UE, PCSCF, FIRST.spi_ps, 100 + number, 30.0 + number, (200 + number,))
        record.icv = Icv.BAD
        script.extra.append(record)
    found = findings(script)
    assert [each.rule for each in found] == ["ESP-01"]
    assert "100 of" in found[0].text
    assert len(found[0].records) <= 16


def test_an_spi_belongs_to_the_newest_agreement() -> None:
    # the second set is seen under the SPIs of its own challenge
    script = sane()
    script["later"].go_through(FIRST, 0, UDP)
    script["later"].message.set("Security-Verify", FIRST.server)
    assert findings(script) == []


def test_a_reused_spi_is_told_apart_by_its_ports() -> None:
    # the P-CSCF gives its new set the SPI of the old one; the UE's packets in the old one are no misfit
    script = sane()
    script.until("rechallenge")
    script["rechallenge"].edit("Security-Server", "0000022002", "0000021002")
    script.add("still", 1801.0, FIRST.flows[0], script["message"].message.copy())
    script["still"].edit("Via", "MESSAGE-1", "MESSAGE-9")
    script["still"].edit("Call-ID", "MESSAGE-1", "MESSAGE-9")
    assert {each.rule for each in findings(script)} == {"CHL-17"}
