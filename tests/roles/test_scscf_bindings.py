"""The registrar in the S-CSCF: catalogue areas L, N, O, Q, and what of M and R is its affair."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import (
    ChargingInformation,
    CxAnswer,
    DeregistrationReason,
    LocationInfoRequest,
    PushProfileRequest,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
)
from imslab.diameter.userdata import IdentityType, PublicIdentity, ServiceProfile, UserProfile, write_userdata
from imslab.roles.scscf_bindings import TERMINATION_EVENTS
from tests.roles.core_bench import ALICE, DOMAIN, IMPI, IMPU, SCSCF_NAME, TEL, aka_response, profile, sip_request
from tests.roles.scscf_bench import CONTACT, Bench, Phone, states

URI = "sip:001010000000001@10.0.0.2:5062"
OTHER = "<sip:001010000000001@10.0.0.7:5062>"


def rtr(reason: int, *identities: str, impi: str = IMPI, associated: list[str] | None = None) -> Any:
    return RegistrationTerminationRequest(
        session_id="hss;1",
        origin_host=f"hss.{DOMAIN}",
        origin_realm=DOMAIN,
        destination_realm=DOMAIN,
        destination_host=f"scscf.{DOMAIN}",
        user_name=impi,
        public_identities=list(identities),
        associated_identities=associated,
        reason=DeregistrationReason(code=ReasonCode(reason)),
    )


def ppr(user_data: bytes | None, impi: str = IMPI, charging: ChargingInformation | None = None) -> Any:
    return PushProfileRequest(
        session_id="hss;2",
        origin_host=f"hss.{DOMAIN}",
        origin_realm=DOMAIN,
        destination_realm=DOMAIN,
        destination_host=f"scscf.{DOMAIN}",
        user_name=impi,
        user_data=user_data,
        charging=charging,
    )


# ---- L. the 200


def test_200_lists_all_contacts_with_the_time_that_is_left() -> None:
    """OKR-01."""
    bench = Bench()
    bench.registered()
    bench.wire.run(600.0)
    second = Phone(contact=f"{OTHER};q=0.5;x=y", call_id="second")
    response = bench.registered(second, expires=1000)
    assert [str(each) for each in response.contact] == [
        f"<{URI}>;expires=3000",
        f"{OTHER};q=0.5;x=y;expires=1000",
    ]


def test_200_has_the_path_of_the_register() -> None:
    """OKR-02: the same values, in the same order."""
    bench = Bench()
    bench.phone.path = "<sip:token1@198.51.100.1;lr;x>, <sip:ibcf.example;lr>"
    response = bench.registered()
    assert response.rows("Path") == [bench.phone.path]


def test_service_route_leads_here_and_says_originating() -> None:
    """OKR-03: loose, ours, and one for each flow."""
    bench = Bench()
    first = bench.registered().service_route
    second = bench.registered(Phone(contact=OTHER, call_id="second")).service_route
    again = bench.registered().service_route
    for (route,) in (first, second, again):
        assert "lr" in route.uri.params
        assert route.uri.hostport in SCSCF_NAME
        assert route.uri.user.startswith("orig-")
    assert str(first[0]) == str(again[0]) != str(second[0])


def test_associated_uris_are_the_usable_ones_default_first() -> None:
    """OKR-04, IRS-02: in the order of the HSS; wildcarded ones are none."""
    bench = Bench()
    marked = [
        PublicIdentity(IMPU, barred=True),
        PublicIdentity("sip:!.*!@ims.example", type=IdentityType.WILDCARDED_PUBLIC_USER_IDENTITY),
        PublicIdentity(TEL),
        PublicIdentity(ALICE),
    ]
    bench.users.profile = write_userdata(UserProfile(IMPI, [ServiceProfile(marked)]))
    assert [str(each) for each in bench.registered().p_associated_uri] == [f"<{TEL}>", f"<{ALICE}>"]
    bench.users.profile = profile(IMPU, ALICE, TEL, barred=[IMPU])
    assert [str(each) for each in bench.registered().p_associated_uri] == [f"<{ALICE}>", f"<{TEL}>"]


def test_a_tel_uri_stands_in_angle_brackets() -> None:
    """OKR-05."""
    assert f"<{TEL}>" in (Bench().registered().get("P-Associated-URI") or "")


def test_a_barred_identity_can_be_registered_and_is_not_listed() -> None:
    """OKR-06, IRS-03: with nothing else in the set, nothing is listed at all."""
    bench = Bench()
    bench.users.profile = profile(IMPU, ALICE, barred=[IMPU])
    response = bench.registered()
    assert [str(each.uri) for each in response.p_associated_uri] == [ALICE]
    alone = Bench()
    alone.users.profile = profile(IMPU, barred=[IMPU])
    assert not alone.registered().has("P-Associated-URI")


def test_path_support_of_the_ue_is_not_asked_for() -> None:
    """OKR-08: our policy is to accept."""
    bench = Bench()
    request = bench.phone.register()
    request.remove("Supported")
    assert bench.one(request).status == 401


# ---- N. times


@pytest.mark.parametrize(
    ("asked", "minimum", "status"), [(59, 60, 423), (60, 60, 200), (1, 7200, 423), (3600, 7200, 200)]
)
def test_too_short_a_time_is_refused(asked: int, minimum: int, status: int) -> None:
    """ERR-04: only below an hour and below the minimum; the contact's own expires counts."""
    bench = Bench(expires_min=minimum, expires_max=7200)
    contacts = [f"{CONTACT};expires={asked}"]
    response = bench.answer(bench.challenge(contacts=contacts), contacts=contacts)
    assert response.status == status
    assert response.min_expires == (minimum if status == 423 else None)


