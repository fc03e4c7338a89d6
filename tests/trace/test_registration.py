"""What a registration was, and whether its proofs are right."""

from __future__ import annotations

import json

import pytest

from imslab.aka.milenage import Milenage
from imslab.aka.vector import make_auts
from imslab.core.flow import Endpoint
from imslab.diameter.avp import Avp
from imslab.trace.keys import KeyRing
from imslab.trace.model import NodeRecord, Role
from imslab.trace.registration import Autn, Outcome, Response, verdict
from imslab.trace.registration import Registration as Found
from imslab.trace.trace import Trace
from tests.trace.wire import (
    HSS,
    ICSCF,
    IMPI,
    IMPU,
    OPC,
    PCSCF,
    REALM,
    SCSCF,
    UE,
    K,
    Registration,
    Wire,
    cx,
    maa,
    request,
    response,
)


def _only(flow: Registration, keys: KeyRing | None = None) -> Found:
    (found,) = flow.wire.trace(flow.key_ring() if keys is None else keys).registrations
    return found


def test_it_succeeded() -> None:
    flow = Registration(Wire()).whole()
    found = _only(flow)
    assert (found.impi, found.impu, found.ue) == (IMPI, IMPU, UE)
    assert (found.outcome, found.autn, found.response) == (Outcome.REGISTERED, Autn.OK, Response.OK)
    assert (found.algorithm, found.qop) == ("AKAv1-MD5", "auth")
    assert found.succeeded
    assert len(found.requests) == 2
    assert found.final is found.finals[-1]
    assert [record.frames for record in found.challenges] == [(4,)]
    assert [(sa.spi, sa.src, sa.dst) for sa in found.sas] == [(sa.spi, sa.src, sa.dst) for sa in flow.sas]
    assert verdict(flow.wire.trace(flow.key_ring())) == "pass"


@pytest.mark.parametrize("qop", ["auth", "auth-int", ""])
def test_every_qop_is_recomputed(qop: str) -> None:
    flow = Registration(Wire())
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    flow.second(qop=qop)
    flow.final()
    assert _only(flow).response is Response.OK


def test_xres_of_the_maa_will_do_and_without_anything_nothing_is_said() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.wire.tcp(HSS, Endpoint(SCSCF.host, 4), maa(flow.vector))
    flow.unauthorized()
    flow.second()
    flow.final()
    found = _only(flow, KeyRing())
    assert (found.autn, found.response) == (Autn.UNKNOWN_KEY, Response.OK)
    flow = Registration(Wire()).whole()
    found = _only(flow, KeyRing())
    assert (found.autn, found.response) == (Autn.UNKNOWN_KEY, Response.UNKNOWN_KEY)


def test_a_wrong_response() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    flow.second(res=b"wrong RES")
    flow.final(403, "Forbidden")
    found = _only(flow)
    assert (found.outcome, found.autn, found.response) == (Outcome.REJECTED, Autn.OK, Response.MISMATCH)
    assert verdict(flow.wire.trace(flow.key_ring())) == "fail"


def test_a_network_with_another_key() -> None:
    flow = Registration(Wire()).whole()
    keys = KeyRing()
    keys.add_milenage(bytes(16), opc=OPC)
    found = _only(flow, keys)
    assert (found.autn, found.response) == (Autn.MAC_FAILURE, Response.MISMATCH)
    assert found.outcome is Outcome.REGISTERED
    assert verdict(flow.wire.trace(keys)) == "fail"


def _failure_report(flow: Registration, text: str) -> None:
    flow.cseq += 1
    flow.wire.udp(UE, PCSCF, request("REGISTER", text, call=flow.call, cseq=flow.cseq))


