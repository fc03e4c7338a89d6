"""Requests between users, as the S-CSCF passes them on (24.229 5.4.3, RFC 3261 16)."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.sip.message import Request, Response, response_to
from tests.roles.core_bench import (
    ALICE,
    DOMAIN,
    ICSCF,
    IMPU,
    PCSCF,
    SCSCF,
    TEL,
    Neighbour,
    profile,
    sip_request,
)
from tests.roles.scscf_bench import Bench, Phone

BOB = f"sip:bob@{DOMAIN}"
BOB_CONTACT = "sip:bob@10.0.0.3:5062"
BOB_PATH = "<sip:token2@198.51.100.1:5060;lr>"
STRANGE = f"<sip:orig-99@scscf.{DOMAIN}:5060;lr>"
OWN = f"<sip:scscf.{DOMAIN}:5060;lr>"


class Two(Bench):
    """Alice (the usual phone) and Bob are registered; both have the same P-CSCF, which answers 200."""

    def __init__(self, *, with_icscf: bool = False, **config: Any) -> None:
        super().__init__(icscf=ICSCF if with_icscf else None, **config)
        self.route = str(self.registered().service_route[0])
        self.users.profile = profile(BOB, impi=f"bob@{DOMAIN}")
        bob = Phone(f"bob@{DOMAIN}", BOB, f"<{BOB_CONTACT}>", "bob-reg", BOB_PATH)
        self.bob_route = str(self.registered(bob).service_route[0])
        self.users.profile = profile(IMPU, ALICE, TEL)
        self.pcscf.got.clear()
        self.icscf = Neighbour("icscf", ICSCF)
        if with_icscf:
            self.wire.add(self.icscf, ICSCF.host)

    def originate(self, method: str, uri: str, *, sender: str = ALICE, route: str = "", **more: Any) -> Request:
        """A request of a user, as the P-CSCF passes it on."""
        headers = [("Route", route or self.route), ("P-Asserted-Identity", f"<{sender}>"), *more.pop("headers", [])]
        options: dict[str, Any] = {"call_id": "call-1", "sender": sender, "to": uri, **more}
        return sip_request(method, uri, headers=headers, **options)

    @property
    def delivered(self) -> Request:
        """The only request that the P-CSCF got."""
        (request,) = self.pcscf.requests
        return request


# ---- a MESSAGE


def test_a_message_follows_the_path_of_its_addressee() -> None:
    """OKR-07, IRS-01: Request-URI is the contact, Route the Path, and the 200 comes back."""
    lab = Two()
    body = b"hello"
    responses = lab.send(lab.originate("MESSAGE", BOB, headers=[("Content-Type", "text/plain")], body=body))
    request = lab.delivered
    assert request.uri == BOB_CONTACT
    assert request.rows("Route") == [BOB_PATH]
    assert str(request.p_called_party_id) == f"<{BOB}>"
    assert request.max_forwards == 68
    assert not request.has("Record-Route")
    assert (request.via[0].host, len(request.via)) == (SCSCF.host, 3)
    assert request.body == body
    assert [response.status for response in responses] == [200]
    assert [via.host for via in responses[0].via] == [PCSCF.host, "10.0.0.2"]


def test_every_header_of_a_long_path_is_a_route() -> None:
    """OKR-07: in order."""
    bench = Bench()
    bench.phone.path = "<sip:token1@198.51.100.1:5060;lr>, <sip:ibcf.example;lr>"
    bench.registered()
    bench.pcscf.got.clear()
    bench.send(sip_request("MESSAGE", IMPU, sender=BOB, to=IMPU))
    (request,) = bench.pcscf.requests
    assert [str(each) for each in request.route] == ["<sip:token1@198.51.100.1:5060;lr>", "<sip:ibcf.example;lr>"]


def test_who_was_called_first_stays_named() -> None:
    """RFC 7315 4.2: somebody before us has retargeted the request."""
    lab = Two()
    lab.one(lab.originate("MESSAGE", BOB, headers=[("P-Called-Party-ID", "<sip:first@x>")]))
    assert lab.delivered.rows("P-Called-Party-ID") == ["<sip:first@x>"]


@pytest.mark.parametrize("caller", [IMPU, ALICE, TEL])
def test_any_member_of_a_set_may_call(caller: str) -> None:
    """IRS-01."""
    lab = Two()
    assert lab.one(lab.originate("MESSAGE", BOB, sender=caller)).status == 200


@pytest.mark.parametrize("called", [IMPU, ALICE, TEL, "tel:+1-555-0001", "SIP:alice@IMS.example;user=phone"])
def test_any_member_of_a_set_may_be_called(called: str) -> None:
    """IRS-01: however it is written."""
    lab = Two()
    assert lab.one(lab.originate("MESSAGE", called, sender=BOB, route=lab.bob_route)).status == 200
    assert lab.delivered.uri == "sip:001010000000001@10.0.0.2:5062"
    assert lab.delivered.get("P-Called-Party-ID") == f"<{called}>"


def test_a_temporary_identity_cannot_call_nor_be_called() -> None:
    """IRS-03."""
    bench = Bench()
    bench.users.profile = profile(IMPU, ALICE, barred=[IMPU])
    route = str(bench.registered().service_route[0])
    headers = [("Route", route), ("P-Asserted-Identity", f"<{IMPU}>")]
    assert bench.one(sip_request("MESSAGE", ALICE, sender=IMPU, to=ALICE, headers=headers)).status == 403
    assert bench.one(sip_request("MESSAGE", IMPU, sender=BOB, to=IMPU, call_id="x")).status == 404


def test_a_caller_must_be_registered_by_the_route_he_takes() -> None:
    """24.229 5.4.3.2: a Service-Route is worth as much as its registration."""
    lab = Two()
    nobody = f"sip:nobody@{DOMAIN}"
    assert lab.one(lab.originate("MESSAGE", BOB, sender=nobody)).status == 403
    assert lab.one(lab.originate("MESSAGE", BOB, route=lab.bob_route, call_id="2")).status == 403
    assert lab.one(lab.originate("MESSAGE", BOB, route=STRANGE, call_id="3")).status == 403
    lab.one(lab.phone.register("yes", expires=0))
    assert lab.one(lab.originate("MESSAGE", BOB, call_id="4")).status == 403


def test_the_route_of_one_set_serves_all_sets_of_the_user() -> None:
    lab = Two(reauthenticate=False)
    work = f"sip:work@{DOMAIN}"
    lab.users.profile = profile(work)
    lab.one(Phone(impu=work, call_id="w").register("yes"))
    assert lab.one(lab.originate("MESSAGE", BOB, sender=work)).status == 200


def test_without_an_asserted_identity_from_counts() -> None:
    lab = Two()
    request = lab.originate("MESSAGE", BOB)
    request.remove("P-Asserted-Identity")
    assert lab.one(request).status == 200


@pytest.mark.parametrize(
    ("uri", "status"),
    [(f"sip:nobody@{DOMAIN}", 480), ("tel:+1999", 404), ("sip:x@unknown.example", 404), ("urn:service:sos", 404)],
)
def test_nobody_there(uri: str, status: int) -> None:
    lab = Two()
    assert lab.one(lab.originate("MESSAGE", uri)).status == status


def test_requests_for_our_own_host_end_here() -> None:
    lab = Two()
    assert lab.one(lab.originate("OPTIONS", f"sip:scscf.{DOMAIN}:5060")).status == 404
    assert lab.one(sip_request("OPTIONS", f"sip:{SCSCF}", sender=ALICE, to=f"sip:{SCSCF}")).status == 404


def test_the_preferred_contact_is_called_then_the_latest() -> None:
    """RFC 3261 16.6."""
    lab = Two()
    lab.registered(Phone(contact="<sip:alice@10.0.0.8>;q=0.9", call_id="8"))
    call = lab.originate("MESSAGE", ALICE, sender=BOB, route=lab.bob_route)
    lab.pcscf.got.clear()
    lab.one(call)
    assert lab.delivered.uri == "sip:001010000000001@10.0.0.2:5062"
    lab.wire.run(10.0)
    lab.registered(Phone(contact="<sip:alice@10.0.0.9>", call_id="9"))
    lab.pcscf.got.clear()
    lab.one(lab.originate("MESSAGE", ALICE, sender=BOB, route=lab.bob_route, call_id="again"))
    assert lab.delivered.uri == "sip:alice@10.0.0.9"


def test_a_user_of_another_network_is_looked_for_there() -> None:
    lab = Two()
    lab.wire.names["other.example"] = PCSCF.host
    assert lab.one(lab.originate("MESSAGE", "sip:carol@other.example")).status == 200
    assert lab.delivered.uri == "sip:carol@other.example"
    assert not lab.delivered.has("Route")


def test_no_hops_left() -> None:
    lab = Two()
    request = lab.originate("MESSAGE", BOB)
    request.set("Max-Forwards", "0")
    assert lab.one(request).status == 483


def test_an_unknown_extension_for_proxies_is_refused() -> None:
    lab = Two()
    response = lab.one(lab.originate("MESSAGE", BOB, headers=[("Proxy-Require", "foo")]))
    assert (response.status, response.unsupported) == (420, ["foo"])


# ---- by way of the I-CSCF


def test_a_user_of_ours_is_looked_up_at_the_icscf_and_comes_back() -> None:
    """Originating → I-CSCF → terminating: one Record-Route of ours, two Vias."""
    lab = Two(with_icscf=True)

    def back(request: Request) -> None:
        onward = request.copy()
        onward.prepend("Route", OWN)
        onward.prepend("Via", f"SIP/2.0/UDP {ICSCF};branch=z9hG4bKicscf")
        lab.icscf.send(SCSCF, onward)

    lab.icscf.answer = back
    lab.pcscf.answer = lambda request: None
    lab.send(lab.originate("INVITE", BOB, headers=[("Contact", "<sip:alice@10.0.0.2:5062>")]))
    request = lab.delivered
    assert request.uri == BOB_CONTACT
    assert request.rows("Route") == [BOB_PATH]
    assert request.rows("Record-Route") == [OWN]
    assert [via.host for via in request.via] == [SCSCF.host, ICSCF.host, SCSCF.host, PCSCF.host, "10.0.0.2"]


def test_a_telephone_number_is_looked_up_too() -> None:
    lab = Two(with_icscf=True)
    lab.one(lab.originate("MESSAGE", "tel:+1999"))
    (request,) = lab.icscf.requests
    assert request.uri == "tel:+1999"
    assert not request.has("Route")


# ---- calls


class Call(Two):
    """An INVITE from Alice to Bob on its way; Bob's side says what a test tells it."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.pcscf.answer = lambda request: [self.say(request, status) for status in statuses]
        self.invite = self.originate(
            "INVITE",
            BOB,
            headers=[("Contact", "<sip:alice@10.0.0.2:5062>"), ("Record-Route", "<sip:a@198.51.100.1;lr>")],
        )
        self.responses = self.send(self.invite)

    def say(self, request: Request, status: int) -> Response:
        headers = [("Record-Route", row) for row in request.rows("Record-Route")]
        return response_to(request, status, to_tag="bob", headers=[*headers, ("Contact", f"<{BOB_CONTACT}>")])

    def in_dialog(self, method: str, cseq: int, **more: Any) -> Request:
        """A request of Alice in the dialog, as the P-CSCF passes it on: its own route is off."""
        return sip_request(
            method,
            BOB_CONTACT,
            sender=ALICE,
            to=f"<{BOB}>;tag=bob",
            call_id="call-1",
            cseq=cseq,
            headers=[("Route", OWN), ("Route", BOB_PATH)],
            **more,
        )