@pytest.mark.parametrize(("asked", "granted"), [(600000, 3600), (None, 3600), (100, 100)])
def test_too_long_a_time_is_cut(asked: int | None, granted: int) -> None:
    """ERR-05: nothing asked for is as much as there is."""
    bench = Bench()
    assert bench.registered(expires=asked).contact[0].expires == granted
    assert bench.bindings() == {URI: granted}


@pytest.mark.parametrize("data", [None, b"<IMSSubscription", profile(IMPU).replace(b"sip:0", b"&#32;")])
def test_a_first_registration_without_a_usable_profile_is_500(data: bytes | None) -> None:
    """29.228 6.1.2.1: and the HSS does not go on believing that we serve the user."""
    bench = Bench()
    bench.users.profile = data
    assert bench.answer(bench.challenge()).status == 500
    assert bench.sars == [(1, IMPU), (8, IMPU)]
    assert len(bench.box.registrar) == 0


def test_a_refresh_needs_no_profile() -> None:
    """RER-08; 29.228 6.6: it may come nevertheless, and then it counts."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.users.profile = None
    assert bench.one(bench.phone.register("yes")).status == 200
    bench.users.profile = profile(IMPU, ALICE)
    bench.subscribe()
    response = bench.one(bench.phone.register("yes"))
    assert [str(each.uri) for each in response.p_associated_uri] == [IMPU, ALICE]
    assert states(bench.told[-1])[TEL][0] == "terminated"
    bench.users.profile = b"nonsense"
    assert bench.one(bench.phone.register("yes")).status == 500
    assert bench.bindings() == {URI: 3600}


# ---- M. fetching, order


def test_a_register_without_contact_fetches() -> None:
    """RER-13: nothing is changed, nobody is told."""
    bench = Bench()
    bench.registered()
    bench.wire.run(1000.0)
    response = bench.one(bench.phone.register("yes", contacts=[], expires=None))
    assert response.status == 200
    assert [each.expires for each in response.contact] == [2600]
    assert response.has("Service-Route")
    assert bench.bindings() == {URI: 2600}
    assert len(bench.sars) == 1


def test_a_fetch_of_one_who_has_nothing() -> None:
    """RER-13: authenticated, and told that there is nothing."""
    bench = Bench()
    response = bench.answer(bench.challenge(contacts=[]), contacts=[])
    assert response.status == 200
    assert not any(response.has(name) for name in ("Contact", "Service-Route", "P-Associated-URI"))
    assert bench.sars == []


def test_an_answer_that_is_older_than_the_binding_is_refused() -> None:
    """RER-14: a challenge has been answered in between, under the same Call-ID."""
    bench = Bench()
    bench.registered()
    bench.wire.run(50.0)
    nonce = bench.challenge()
    bench.phone.cseq = 0
    assert bench.answer(nonce).status == 500
    assert bench.bindings() == {URI: 3550}


def test_another_call_id_may_count_from_one() -> None:
    """RFC 3261 10.3 item 7: order is only within a Call-ID."""
    bench = Bench()
    bench.registered()
    assert bench.registered(Phone(call_id="new")).status == 200


# ---- contacts


def test_a_phone_that_comes_back_elsewhere_replaces_its_contact() -> None:
    """The same instance without reg-id: the old contact is gone, and those who watch know."""
    bench = Bench()
    instance = '+sip.instance="<urn:gsma:imei:35123456-789012-0>"'
    bench.registered(Phone(contact=f"{CONTACT};{instance}"))
    bench.subscribe()
    response = bench.registered(Phone(contact=f"{OTHER};{instance}", call_id="new"))
    assert [str(each.uri) for each in response.contact] == ["sip:001010000000001@10.0.0.7:5062"]
    assert states(bench.told[-1])[IMPU] == (
        "active",
        [("sip:001010000000001@10.0.0.7:5062", "active", "registered"), (URI, "terminated", "deactivated")],
    )


def test_flows_of_one_instance_stand_beside_each_other() -> None:
    """RFC 5626 6: told apart by reg-id, whatever their URIs are."""
    bench = Bench()
    flow = '{contact};+sip.instance="<urn:uuid:1>";reg-id={n}'
    bench.registered(Phone(contact=flow.format(contact=CONTACT, n=1)))
    bench.registered(Phone(contact=flow.format(contact=CONTACT, n=2), call_id="2"))
    assert len(bench.box.registrar.find(IMPU).bindings) == 2
    bench.registered(Phone(contact=flow.format(contact=OTHER, n=1), call_id="3"))
    registration = bench.box.registrar.find(IMPU)
    assert sorted(str(each.uri) for each in registration.bindings) == [URI, "sip:001010000000001@10.0.0.7:5062"]


@pytest.mark.parametrize("count", [11, 100, 2000])
def test_a_hundred_contacts_are_too_many(count: int) -> None:
    """MAL-16."""
    bench = Bench()
    contacts = [f"<sip:ue@10.0.{number // 250}.{number % 250}>" for number in range(count)]
    assert bench.answer(bench.challenge(contacts=contacts), contacts=contacts).status == 403
    assert bench.sars == []
    assert len(bench.box.registrar) == 0


def test_ten_contacts_are_stored() -> None:
    """MAL-16."""
    bench = Bench()
    contacts = [f"<sip:ue@10.0.0.{number}>" for number in range(10)]
    assert len(bench.registered(contacts=contacts).contact) == 10
    response = bench.answer(bench.challenge(contacts=[OTHER]), contacts=[OTHER])
    assert response.status == 403


# ---- O. de-registration by the user


def test_a_user_leaves() -> None:
    """DER-04: SAR, then 200 with the contact that has gone, then the last NOTIFY."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    response = bench.one(bench.phone.register("yes", expires=0))
    assert response.status == 200
    assert [str(each) for each in response.contact] == [f"<{URI}>;expires=0"]
    assert not response.has("Service-Route")
    assert bench.sars == [(1, IMPU), (5, IMPU)]
    assert bench.hss.of(ServerAssignmentRequest)[-1].already_available == 1
    assert bench.box.registrar.find(IMPU) is None
    assert bench.notifies[-1].subscription_state.state == "terminated"  # type: ignore[union-attr]
    assert bench.box.next_timer() is not None
    bench.wire.run(8000.0)
    assert bench.sars == [(1, IMPU), (5, IMPU)]