def test_a_ue_that_says_mac_failure() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    nonce = flow.vector.nonce
    _failure_report(
        flow,
        f'Authorization: Digest username="{IMPI}",realm="{REALM}",nonce="{nonce}",uri="sip:{REALM}",response=""',
    )
    flow.wire.udp(PCSCF, UE, response(403, "Forbidden", "REGISTER", call=flow.call, cseq=flow.cseq))
    found = _only(flow, KeyRing())
    assert (found.outcome, found.autn, found.response) == (Outcome.REJECTED, Autn.MAC_FAILURE, Response.ABSENT)
    assert len(found.requests) == 2
    assert _only(flow).autn is Autn.OK  # our key says otherwise: the card has another


def test_a_resynchronisation_and_what_comes_after() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    flow.cseq += 1
    auts = make_auts(Milenage(K, OPC), flow.vector.rand, 4096)
    wire.udp(UE, PCSCF, request("REGISTER", flow.authorization(res=b"", auts=auts), cseq=flow.cseq))
    found = _only(flow)
    assert (found.outcome, found.autn, found.response) == (Outcome.NO_ANSWER, Autn.SQN_FAILURE, Response.OK)
    again = Registration(wire, sqn=5000)
    again.cseq = flow.cseq
    again.unauthorized()
    again.second()
    again.final()
    found = _only(again)
    assert (found.outcome, found.autn, found.response) == (Outcome.REGISTERED, Autn.OK, Response.OK)
    assert len(found.requests) == 3
    assert found.agreed is not None
    assert found.agreed.rand == again.vector.rand


def test_no_answer_at_all() -> None:
    flow = Registration(Wire())
    number = flow.first()
    flow.wire.again(number, after=0.5)
    found = _only(flow)
    assert (found.outcome, found.autn, found.response) == (Outcome.NO_ANSWER, Autn.UNKNOWN_KEY, Response.ABSENT)
    assert (len(found.requests), found.final, found.sas) == (1, None, [])
    assert verdict(flow.wire.trace()) == "fail"


def test_a_challenge_that_nobody_answers() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    found = _only(flow)
    assert (found.outcome, found.autn, found.response) == (
        Outcome.CHALLENGE_UNANSWERED,
        Autn.OK,
        Response.ABSENT,
    )
    assert [sa.packets for sa in found.sas] == [0, 0, 0, 0]
    assert verdict(flow.wire.trace()) == "inconclusive", "the trace ends before the UE can have answered"
    later = NodeRecord(time=flow.wire.trace().records[-1].time + 10, node="x", role=Role.UNKNOWN, kind="x", text="x")
    assert verdict(Trace([*flow.wire.trace().records, later])) == "fail"


def test_what_may_have_gone_on_in_closed_esp_is_inconclusive() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.unauthorized()
    flow.second()
    flow.final()
    assert _only(flow, KeyRing()).outcome is Outcome.CHALLENGE_UNANSWERED
    assert verdict(flow.wire.trace()) == "inconclusive"
    assert verdict(flow.wire.trace(flow.key_ring())) == "pass"
    assert verdict(Wire().trace()) == "inconclusive"


def test_a_bad_icv_fails() -> None:
    flow = Registration(Wire()).whole()
    packet = flow.wire.packets[-1]
    flow.wire.packets.append(packet._replace(number=99, octets=packet.octets[:-1] + b"\0", time=packet.time + 1))
    assert verdict(flow.wire.trace(flow.key_ring())) == "fail"


def test_registering_again_and_leaving_are_registrations_of_their_own() -> None:
    flow = Registration(Wire()).whole()
    for expires in (600, 0):
        flow.second(expires=expires)
        flow.final()
    found = flow.wire.trace(flow.key_ring()).registrations
    assert [each.outcome for each in found] == [Outcome.REGISTERED, Outcome.REGISTERED, Outcome.DEREGISTERED]
    assert found[1].sas == found[0].sas  # carried in the set of before
    assert all(each.response is Response.OK for each in found)