def test_an_invite_is_record_routed_and_its_answers_come_back() -> None:
    call = Call(100, 180, 200)
    (request,) = (each for each in call.pcscf.requests if each.method == "INVITE")
    assert request.rows("Record-Route") == [OWN, "<sip:a@198.51.100.1;lr>"]
    assert [each.status for each in call.responses] == [100, 180, 200]
    assert call.responses[-1].rows("Record-Route") == [OWN, "<sip:a@198.51.100.1;lr>"]


def test_the_ack_of_a_200_goes_its_own_way() -> None:
    call = Call(200)
    call.pcscf.got.clear()
    assert call.send(call.in_dialog("ACK", 1)) == []
    ack = call.delivered
    assert (ack.method, ack.uri, ack.rows("Route")) == ("ACK", BOB_CONTACT, [BOB_PATH])
    assert ack.max_forwards == 68


def test_a_200_that_is_repeated_is_passed_on_again() -> None:
    """RFC 6026: until the ACK has come."""
    call = Call(200, 200)
    assert [each.status for each in call.responses] == [100, 200, 200]


def test_a_failure_is_acknowledged_here() -> None:
    """RFC 3261 17.1.1.3: and passed on."""
    call = Call(486)
    assert [each.status for each in call.responses] == [100, 486]
    methods = [each.method for each in call.pcscf.requests]
    assert methods == ["INVITE", "ACK"]


