"""Each fault of the UE does what it says, and nothing of it is there without the fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imslab.core import effects as fx
from imslab.core.errors import LocalError
from imslab.core.flow import Flow, Transport
from imslab.roles.faults import FAULTS, Faults
from imslab.roles.ue_states import State
from imslab.sip.message import Request
from tests.roles.test_ue import bad_mac, challenge, say, silence, stale_sqn, without_server
from tests.roles.test_ue_calls import hold
from tests.roles.test_ue_subscription import ended
from tests.roles.test_ue_traffic import CLEAR_IN
from tests.roles.ue_lab import DOMAIN, IMPU, PORT_PS, UE_HOST, UeLab, offer_of

Check = Callable[[UeLab], bool]


def first(lab: UeLab) -> Request:
    return lab.sent("REGISTER")[0]


def second(lab: UeLab) -> Request:
    return lab.sent("REGISTER")[1]


def credentials(lab: UeLab) -> str:
    return second(lab).get("Authorization") or ""


def message(lab: UeLab) -> Request:
    lab.command("message", to="sip:bob@example.org", text="x" * 600)
    return lab.sent("MESSAGE")[-1]


def clear(lab: UeLab, index: int) -> bool:
    return lab.sends("REGISTER")[index].flow.remote.port == 5060


#: Faults that show in an ordinary registration: what is true with them and false without.
SEEN: dict[str, Check] = {
    "ue-access-info-in-clear": lambda lab: first(lab).has("P-Access-Network-Info"),
    "ue-answers-in-clear": lambda lab: clear(lab, 1),
    "ue-answers-under-new-call-id": lambda lab: first(lab).call_id != second(lab).call_id,
    "ue-changes-nonce": lambda lab: not (second(lab).authorization[0].nonce or "").endswith("="),
    "ue-changes-offer": lambda lab: first(lab).rows("Security-Client") != second(lab).rows("Security-Client"),
    "ue-changes-realm": lambda lab: DOMAIN.upper() in credentials(lab),
    "ue-changes-verify": lambda lab: len(second(lab).security_verify) == 1,
    "ue-claims-protection": lambda lab: "integrity-protected" in credentials(lab),
    "ue-claims-provided-access": lambda lab: second(lab).p_access_network_info[0].network_provided,
    "ue-clear-port-in-contact": lambda lab: second(lab).contact[0].uri.port == 5060,
    "ue-clear-port-in-via": lambda lab: second(lab).via[0].port == 5060,
    "ue-contact-elsewhere": lambda lab: first(lab).contact[0].uri.host != UE_HOST,
    "ue-count-without-qop": lambda lab: "nc=" in credentials(lab),
    "ue-cseq-stands": lambda lab: second(lab).cseq.number == 1,
    "ue-forges-charging": lambda lab: first(lab).p_visited_network_id == ["forged.example.org"],
    "ue-names-another": lambda lab: second(lab).authorization[0].username != first(lab).authorization[0].username,
    "ue-never-subscribes": lambda lab: not lab.sent("SUBSCRIBE"),
    "ue-no-access-info": lambda lab: not second(lab).has("P-Access-Network-Info"),
    "ue-no-cipher": lambda lab: {each.ealg for each in first(lab).security_client} == {"null"},
    "ue-no-credentials": lambda lab: not first(lab).has("Authorization"),
    "ue-no-instance": lambda lab: first(lab).contact[0].instance is None,
    "ue-no-path": lambda lab: not first(lab).supported,
    "ue-no-proxy-require": lambda lab: not first(lab).proxy_require,
    "ue-no-require": lambda lab: not first(lab).require,
    "ue-no-rport": lambda lab: "rport" not in first(lab).via[0].params,
    "ue-no-security-client": lambda lab: not first(lab).has("Security-Client"),
    "ue-no-second-offer": lambda lab: not second(lab).has("Security-Client"),
    "ue-no-verify": lambda lab: not second(lab).has("Security-Verify"),
    "ue-other-port-in-via": lambda lab: first(lab).via[0].port == 5062,
    "ue-port-5061": lambda lab: offer_of(first(lab)).get("port-c") == 5061,
    "ue-private-token": lambda lab: "hmac-sha-256-128" in (first(lab).get("Security-Client") or ""),
    "ue-requires-unknown": lambda lab: "levitation" in first(lab).require,
    "ue-reserved-spis": lambda lab: offer_of(first(lab)).get("spi-c", 999) < 256,
    "ue-route-in-register": lambda lab: first(lab).has("Route"),
    "ue-short-expires": lambda lab: first(lab).expires == 3600,
    "ue-short-lifetime": lambda lab: lab.effects(fx.UpdateSas)[0].lifetime == 3570,
    "ue-talks-early": lambda lab: bool(lab.sent("OPTIONS")),
    "ue-to-differs": lambda lab: str(first(lab).to.uri) != IMPU,
    "ue-to-tag": lambda lab: first(lab).to.tag is not None,
    "ue-two-attempts": lambda lab: second(lab).authorization[0].response == "",
    "ue-udp-always": lambda lab: second(lab).via[0].transport == "UDP",
    "ue-unpadded-spis": lambda lab: any(len(each.params["spi-c"] or "") < 10 for each in first(lab).security_client),
    "ue-user-in-request-uri": lambda lab: "@" in first(lab).uri,
    "ue-via-elsewhere": lambda lab: second(lab).via[0].host != UE_HOST,
    "ue-writes-path": lambda lab: bool(first(lab).path),
    "ue-wrong-response": lambda lab: not lab.emitted.count("registered"),
}


def start(name: str | None, *, seed: int = 7) -> UeLab:
    lab = UeLab(faults=[name] if name else [], seed=seed)
    lab.pcscf.next["REGISTER"] = [challenge()]
    lab.register()
    return lab


@pytest.mark.parametrize("name", sorted(SEEN))
def test_fault_that_an_ordinary_registration_shows(name: str) -> None:
    seed = 0  # gives an SPI with a leading zero
    assert SEEN[name](start(name, seed=seed))
    assert not SEEN[name](start(None, seed=seed))


def run_ignores_min_expires(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [say(423, ("Min-Expires", "700000"))] * 9
    lab.register()
    return second(lab).expires == 600000


def run_keeps_call_id(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [without_server]
    lab.register()
    return first(lab).call_id == second(lab).call_id


def run_never_tires(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [bad_mac] * 4
    lab.register()
    return len(lab.sent("REGISTER")) > 3


def run_never_waits(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [say(503), silence]
    lab.register()
    lab.run(1)
    return len(lab.sent("REGISTER")) > 1


def run_auts_for_mac(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [bad_mac]
    lab.register()
    return second(lab).authorization[0].auts is not None


def run_wrong_auts(lab: UeLab) -> bool:
    sane = UeLab()
    for each in (lab, sane):
        each.pcscf.next["REGISTER"] = [stale_sqn]
        each.register()
    return second(lab).authorization[0].auts != second(sane).authorization[0].auts


def run_reports_under_new_call_id(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [bad_mac]
    lab.register()
    return first(lab).call_id != second(lab).call_id


def run_no_count(lab: UeLab) -> bool:
    lab.pcscf.qop = "auth"
    lab.register()
    return "nc=" not in credentials(lab)


def run_reregister(lab: UeLab) -> UeLab:
    lab.register()
    lab.command("reregister")
    return lab


def run_speaks_as_registered(lab: UeLab) -> bool:
    lab.pcscf.headers[-1] = ("P-Associated-URI", "<sip:alice@example.org>")
    lab.register()
    return lab.sent("SUBSCRIBE")[0].uri == IMPU


def run_clear_request(lab: UeLab) -> bool:
    lab.register()
    lab.push(CLEAR_IN, lab.pcscf.make("OPTIONS", 5060))
    return bool(lab.answers)


def run_clear_answer(lab: UeLab) -> bool:
    lab.pcscf.next["REGISTER"] = [
        challenge(),
        lambda fake, request, arrival: fake.reply(request, arrival, 200, fake.ok_headers(request), flow=CLEAR_IN),
    ]
    lab.register()
    return lab.state() is State.REGISTERED


def run_server_port(lab: UeLab) -> bool:
    lab.register()
    lab.push_inside(lab.pcscf.make("OPTIONS", 1))
    flow: Flow = lab.effects(fx.Send)[-1].flow
    assert flow.transport is Transport.UDP
    return flow.local.port == lab.ue.sas.port_s


def run_deregister(lab: UeLab) -> UeLab:
    lab.register()
    lab.pcscf.rechallenge = False
    lab.command("deregister")
    return lab


def run_with_call(lab: UeLab) -> bool:
    lab.register()
    lab.pcscf.next["INVITE"] = [hold([], 180)]
    lab.pcscf.next["CANCEL"] = [silence] * 20
    lab.command("call", to="sip:bob@example.org")
    lab.command("deregister")
    return not lab.sent("CANCEL")


def run_refused_notify(lab: UeLab) -> bool:
    lab.register()
    return ended(lab, "rejected") == 481


def run_ended(lab: UeLab, event: str) -> int:
    lab.register()
    ended(lab, event)
    return len(lab.sent("REGISTER"))


def registered(lab: UeLab) -> bool:
    lab.register()
    return True


def run_late(lab: UeLab) -> bool:
    lab.register()
    lab.run(3598)
    return len(lab.sent("REGISTER")) == 2


#: Faults that want a special occasion.
STAGED: dict[str, Check] = {
    "ue-answers-clear-requests": run_clear_request,
    "ue-answers-from-server-port": run_server_port,
    "ue-asserts-foreign": lambda lab: registered(lab) and message(lab).has("P-Asserted-Identity"),
    "ue-auts-for-mac": run_auts_for_mac,
    "ue-drops-old-set": lambda lab: len(run_reregister(lab).ue.sets) == 1,
    "ue-ignores-min-expires": run_ignores_min_expires,
    "ue-keeps-call-id": run_keeps_call_id,
    "ue-leaves-calls-standing": run_with_call,
    "ue-leaves-in-clear": lambda lab: clear(run_deregister(lab), 2),
    "ue-never-tires": run_never_tires,
    "ue-never-waits": run_never_waits,
    "ue-no-agreement": lambda lab: registered(lab) and not message(lab).has("Security-Verify"),
    "ue-no-count": run_no_count,
    "ue-no-pcscf-route": lambda lab: registered(lab) and f":{PORT_PS}" not in message(lab).rows("Route")[0],
    "ue-no-service-route": lambda lab: registered(lab) and len(message(lab).rows("Route")) == 1,
    "ue-port-c-stays": lambda lab: (
        offer_of(run_reregister(lab).sent("REGISTER")[2])["port-c"] == offer_of(first(lab))["port-c"]
    ),
    "ue-port-s-moves": lambda lab: (
        offer_of(run_reregister(lab).sent("REGISTER")[2])["port-s"] != offer_of(first(lab))["port-s"]
    ),
    "ue-prefers-foreign": lambda lab: (
        registered(lab) and message(lab).get("P-Preferred-Identity") == "<sip:somebody.else@example.org>"
    ),
    "ue-refreshes-in-clear": lambda lab: clear(run_reregister(lab), 2),
    "ue-refreshes-late": run_late,
    "ue-refreshes-without-proof": lambda lab: run_reregister(lab).sent("REGISTER")[2].authorization[0].response == "",
    "ue-refuses-notify": run_refused_notify,
    "ue-reports-under-new-call-id": run_reports_under_new_call_id,
    "ue-returns-when-rejected": lambda lab: run_ended(lab, "rejected") > 2,
    "ue-speaks-as-registered": run_speaks_as_registered,
    "ue-spis-stay": lambda lab: (
        offer_of(run_reregister(lab).sent("REGISTER")[2])["spi-c"] == offer_of(first(lab))["spi-c"]
    ),
    "ue-stale-verify": lambda lab: (
        run_reregister(lab).sent("REGISTER")[3].rows("Security-Verify") == second(lab).rows("Security-Verify")
    ),
    "ue-stays-away": lambda lab: run_ended(lab, "deactivated") == 2,
    "ue-subscribes-briefly": lambda lab: registered(lab) and lab.sent("SUBSCRIBE")[0].expires == 3600,
    "ue-takes-clear-answers": run_clear_answer,
    "ue-talks-in-clear": lambda lab: registered(lab) and lab.sends("SUBSCRIBE")[-1].flow.remote.port == 5060,
    "ue-watches-neighbour": lambda lab: registered(lab) and lab.sent("SUBSCRIBE")[0].uri != IMPU,
    "ue-wrong-auts": run_wrong_auts,
}


@pytest.mark.parametrize("name", sorted(STAGED))
def test_fault_that_wants_an_occasion(name: str) -> None:
    assert STAGED[name](UeLab(faults=[name]))
    assert not STAGED[name](UeLab())


def test_every_fault_is_shown() -> None:
    assert set(SEEN) | set(STAGED) == {fault.name for fault in FAULTS.values() if fault.role == "UE"}


def test_faults_of_others_and_of_nobody() -> None:
    with pytest.raises(LocalError, match="unknown fault"):
        UeLab(faults=["ue-levitates"])
    with pytest.raises(LocalError, match="not of a UE"):
        UeLab(faults=["pcscf-late-sas"])
    assert "ue-no-rport" not in Faults()
