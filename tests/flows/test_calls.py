"""Calls between two registered UEs: INVITE, ACK, BYE, CANCEL through both security associations, signalling only."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.roles.ue import Ue
from imslab.trace.model import Hop, Icv, Role, SipRecord
from imslab.trace.trace import Trace, method_of, status_of
from tests.flows.labs import FIRST, SECOND, Play, lines, on_gm, play

WAYS = [{"ip": ip, "ue__transport": transport} for ip in (4, 6) for transport in ("udp", "tcp", "auto")]


def ready(**settings: Any) -> Play:
    """Two UEs, registered; from here on only the call is on the wire."""
    here = play(**settings)
    here.register()
    return here


def call_of(here: Play) -> list[SipRecord]:
    """The messages of the only call, in order."""
    trace = here.trace
    (invite, *_) = trace.sip(method="INVITE", request=True)
    return [r for r in trace.sip(call_id=invite.message.call_id) if not trace.is_retransmission(r)]


def words(here: Play, ue: Ue) -> list[str]:
    """What of the call one UE sent (>) and was sent (<)."""
    host = ue.config.host
    told = []
    for record in call_of(here):
        if record.hop is not Hop.GM or host not in (record.src.host, record.dst.host):
            continue
        status = status_of(record)
        name = method_of(record) if status is None else f"{status} {method_of(record)}"
        told.append(f"{'>' if record.src.host == host else '<'} {name}")
    return told


def assert_inside(here: Play) -> None:
    """33.203 7.1: all of it in ESP on Gm, over UDP from port_uc to port_ps and from port_pc to port_us."""
    trace = here.trace
    for record in call_of(here):
        if record.hop is not Hop.GM:
            continue
        agreed = trace.set_of(record)
        assert agreed is not None
        if record.transport == "udp":
            sa = agreed.sas[0 if record.sender is Role.UE else 2]
            assert (record.src, record.dst) == (sa.src, sa.dst)
    assert {record.icv for record in trace.esp_records} == {Icv.OK}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"IPv{way['ip']}-{way['ue__transport']}")
@pytest.mark.parametrize("caller_hangs_up", [True, False])
def test_a_call(way: dict[str, Any], caller_hangs_up: bool) -> None:
    here = ready(**way)
    assert here.ask(here.ue, "call", "call-active", where=here.other, to=SECOND)
    here.run(5)
    ends, hears = (here.ue, here.other) if caller_hangs_up else (here.other, here.ue)
    assert here.ask(ends, "hangup", "call-ended")
    assert "call-ended" in here.told(hears)
    begin = ["> INVITE", "< 100 INVITE", "< 180 INVITE", "< 200 INVITE", "> ACK"]
    begin_there = [("<" if each[0] == ">" else ">") + each[1:] for each in begin if "100" not in each]
    bye, bye_there = ["> BYE", "< 200 BYE"], ["< BYE", "> 200 BYE"]
    assert words(here, here.ue) == begin + (bye if caller_hangs_up else bye_there)
    assert [each for each in words(here, here.other) if "100" not in each] == begin_there + (
        bye_there if caller_hangs_up else bye
    )
    assert_inside(here)
    assert [finding for finding in here.findings if finding.rule != "TRN-02"] == []


def test_the_path_of_a_dialog() -> None:
    """24.229 5.2.6, 5.4.3: the P-CSCF and the S-CSCF stay in the path by Record-Route; the I-CSCF does not."""
    here = ready()
    assert here.ask(here.ue, "call", "call-active", where=here.other, to=SECOND)
    assert here.ask(here.ue, "hangup", "call-ended")
    here.run(1)
    shown = [line for line in lines(here.trace) if "INVITE" in line or "ACK" in line or "BYE" in line]
    assert [line for line in shown if "00 " not in line and "180" not in line] == [
        "Gm UE>P-CSCF INVITE esp",
        "Mw P-CSCF>S-CSCF INVITE",
        "Mw S-CSCF>I-CSCF INVITE",
        "Mw I-CSCF>S-CSCF INVITE",
        "Mw S-CSCF>P-CSCF INVITE",
        "Gm P-CSCF>UE INVITE esp",
        "Gm UE>P-CSCF ACK esp",
        "Mw P-CSCF>S-CSCF ACK",
        "Mw S-CSCF>P-CSCF ACK",
        "Gm P-CSCF>UE ACK esp",
        "Gm UE>P-CSCF BYE esp",
        "Mw P-CSCF>S-CSCF BYE",
        "Mw S-CSCF>P-CSCF BYE",
        "Gm P-CSCF>UE BYE esp",
    ]
    # who calls is asserted by the network, and the callee sees it
    (rung,) = [r for r in on_gm(here.trace, here.other) if method_of(r) == "INVITE" and r.message.is_request]
    assert [str(each.uri) for each in rung.message.p_asserted_identity] == [FIRST]
    # 24.229 5.2.6.4: the UE sees the P-CSCF at its protected port
    assert rung.message.via[0].port == rung.message.record_route[0].uri.port == 6101


class TestCancel:
    def test_while_it_rings(self) -> None:
        here = ready()
        here.other.config.answer_calls = False
        assert here.ask(here.ue, "call", "call-ringing", to=SECOND)
        assert here.ask(here.ue, "cancel", "call-ended")
        told = words(here, here.ue)
        assert told[:3] == ["> INVITE", "< 100 INVITE", "< 180 INVITE"]
        assert sorted(told[3:]) == ["< 200 CANCEL", "< 487 INVITE", "> ACK", "> CANCEL"]
        assert told[3] == "> CANCEL"
        assert told.index("< 487 INVITE") < told.index("> ACK")
        there = [each for each in words(here, here.other) if "100" not in each]
        assert sorted(there[2:]) == ["< ACK", "< CANCEL", "> 200 CANCEL", "> 487 INVITE"]
        assert_inside(here)
        assert here.findings == []

    def test_before_anybody_has_answered(self) -> None:
        """RFC 3261 9.1: not before a provisional answer; then at once."""
        here = ready()
        here.net.command(here.ue, "call", to=SECOND)
        here.net.command(here.ue, "cancel")
        here.run(5)
        assert words(here, here.ue)[:3] == ["> INVITE", "< 100 INVITE", "> CANCEL"]
        assert "call-ended" in here.told(here.ue)
        assert "call-active" not in here.told(here.other)
        assert here.findings == []

    def test_that_crosses_the_answer(self) -> None:
        """The 200 that comes all the same is acknowledged, and the call ended by BYE."""
        here = ready()
        here.other.config.ring_time = 1.0
        assert here.ask(here.ue, "call", "call-ringing", to=SECOND)
        here.net.run(here.net.now + 0.990)  # the CANCEL will meet the 200 on its way
        here.net.command(here.ue, "hangup")
        here.run(10)
        told = words(here, here.ue)
        assert "> CANCEL" in told
        assert "< 200 INVITE" in told
        assert told.index("< 200 INVITE") < told.index("> ACK") < told.index("> BYE")
        assert "call-ended" in here.told(here.other)
        assert here.findings == []


class TestFailure:
    def test_nobody_answers(self) -> None:
        """RFC 3261 13.3.1.4: three minutes of ringing are enough."""
        here = ready()
        here.other.config.answer_calls = False
        assert here.ask(here.ue, "call", "call-failed", to=SECOND, within=200)
        assert "< 480 INVITE" in words(here, here.ue)
        assert here.findings == []

    def test_nobody_is_there(self) -> None:
        here = ready()
        assert here.ask(here.other, "deregister", "deregistered")
        assert here.ask(here.ue, "call", "call-failed", to=SECOND)
        assert words(here, here.ue) == ["> INVITE", "< 100 INVITE", "< 480 INVITE", "> ACK"]
        assert here.findings == []

    def test_calls_end_before_the_registration(self) -> None:
        """24.229 5.1.1.6.1: who de-registers hangs up first."""
        here = ready()
        assert here.ask(here.ue, "call", "call-active", where=here.other, to=SECOND)
        assert here.ask(here.ue, "deregister", "deregistered")
        trace = here.trace
        (bye,) = trace.sip(method="BYE", request=True, sender=Role.UE)
        leaving = trace.registrations[-1].requests[0]
        assert trace.final_response(bye) is not None
        assert bye.time < leaving.time
        assert here.findings == []

    def test_a_call_over_a_change_of_sas(self) -> None:
        """33.203 7.4.1a: the dialog lives on the new set; what was under way on the old one ends there."""
        here = ready()
        here.other.config.ring_time = 5.0
        here.net.command(here.ue, "call", to=SECOND)
        here.run(1)
        assert here.ask(here.ue, "reregister", "sas-switched")
        assert here.heard("call-active", here.other)
        assert here.ask(here.ue, "hangup", "call-ended")
        trace: Trace = here.trace
        (bye,) = trace.sip(method="BYE", request=True, sender=Role.UE)
        assert trace.set_of(bye) is trace.registrations[-1].agreed
        assert_inside(here)
        assert here.findings == []