def test_a_bye_follows_the_route() -> None:
    call = Call(200)
    call.pcscf.got.clear()
    (response,) = call.send(call.in_dialog("BYE", 2))
    assert response.status == 200
    assert call.delivered.rows("Route") == [BOB_PATH]
    assert not call.delivered.has("Record-Route")


def test_a_bye_after_the_registration_has_ended() -> None:
    """A dialog does not need the registration that it began with."""
    call = Call(200)
    call.one(call.phone.register("yes", expires=0))
    call.pcscf.answer = lambda request: response_to(request, 200)
    call.pcscf.got.clear()
    assert call.one(call.in_dialog("BYE", 2)).status == 200


def test_a_cancel_follows_its_invite() -> None:
    """RFC 3261 9, 16.10: 200 for it here, and one of our own to Bob, with our own branch."""
    call = Call(180)
    branch = call.pcscf.requests[-1].via[0].branch
    cancel = call.originate("CANCEL", BOB)
    cancel.replace("Via", call.invite.rows("Via"))
    call.pcscf.got.clear()
    call.pcscf.answer = lambda request: response_to(request, 200)
    (response,) = call.send(cancel)
    assert (response.status, response.method) == (200, "CANCEL")
    (sent,) = call.pcscf.requests
    assert (sent.method, sent.uri, sent.via[0].branch) == ("CANCEL", BOB_CONTACT, branch)
    assert len(sent.via) == 1
    assert sent.cseq.number == 1