def test_leaving_is_obeyed_when_the_hss_is_silent() -> None:
    """DER-04: the UE is answered in time in any case."""
    bench = Bench()
    bench.registered()
    bench.hss.script[ServerAssignmentRequest] = lambda request: None
    assert bench.send(bench.phone.register("yes", expires=0)) == []
    assert bench.box.registrar.find(IMPU) is None
    bench.wire.run(6.0)
    assert bench.pcscf.responses[-1].status == 200


def test_star_takes_all_contacts_of_the_user() -> None:
    """DER-04, RFC 3261 10.2.2."""
    bench = Bench()
    bench.registered()
    bench.registered(Phone(contact=OTHER, call_id="second"))
    response = bench.one(bench.phone.register("yes", contacts=["*"], expires=0))
    assert [each.expires for each in response.contact] == [0, 0]
    assert bench.sars[-1] == (5, IMPU)


def test_star_minds_the_order_too() -> None:
    """RFC 3261 10.3 item 6."""
    bench = Bench()
    bench.registered()
    bench.phone.cseq = 0
    request = bench.phone.register("yes", contacts=["*"], expires=0)
    assert bench.one(request).status == 500
    assert bench.bindings() == {URI: 3600}


def test_leaving_in_clear_is_challenged() -> None:
    """DER-05: the binding stays until the answer is right."""
    bench = Bench()
    bench.registered()
    nonce = bench.challenge(expires=0)
    assert bench.bindings() == {URI: 3600}
    assert bench.answer(nonce, expires=0).status == 200
    assert bench.bindings() == {}