@pytest.mark.parametrize(
    ("headers", "leaves"),
    [
        (["Contact: *", "Expires: 0"], True),
        (["Contact: <sip:a@b>", "Expires: 0"], True),
        (["Contact: <sip:a@b>;expires=0, <sip:c@d>;expires=0"], True),
        (["Contact: <sip:a@b>;expires=0, <sip:c@d>;expires=60"], False),
        (["Contact: <sip:a@b>;expires=60", "Expires: 0"], False),
        (["Contact: <sip:a@b>"], False),
        (["Expires: 0"], False),
        (["Contact: <sip:a@b>;expires=0", "Expires: never"], False),
    ],
)
def test_who_leaves(headers: list[str], leaves: bool) -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", *headers))
    wire.udp(PCSCF, UE, response(200, "OK", "REGISTER"))
    (found,) = wire.trace().registrations
    assert found.outcome is (Outcome.DEREGISTERED if leaves else Outcome.REGISTERED)


def test_a_fresh_attempt_on_the_same_call_is_another_registration() -> None:
    wire = Wire()
    for cseq in (1, 2):
        flow = Registration(wire, sqn=32 * cseq)
        flow.cseq = cseq
        flow.first()
        flow.unauthorized()
    found = wire.trace().registrations
    assert [each.outcome for each in found] == [Outcome.CHALLENGE_UNANSWERED] * 2


@pytest.mark.parametrize("wait", [40.0, 4.0])
def test_a_request_that_was_challenged_twice(wait: float) -> None:
    """The first 401 is lost; whoever has forgotten it sends another one. The answer names that one."""
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", 'Authorization: Digest nonce="",response=""'))
    for number in (1, 2):
        challenge = f'WWW-Authenticate: Digest realm="{REALM}",nonce="n{number}",algorithm=MD5'
        wire.udp(PCSCF, UE, response(401, "Unauthorized", "REGISTER", challenge))
        wire.now += wait
    wire.udp(UE, PCSCF, request("REGISTER", 'Authorization: Digest nonce="n2",response="r"', cseq=2))
    wire.udp(PCSCF, UE, response(200, "OK", "REGISTER", cseq=2))
    trace = wire.trace()
    (found,) = trace.registrations
    assert (len(found.requests), found.outcome) == (2, Outcome.REGISTERED)
    assert [each.message.www_authenticate[0].nonce for each in found.challenges] == ["n2"]
    # a server that still knows its first answer should have sent that one again
    assert trace.is_retransmission(trace.sip(status=401)[1]) is (wait < 32)


def test_interval_too_brief_goes_on() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER"))
    wire.udp(PCSCF, UE, response(423, "Interval Too Brief", "REGISTER", "Min-Expires: 600"))
    wire.udp(UE, PCSCF, request("REGISTER", cseq=2))
    wire.udp(PCSCF, UE, response(200, "OK", "REGISTER", cseq=2))
    (found,) = wire.trace().registrations
    assert (len(found.requests), found.outcome) == (2, Outcome.REGISTERED)


def test_plain_digest_is_told_but_not_judged() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER"))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", 'WWW-Authenticate: Digest realm="r",nonce="n"'))
    wire.udp(
        UE,
        PCSCF,
        request("REGISTER", 'Authorization: Digest username="u",realm="r",nonce="n",uri="sip:r",response="00"', cseq=2),
    )
    wire.udp(PCSCF, UE, response(200, "OK", "REGISTER", cseq=2))
    (found,) = wire.trace().registrations
    assert (found.impi, found.algorithm) == ("u", "MD5")
    assert (found.autn, found.response) == (Autn.UNKNOWN_KEY, Response.UNKNOWN_KEY)


def test_credentials_that_cannot_be_recomputed_are_a_mismatch() -> None:
    flow = Registration(Wire())
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    flow.cseq += 1
    text = flow.authorization().replace("qop=auth", "qop=nonsense")
    flow.wire.udp(UE, PCSCF, request("REGISTER", text, cseq=flow.cseq))
    assert _only(flow).response is Response.MISMATCH