def test_a_dialog_that_ends_here_is_none() -> None:
    lab = Two()
    request = sip_request("BYE", f"sip:{SCSCF}", sender=ALICE, to=f"<{BOB}>;tag=x", headers=[("Route", OWN)])
    assert lab.one(request).status == 481


def test_an_ack_that_leads_here_is_dropped() -> None:
    lab = Two()
    for uri in (f"sip:{SCSCF}", "tel:+1", "sip:x@unknown.example"):
        assert lab.send(sip_request("ACK", uri, sender=ALICE, to=f"<{BOB}>;tag=x", call_id=uri)) == []
    assert lab.pcscf.requests == []


def test_a_malformed_ack_is_dropped() -> None:
    lab = Two()
    assert lab.send(sip_request("ACK", BOB, sender=ALICE, to=BOB, headers=[("Route", "nonsense")])) == []
    assert lab.one(lab.originate("MESSAGE", BOB)).status == 200


# ---- SUBSCRIBE


def test_a_subscribe_for_somebody_elses_package_is_passed_on() -> None:
    """EVT-18's counterpart: only the registrar's own package, and one's own, end here."""
    lab = Two()
    headers = [("Event", "presence"), ("Contact", "<sip:alice@10.0.0.2:5062>")]
    assert lab.one(lab.originate("SUBSCRIBE", BOB, headers=headers)).status == 200
    assert lab.delivered.uri == BOB_CONTACT
    assert lab.delivered.rows("Record-Route") == [OWN]