def test_the_whole_set_goes_with_one_member() -> None:
    """DER-06: registered by one identity, left by another; the SAR names one, the NOTIFY all."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    assert bench.one(Phone(impu=ALICE, call_id="leaves").register("yes", expires=0)).status == 200
    assert bench.sars == [(1, IMPU), (5, ALICE)]
    assert len(bench.hss.of(ServerAssignmentRequest)[-1].public_identities) == 1
    assert all(bench.box.registrar.find(aor) is None for aor in (IMPU, ALICE, TEL))
    told = states(bench.told[-1])
    assert set(told) == {IMPU, ALICE, TEL}
    assert {each for each in told.values() for each in [each[0]]} == {"terminated"}
    assert told[TEL][1] == [(URI, "terminated", "unregistered")]


def test_the_last_contact_decides() -> None:
    """DER-07, EVT-15."""
    bench = Bench()
    bench.registered()
    bench.registered(Phone(contact=OTHER, call_id="second"))
    bench.subscribe()
    response = bench.one(bench.phone.register("yes", expires=0))
    assert [(str(each.uri), each.expires) for each in response.contact] == [
        ("sip:001010000000001@10.0.0.7:5062", 3600),
        (URI, 0),
    ]
    assert bench.sars == [(1, IMPU), (2, IMPU)]
    assert list(bench.bindings()) == ["sip:001010000000001@10.0.0.7:5062"]
    assert states(bench.told[-1])[IMPU] == (
        "active",
        [("sip:001010000000001@10.0.0.7:5062", "active", "registered"), (URI, "terminated", "unregistered")],
    )


def test_one_register_may_bring_one_contact_and_take_another() -> None:
    """RFC 3261 10.3 item 7."""
    bench = Bench()
    bench.registered()
    contacts = [f"{CONTACT};expires=0", OTHER]
    response = bench.registered(contacts=contacts)
    assert [str(each.uri) for each in response.contact] == ["sip:001010000000001@10.0.0.7:5062"]
    assert bench.sars == [(1, IMPU), (2, IMPU)]


@pytest.mark.parametrize("flag", ["no", "yes"])
@pytest.mark.parametrize("contact", [CONTACT, "*"])
def test_leaving_what_one_does_not_have(flag: str, contact: str) -> None:
    """DER-08: 481, and no SAR."""
    bench = Bench()
    if flag == "no":
        nonce = bench.challenge(contacts=[contact], expires=0)
        response = bench.answer(nonce, contacts=[contact], expires=0)
    else:
        response = bench.one(bench.phone.register("yes", contacts=[contact], expires=0))
    assert response.status == 481
    assert bench.sars == []
    assert bench.box.authentications == {}


def test_leaving_with_a_contact_that_is_not_there() -> None:
    """DER-08: what is there stays."""
    bench = Bench()
    bench.registered()
    assert bench.one(bench.phone.register("yes", contacts=[OTHER], expires=0)).status == 481
    assert bench.bindings() == {URI: 3600}


# ---- O. the other ends


def test_a_registration_lapses() -> None:
    """DER-09, EVT-16."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    bench.wire.run(3599.0)
    assert len(bench.sars) == 1
    bench.wire.run(3601.0)
    assert bench.sars == [(1, IMPU), (4, IMPU)]
    assert states(bench.told[-1])[ALICE] == ("terminated", [(URI, "terminated", "expired")])
    assert bench.notifies[-1].subscription_state.state == "terminated"  # type: ignore[union-attr]
    assert bench.box.registrar.find(IMPU) is None