def test_what_cannot_be_read_is_no_reason_to_stop() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", "Authorization: Digest ???"))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", "WWW-Authenticate: ???"))
    wire.udp(UE, PCSCF, request("REGISTER", 'Authorization: Digest nonce="a", nonce="b", response="c"', cseq=2))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", "WWW-Authenticate: Digest algorithm=AKAv1-MD5", cseq=2))
    wire.udp(UE, PCSCF, request("REGISTER", cseq=3))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", 'WWW-Authenticate: Digest a=AKAv1-MD5,nonce="AA"', cseq=3))
    assert len(wire.trace().registrations) == 2


def test_seen_on_mw_only() -> None:
    flow = Registration(Wire())
    flow.core_challenge()
    found = _only(flow)
    assert (found.outcome, found.autn, found.ue) == (Outcome.CHALLENGE_UNANSWERED, Autn.OK, PCSCF)


def test_steps_and_records_of_all_hops_and_cx() -> None:
    wire = Wire()
    flow = Registration(wire)
    user = [Avp(1, 0, 0x40, IMPI.encode()), Avp(601, 10415, 0xC0, IMPU.encode())]
    i, s = Endpoint(ICSCF.host, 40000), Endpoint(SCSCF.host, 40001)
    wire.tcp(s, HSS, cx(303, *user))  # before the registration
    flow.first()
    wire.udp(PCSCF, ICSCF, request("REGISTER", vias=2))
    wire.tcp(i, HSS, cx(300, *user))
    wire.tcp(HSS, i, cx(300, Avp(268, 0, 0x40, (2001).to_bytes(4, "big")), request=False))
    wire.tcp(s, HSS, cx(303, Avp(1, 0, 0x40, b"someone@else"), hop_by_hop=3))
    experimental = Avp.grouped(297, [Avp(266, 0, 0x40, bytes(4)), Avp(298, 0, 0x40, (5001).to_bytes(4, "big"))])
    wire.tcp(s, HSS, cx(301, *user, hop_by_hop=8))
    wire.tcp(HSS, s, cx(301, experimental, request=False, hop_by_hop=8))
    flow.unauthorized()
    flow.second()
    wire.again(1, after=0.001)
    found = _only(flow)
    assert [(step.frame, step.source, step.target, step.summary) for step in found.steps] == [
        (2, "UE", "P-CSCF", "REGISTER"),
        (3, "P-CSCF", "I-CSCF", "REGISTER"),
        (4, "I-CSCF", "HSS", "UAR"),
        (5, "HSS", "I-CSCF", "UAA 2001"),
        (7, "S-CSCF", "HSS", "SAR"),
        (8, "HSS", "S-CSCF", "SAA 5001"),
        (9, "P-CSCF", "UE", "401 Unauthorized"),
        (10, "UE", "P-CSCF", "REGISTER (ESP 0xfba9ff8e)"),
    ]
    assert len(found.records) == len(found.steps)


def test_json_has_the_names_that_scripts_rely_on_and_no_keys() -> None:
    flow = Registration(Wire()).whole()
    shown = _only(flow).as_json()
    assert {"impi", "impu", "outcome", "algorithm", "autn", "response", "sa", "steps"} <= shown.keys()
    assert shown["sa"][0] == {
        "spi": 4222222222,
        "src": UE.host,
        "sport": 6001,
        "dst": PCSCF.host,
        "dport": 7002,
        "alg": "hmac-sha-1-96",
        "ealg": "aes-cbc",
        "packets": 1,
        "icv_ok": 1,
        "icv_bad": 0,
        "replayed": 0,
    }
    assert {"frame", "from", "to", "summary"} <= shown["steps"][0].keys()
    text = json.dumps(shown)
    for secret in (flow.vector.ck, flow.vector.ik, flow.vector.xres, K, OPC):
        assert secret.hex() not in text


def test_many_registrations_take_time_in_proportion() -> None:
    wire = Wire()
    for number in range(300):
        Registration(wire, "hmac-md5-96", "null", call=f"call-{number}", sqn=32 + number).whole()
    trace = wire.trace()
    assert len(trace.registrations) == 300
    assert {each.outcome for each in trace.registrations} == {Outcome.REGISTERED}
