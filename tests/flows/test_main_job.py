"""The main job from end to end: what `imslab run` plays, over every algorithm, transport and IP version."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.config import load
from imslab.core.flow import Transport
from imslab.lab import Lab
from imslab.report.summary import summarise
from imslab.rules.judge import judge
from imslab.trace.model import Hop, Icv, Role, SipRecord
from imslab.trace.registration import Autn, Outcome, Response
from imslab.trace.trace import method_of, status_of
from tests.flows.labs import CBC_AND_NULL, COMBINED, FIRST, SECOND, Job, first, job, lines, on_gm

STEPS = [
    "register",
    "register the others",
    "message to",
    "message from",
    "re-register",
    "de-register",
    "de-register the others",
]

OUTDATED = [(alg, ealg) for alg, ealg in CBC_AND_NULL if alg == "hmac-md5-96" or ealg == "des-ede3-cbc"]

WAYS: list[dict[str, Any]] = [
    {"ip": ip, "ue__transport": transport} for ip in (4, 6) for transport in ("udp", "tcp", "auto")
]


def assert_sane(done: Job, but: frozenset[str] = frozenset()) -> None:
    """Every step came about, all that can be checked is right, and no rule has anything to say.

    but: what the settings ask for against a rule.
    """
    assert [(each.step, each.ok) for each in done.results] == [(step, True) for step in STEPS]
    document = summarise(done.trace, done.findings)
    assert document["verdict"] == "pass"
    assert [finding for finding in document["findings"] if finding["rule"] not in but] == []
    assert {finding["rule"] for finding in document["findings"]} == but
    assert done.trace.problems == []
    assert done.trace.malformed_records == []
    first, second, renewed, left, left_too = done.trace.registrations
    for each in (first, second, renewed):
        assert (each.outcome, each.autn, each.response) == (Outcome.REGISTERED, Autn.OK, Response.OK)
        assert len(each.sas) == 4
    assert (left.outcome, left_too.outcome) == (Outcome.DEREGISTERED, Outcome.DEREGISTERED)
    assert [each.impu for each in done.trace.registrations] == [FIRST, SECOND, FIRST, FIRST, SECOND]
    esp = done.trace.esp_records
    assert len(esp) > 30
    assert {(record.icv, record.replayed) for record in esp} == {(Icv.OK, False)}


@pytest.mark.parametrize(("alg", "ealg"), CBC_AND_NULL + COMBINED)
def test_every_combination_of_annex_h(alg: str, ealg: str) -> None:
    done = job(**first(alg, ealg))
    # 33.203 Annex H of later releases has MD5 and 3DES no more
    assert_sane(done, frozenset({"ALG-20"}) if (alg, ealg) in OUTDATED else frozenset())
    assert {(sa.alg, sa.ealg) for sa in done.trace.sas} == {(alg, ealg)}
    assert len(done.trace.sas) == 12


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"IPv{way['ip']}-{way['ue__transport']}")
def test_every_transport_and_ip_version(way: dict[str, Any]) -> None:
    done = job(**way)
    # whoever asks for UDP alone asks for large requests over UDP, which RFC 3261 18.1.1 does not want
    assert_sane(done, but=frozenset({"TRN-02"}) if way["ue__transport"] == "udp" else frozenset())
    hosts = {record.src.host for record in done.trace.sip_records}
    assert {":" in host for host in hosts} == {way["ip"] == 6}
    asked = done.trace.sip(hop=Hop.GM, sender=Role.UE, request=True)
    registers = {record.transport for record in asked if method_of(record) == "REGISTER"}
    messages = {record.transport for record in asked if method_of(record) == "MESSAGE"}
    if way["ue__transport"] == "udp":
        assert registers | messages == {Transport.UDP}
    elif way["ue__transport"] == "tcp":
        assert registers | messages == {Transport.TCP}
    else:
        # RFC 3261 18.1.1: what is larger than 1300 octets goes over TCP, the rest over UDP
        for record in asked:
            size = len(record.message.octets or b"")
            assert (record.transport is Transport.TCP) == (size > 1300), (record.message.method, size)
        assert messages == {Transport.UDP}
        assert registers == {Transport.UDP, Transport.TCP}  # the first one is short


def test_a_registration_message_by_message() -> None:
    """The order of the whole, SAs between the messages: 24.229 5.1.1, 5.2.2, 5.3.1, 5.4.1; 29.228 6.1, 6.3."""
    shown = lines(job().trace, ["install-sas", "update-sas"])
    assert shown[: shown.index("Gm P-CSCF>UE 200 REGISTER esp") + 1] == [
        "Gm UE>P-CSCF REGISTER",
        "Mw P-CSCF>I-CSCF REGISTER",
        "Cx UAR",
        "Cx UAA",
        "Mw I-CSCF>S-CSCF REGISTER",
        "Cx MAR",
        "Cx MAA",
        "Mw S-CSCF>I-CSCF 401 REGISTER",
        "Mw I-CSCF>P-CSCF 401 REGISTER",
        "P-CSCF: install-sas",
        "Gm P-CSCF>UE 401 REGISTER",
        "UE: install-sas",
        "Gm UE>P-CSCF REGISTER esp",
        "Mw P-CSCF>I-CSCF REGISTER",
        "Cx UAR",
        "Cx UAA",
        "Mw I-CSCF>S-CSCF REGISTER",
        "Cx SAR",
        "Cx SAA",
        "Mw S-CSCF>I-CSCF 200 REGISTER",
        "Mw I-CSCF>P-CSCF 200 REGISTER",
        "P-CSCF: update-sas",
        "Gm P-CSCF>UE 200 REGISTER esp",
    ]


def test_subscriptions_follow_of_the_ue_and_of_the_pcscf() -> None:
    trace = job().trace
    asked = [record for record in trace.sip(method="SUBSCRIBE", request=True) if record.hop is Hop.GM]
    assert [(record.sender, record.message.get("Event")) for record in asked] == [(Role.UE, "reg")] * 2
    # 24.229 5.2.3: the P-CSCF asks for itself; what it passes on has the UE in From
    entered = trace.sip(method="SUBSCRIBE", request=True, sender=Role.PCSCF)
    own = [record for record in entered if FIRST not in (record.message.get("From") or "")]
    own = [record for record in own if SECOND not in (record.message.get("From") or "")]
    assert len(own) == 2
    assert all((record.message.get("P-Asserted-Identity") or "").startswith("<sip:198.51.100.1") for record in own)
    for record in asked + own:
        final = trace.final_response(record)
        assert final is not None
        assert status_of(final) == 200
    # every NOTIFY is answered 200, and the first of each dialog says who is active
    notified = trace.sip(method="NOTIFY", request=True)
    assert {status_of(final) if (final := trace.final_response(record)) else None for record in notified} == {200}
    for record in asked + own:
        calls = trace.sip(call_id=record.message.call_id, method="NOTIFY", request=True)
        assert b'state="active"' in calls[0].message.body
        assert b'state="full"' in calls[0].message.body


def test_messages_both_ways_through_both_sa_directions() -> None:
    """33.203 7.1: what the UE sends goes from port_uc to port_ps, what it is sent from port_pc to port_us."""
    done = job()
    trace = done.trace
    for ue, partner in ((done.ue, done.other), (done.other, done.ue)):
        texts = {done.ue: b"hello", done.other: b"hello yourself"}
        (sent,) = [
            record
            for record in on_gm(trace, ue)
            if method_of(record) == "MESSAGE" and record.sender is Role.UE and record.message.is_request
        ]
        (got,) = [
            record
            for record in on_gm(trace, partner)
            if method_of(record) == "MESSAGE" and record.sender is Role.PCSCF and record.message.is_request
        ]
        for record, index in ((sent, 0), (got, 2)):
            agreed = trace.set_of(record)
            assert agreed is not None
            sa = agreed.sas[index]
            assert record.spi == sa.spi
            assert (record.src, record.dst) == (sa.src, sa.dst)
            assert record.message.body == texts[ue]
        answers = [trace.final_response(record) for record in (sent, got)]
        assert [status_of(answer) for answer in answers if answer is not None] == [200, 200]
        # over UDP an answer goes the way of the next request, not back (33.203 7.1)
        for record, answer, index in ((sent, answers[0], 2), (got, answers[1], 0)):
            assert answer is not None
            agreed = trace.set_of(answer)
            assert agreed is not None
            assert agreed is trace.set_of(record)
            assert (answer.src, answer.dst) == (agreed.sas[index].src, agreed.sas[index].dst)


def test_re_registration_switches_to_a_new_set() -> None:
    done = job()
    trace = done.trace
    first, _, renewed, left, _ = trace.registrations
    assert first.agreed is not None
    assert renewed.agreed is not None
    old, new = first.agreed.sas, renewed.agreed.sas
    # 33.203 7.4.0: new SPIs, new client ports, the same server ports
    assert not {sa.spi for sa in old} & {sa.spi for sa in new}
    assert old[0].dst.port == new[0].dst.port
    assert old[2].dst.port == new[2].dst.port
    assert old[0].src.port != new[0].src.port
    assert old[2].src.port != new[2].src.port
    # its first REGISTER and the 401 are on the old set, its answer and the 200 on the new one (33.203 7.4)
    assert [trace.set_of(record) for record in renewed.requests] == [first.agreed, renewed.agreed]
    assert [trace.set_of(final) for final in renewed.finals if final] == [first.agreed, renewed.agreed]
    # what follows is on the new set alone
    assert [trace.set_of(record) for record in left.requests] == [renewed.agreed]
    after = [record for record in on_gm(trace, done.ue) if record.time >= left.requests[0].time]
    assert {trace.set_of(record) is renewed.agreed for record in after} == {True}


def test_a_deregistration_is_answered_inside_the_sas_and_then_they_go() -> None:
    """24.229 5.1.1.6.2, 5.2.5.1; and a quarter of an hour later nothing is left anywhere."""
    done = Job(Lab(load()))
    done.run(900)
    trace = done.lab.trace
    for left in trace.registrations[3:]:
        final = left.final
        assert final is not None
        assert status_of(final) == 200
        assert (final.message.contact[0].expires, left.requests[-1].message.expires) == (0, 0)
        agreed = trace.set_of(final)
        assert agreed is not None
        sent = trace.records.index(final)
        for role in (Role.UE, Role.PCSCF):
            number, node = next(
                (record.data["number"], record.node)
                for record in trace.node_records
                if record.kind == "install-sas"
                and record.role is role
                and record.data["sas"].sas[0].spi == agreed.sas[0].spi
            )
            (gone,) = [
                record
                for record in trace.node_records
                if record.kind == "remove-sas" and record.node == node and record.data["number"] == number
            ]
            assert trace.records.index(gone) > sent
    assert {host.name: host.sets for host in done.net.hosts.values() if host.sets} == {}
    assert [ue.registration for ue in done.lab.ues] == [None, None]
    assert done.lab.pcscf.contacts == {}
    for identity in (FIRST, SECOND):
        record = done.lab.store.load(identity)
        assert record is not None
        assert (record.server_name, record.is_served) == ("", False)
    assert judge(trace) == []


def test_clear_and_protected_are_what_they_should_be() -> None:
    """Before the 401 all is clear, after it all is in ESP, for every UE; on Mw and Cx nothing ever is."""
    done = job()
    for ue in done.lab.ues:
        heard: list[SipRecord] = on_gm(done.trace, ue)
        assert [record.spi is not None for record in heard] == [False, False] + [True] * (len(heard) - 2)
    assert {record.spi for record in done.trace.sip(hop=Hop.MW)} == {None}