def test_contacts_lapse_one_by_one() -> None:
    """DER-09, DER-07: only the last one ends the registration."""
    bench = Bench()
    bench.registered()
    bench.registered(Phone(contact=OTHER, call_id="second"), expires=100)
    bench.wire.run(101.0)
    assert list(bench.bindings()) == [URI]
    assert len(bench.sars) == 2
    bench.wire.run(3601.0)
    assert bench.sars[2:] == [(4, IMPU)]


def test_a_refresh_moves_the_end() -> None:
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.wire.run(3000.0)
    bench.one(bench.phone.register("yes"))
    bench.wire.run(6599.0)
    assert bench.bindings() == {URI: 1}
    bench.wire.run(6601.0)
    assert bench.bindings() == {}


@pytest.mark.parametrize(("reason", "event"), [(0, "rejected"), (2, "deactivated"), (3, "deactivated")])
def test_the_hss_ends_a_registration(reason: int, event: str) -> None:
    """DER-10, DER-11, DER-12: no Public-Identity means all; no SAR."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    assert bench.push(rtr(reason)).result_code == 2001
    assert states(bench.told[-1])[ALICE] == ("terminated", [(URI, "terminated", event)])
    state = bench.notifies[-1].subscription_state
    assert state is not None
    assert state.state == "terminated"
    assert bench.box.registrar.find(ALICE) is None
    assert bench.sars == [(1, IMPU)]


def test_every_reason_has_its_event() -> None:
    assert set(TERMINATION_EVENTS) == set(ReasonCode)


def test_another_server_took_the_user() -> None:
    """DER-11: NEW_SERVER_ASSIGNED drops the data and tells nobody."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    before = len(bench.notifies)
    assert bench.push(rtr(1, IMPU)).result_code == 2001
    assert len(bench.notifies) == before
    assert bench.box.registrar.find(IMPU) is None
    assert bench.box._dialogs == {}
    bench.wire.run(10000.0)
    assert len(bench.notifies) == before
    assert bench.sars == [(1, IMPU)]


def test_all_sets_of_a_private_identity_go() -> None:
    """DER-12."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.users.profile = profile(f"sip:work@{DOMAIN}")
    bench.one(Phone(impu=f"sip:work@{DOMAIN}", call_id="2").register("yes"))
    assert bench.push(rtr(0)).result_code == 2001
    assert len(bench.box.registrar) == 0


def test_only_the_named_set_goes() -> None:
    """DER-12: Public-Identity names one of its members."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.users.profile = profile(f"sip:work@{DOMAIN}")
    bench.one(Phone(impu=f"sip:work@{DOMAIN}", call_id="2").register("yes"))
    assert bench.push(rtr(0, ALICE)).result_code == 2001
    assert bench.box.registrar.find(IMPU) is None
    assert bench.box.registrar.find(f"sip:work@{DOMAIN}") is not None


@pytest.mark.parametrize("request_", [rtr(0, impi="nobody@ims.example"), rtr(0, f"sip:nobody@{DOMAIN}")])
def test_an_rtr_for_nobody(request_: RegistrationTerminationRequest) -> None:
    """DER-13."""
    bench = Bench()
    bench.registered()
    assert bench.push(request_).experimental_result == 5001
    assert bench.bindings() == {URI: 3600}


def test_an_rtr_that_names_no_uri() -> None:
    """RFC 6733 7.1.5: 5004 with the AVP."""
    bench = Bench()
    bench.registered()
    answer = bench.push(rtr(0, "no uri at all"))
    assert answer.result_code == 5004
    assert [avp.code for avp in answer.get("Failed-AVP")] == [601]
    assert bench.bindings() == {URI: 3600}


def test_an_rtr_without_a_reason() -> None:
    """RFC 6733 7.1.5: 5005 with an example."""
    bench = Bench()
    request = rtr(0)
    request.reason = None
    answer = bench.push(request)
    assert answer.result_code == 5005
    assert [avp.code for avp in answer.get("Failed-AVP")] == [615]


def test_a_request_that_no_server_gets_is_refused() -> None:
    bench = Bench()
    lir = LocationInfoRequest(
        session_id="x", origin_host="h", origin_realm=DOMAIN, destination_realm=DOMAIN, public_identity=IMPU
    )
    assert bench.push(lir).result_code == 3001


def test_the_next_register_after_an_rtr_is_challenged() -> None:
    """DER-15: repeated twice, never a silent 200."""
    bench = Bench(reauthenticate=False)
    for _ in range(2):
        bench.registered()
        bench.push(rtr(0))
        assert bench.one(bench.phone.register("yes")).status == 401


@pytest.mark.parametrize("event", ["deactivated", "rejected"])
def test_an_operator_ends_a_registration(event: str) -> None:
    """24.229 5.4.1.5: SAR ADMINISTRATIVE_DEREGISTRATION."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    bench.wire.command(bench.box, "deregister", impu=ALICE, event=event)
    assert bench.sars[-1] == (8, IMPU)
    assert states(bench.told[-1])[IMPU] == ("terminated", [(URI, "terminated", event)])
    assert bench.bindings() == {}


def test_what_an_operator_may_not_ask() -> None:
    bench = Bench()
    bench.registered()
    bench.wire.command(bench.box, "deregister", impu=f"sip:nobody@{DOMAIN}")
    bench.wire.command(bench.box, "dance")
    bench.wire.command(bench.box, "deregister", impu="no uri")
    assert bench.wire.emitted("scscf")[-3:] == ["unknown-user", "unknown-command", "peer-error"]
    with pytest.raises(LocalError, match="deactivated or rejected"):
        bench.wire.command(bench.box, "deregister", impu=IMPU, event="probation")
    assert bench.bindings() == {URI: 3600}


# ---- M. network-initiated re-authentication


def test_the_network_asks_for_a_new_authentication() -> None:
    """RER-12: even where refreshes go without a challenge."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.subscribe()
    bench.wire.command(bench.box, "reauthenticate", impu=IMPU)
    (contact,) = bench.told[-1].registrations[0].contacts
    assert (contact.state, contact.event, contact.expires) == ("active", "shortened", 60)
    assert bench.bindings() == {URI: 60}
    nonce = bench.challenge(flag="yes")
    assert bench.answer(nonce).status == 200
    assert bench.bindings() == {URI: 3600}
    assert bench.one(bench.phone.register("yes")).status == 200  # as the policy has it


def test_a_failed_new_authentication_ends_the_registration() -> None:
    """RER-12: by its shortened time, not by the failure itself."""
    bench = Bench()
    bench.registered()
    bench.wire.command(bench.box, "reauthenticate", impu=IMPU)
    assert bench.answer(bench.challenge(flag="yes"), response="0" * 32).status == 403
    assert bench.bindings() == {URI: 60}
    bench.wire.run(61.0)
    assert bench.sars == [(1, IMPU), (4, IMPU)]
    assert bench.bindings() == {}


# ---- identities shared by several private ones


def test_two_phones_share_an_identity() -> None:
    """29.228 6.1.2.1: each private identity has its own SARs; the set lives as long as one of them."""
    bench = Bench()
    bench.registered()
    second = Phone(impi=f"002@{DOMAIN}", contact=OTHER, call_id="second")
    response = bench.registered(second)
    assert len(response.contact) == 2
    assert [(each.user_name, each.assignment_type) for each in bench.hss.of(ServerAssignmentRequest)] == [
        (IMPI, 1),
        (f"002@{DOMAIN}", 1),
    ]
    assert bench.one(second.register("yes", contacts=["*"], expires=0)).status == 200
    assert list(bench.bindings()) == [URI]
    last = bench.hss.of(ServerAssignmentRequest)[-1]
    assert (last.user_name, last.assignment_type) == (f"002@{DOMAIN}", 5)
    assert bench.box.registrar.of_private(f"002@{DOMAIN}") == ()


def test_both_phones_lapse() -> None:
    bench = Bench()
    bench.registered()
    bench.registered(Phone(impi=f"002@{DOMAIN}", contact=OTHER, call_id="second"))
    bench.wire.run(3601.0)
    last = bench.hss.of(ServerAssignmentRequest)[-2:]
    assert {(each.user_name, int(each.assignment_type)) for each in last} == {(IMPI, 4), (f"002@{DOMAIN}", 4)}


@pytest.mark.parametrize("reason", [0, 1])
def test_an_rtr_for_one_of_two_phones(reason: int) -> None:
    """29.228 6.1.3: the other one stays, unless Associated-Identities names it."""
    bench = Bench()
    second = f"002@{DOMAIN}"
    bench.registered()
    bench.registered(Phone(impi=second, contact=OTHER, call_id="second"))
    bench.subscribe()
    assert bench.push(rtr(reason, IMPU, impi=second)).result_code == 2001
    assert list(bench.bindings()) == [URI]
    assert states(bench.told[-1])[IMPU][0] == "active"
    bench.registered(Phone(impi=second, contact=OTHER, call_id="third"))
    assert bench.push(rtr(reason, IMPU, associated=[second])).result_code == 2001
    assert bench.bindings() == {}


# ---- Q. profile updates


def test_registering_one_registers_all() -> None:
    """IRS-01: see test_scscf_sessions for who may call and be called."""
    bench = Bench()
    bench.registered()
    assert bench.box.registrar.find(IMPU) is bench.box.registrar.find(ALICE) is bench.box.registrar.find(TEL)


def test_a_pushed_profile_counts() -> None:
    """IRS-04, IRS-05: a new identity is told as created, and can be used."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    new = f"sip:new@{DOMAIN}"
    assert bench.push(ppr(profile(IMPU, ALICE, TEL, new))).result_code == 2001
    assert states(bench.told[-1])[new] == ("active", [(URI, "active", "created")])
    assert bench.box.registrar.find(new) is bench.box.registrar.find(IMPU)
    assert bench.subscribe(sender=new, call_id="sub-2").status == 200


def test_what_a_ppr_has_added_is_created_until_the_next_register() -> None:
    """IRS-05: although the contact itself has been refreshed."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.one(bench.phone.register("yes"))
    bench.subscribe()
    new = f"sip:new@{DOMAIN}"
    bench.push(ppr(profile(IMPU, ALICE, TEL, new)))
    assert states(bench.told[-1])[new][1] == [(URI, "active", "created")]
    assert states(bench.told[-1])[ALICE][1] == [(URI, "active", "refreshed")]
    bench.users.profile = None
    bench.one(bench.phone.register("yes"))
    assert states(bench.told[-1])[new][1] == [(URI, "active", "refreshed")]


@pytest.mark.parametrize("how", ["removed", "barred"])
def test_a_ppr_takes_an_identity_away(how: str) -> None:
    """IRS-06."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    data = profile(IMPU, TEL) if how == "removed" else profile(IMPU, ALICE, TEL, barred=[ALICE])
    assert bench.push(ppr(data)).result_code == 2001
    told = states(bench.told[-1])
    assert told[ALICE] == ("terminated", [(URI, "terminated", "deactivated")])
    assert told[IMPU][0] == "active"
    assert bench.notifies[-1].subscription_state.state == "active"  # type: ignore[union-attr]
    call = sip_request("MESSAGE", ALICE, sender=IMPU, to=ALICE)
    assert bench.one(call).status == (480 if how == "removed" else 404)


def test_a_ppr_that_changes_no_identity_is_not_told() -> None:
    """IRS-04: those who watch would learn nothing."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    before = len(bench.notifies)
    assert bench.push(ppr(profile(IMPU, ALICE, TEL))).result_code == 2001
    assert len(bench.notifies) == before


def test_the_asked_identity_may_leave_the_set() -> None:
    """IRS-06: the SAR at the end names one that is still in it."""
    bench = Bench()
    bench.users.profile = profile(ALICE, IMPU)
    bench.registered()
    bench.push(ppr(profile(ALICE)))
    bench.wire.run(3601.0)
    assert bench.sars[-1] == (4, ALICE)


def test_a_ppr_for_nobody() -> None:
    """IRS-07."""
    assert Bench().push(ppr(profile(IMPU))).experimental_result == 5001


@pytest.mark.parametrize("data", [profile(IMPU)[:60], b"", b"\xff", profile(IMPU).replace(b"sip:0", b"&#32;")])
def test_a_ppr_that_cannot_be_read_changes_nothing(data: bytes) -> None:
    """IRS-08."""
    bench = Bench()
    bench.registered()
    bench.subscribe()
    before = len(bench.notifies)
    assert bench.push(ppr(data)).experimental_result == 5009
    assert bench.box.registrar.find(ALICE) is not None
    assert len(bench.notifies) == before


def test_a_ppr_about_charging_changes_nothing() -> None:
    """IRS-09."""
    bench = Bench()
    bench.registered()
    charging = ChargingInformation(primary_collection="aaa://ccf.example")
    assert bench.push(ppr(None, charging=charging)).result_code == 2001
    assert bench.bindings() == {URI: 3600}


@pytest.mark.parametrize("data", [profile(ALICE, IMPU, TEL), profile(IMPU, ALICE, barred=[IMPU]), profile("sip:x@y")])
def test_a_ppr_may_not_change_the_default_identity(data: bytes) -> None:
    """ADD-15, IRS-02."""
    bench = Bench()
    bench.registered()
    assert bench.push(ppr(data)).result_code == 5012
    assert bench.box.registrar.find(TEL) is not None


def test_a_ppr_finds_its_set_among_several() -> None:
    """29.228 6.2.2: the profile says which one."""
    bench = Bench(reauthenticate=False)
    work = f"sip:work@{DOMAIN}"
    bench.registered()
    bench.users.profile = profile(work)
    bench.one(Phone(impu=work, call_id="2").register("yes"))
    assert bench.push(ppr(profile(work, f"sip:desk@{DOMAIN}"))).result_code == 2001
    assert bench.box.registrar.find(f"sip:desk@{DOMAIN}") is bench.box.registrar.find(work)
    assert bench.box.registrar.find(ALICE) is bench.box.registrar.find(IMPU)


def test_a_registration_that_ends_while_it_is_refreshed() -> None:
    """An RTR comes while the SAR is under way, and the SAA has no profile: 500, nothing is left."""
    bench = Bench()
    bench.registered()
    nonce = bench.challenge(flag="yes")
    bench.hss.script[ServerAssignmentRequest] = lambda request: None
    item = bench.item(nonce)
    bench.send(bench.phone.register("yes", nonce=nonce, response=aka_response(nonce, item.authorization or b"")))
    bench.push(rtr(0))
    made: CxAnswer = ServerAssignmentAnswer(result_code=2001)
    (peer,) = bench.hss._peers.values()
    sar = next(each for each in reversed(bench.hss.messages) if each.name == "SAR")
    peer.send_answer(made.to_message(sar), bench.wire.now)
    bench.kick(bench.hss)
    assert bench.pcscf.responses[-1].status == 500
    assert len(bench.box.registrar) == 0


def test_one_register_may_bring_two_contacts_of_one_phone() -> None:
    """Both replace the one that the phone had; neither replaces the other."""
    bench = Bench()
    instance = '+sip.instance="<urn:uuid:1>"'
    bench.registered(Phone(contact=f"{CONTACT};{instance}"))
    contacts = [f"<sip:ue@10.0.0.{number}>;{instance}" for number in (3, 4)]
    response = bench.registered(Phone(call_id="new"), contacts=contacts)
    assert [str(each.uri) for each in response.contact] == ["sip:ue@10.0.0.3", "sip:ue@10.0.0.4"]


def test_the_connection_to_the_hss_may_be_lost() -> None:
    """What is asked meanwhile waits; registrations stand."""
    bench = Bench()
    bench.registered()
    bench.hss.disconnect()
    bench.kick(bench.hss)
    assert bench.send(bench.phone.register()) == []
    bench.wire.run(4.0)
    assert bench.pcscf.responses[-1].status == 401
    assert list(bench.bindings()) == [URI]
    (flow,) = bench.hss._peers
    bench.wire.give(bench.box, ev.Closed(flow.reversed, "reset"))
    assert bench.wire.emitted("scscf")[-1] == "hss-lost"
    bench.wire.give(bench.box, ev.Closed(flow._replace(local=flow.remote), "another"))


def test_other_alarms_are_nobodys() -> None:
    bench = Bench()
    bench.box.on_alarm("something else")
    assert bench.box.take() == []
