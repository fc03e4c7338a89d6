"""Documents and NOTIFYs of the reg event package, seen by an XML parser that knows nothing of ours."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from imslab.roles.regevent import Gone, Subscription, elements
from imslab.roles.registrar import Binding, Identity, Registration
from imslab.sip.fields.address import Contact
from imslab.sip.reginfo import RegInfo, write_reginfo

A, B, C = "sip:a@ims.example", "sip:b@ims.example", "tel:+1"
NS = {"r": "urn:ietf:params:xml:ns:reginfo"}


def binding(number: int = 1, event: str = "registered", uri: str = "sip:ue@10.0.0.2:5062") -> Binding:
    return Binding(number, "a", Contact("", Contact.parse(f"<{uri}>").uri), 3600.0, 10.0, [], "call-1", 7, event)


def registration(*bindings: Binding, **more: Any) -> Registration:
    identities = (Identity(A, A), Identity(B, B), Identity(C, C, barred=True), Identity("sip:*@x", "sip:*@x", False))
    return Registration(A, identities, list(bindings), **more)


def subscription(**more: Any) -> Subscription:
    options: dict[str, Any] = {
        "registration": registration(binding()),
        "call_id": "sub",
        "local": f"<{A}>;tag=ours",
        "local_tag": "ours",
        "remote": "<sip:pcscf@x>;tag=theirs",
        "remote_tag": "theirs",
        "target": "sip:pcscf@x",
        "routes": ["<sip:r1;lr>", "<sip:r2;lr>"],
        "contact": "<sip:scscf>",
        "remote_cseq": 1,
        "event": "reg;id=9",
        **more,
    }
    return Subscription(**options)


def xml(found: list[Any]) -> ElementTree.Element:
    return ElementTree.fromstring(write_reginfo(RegInfo(3, "full", found)))


def test_a_document_of_two_identities() -> None:
    """EVT-12, EVT-13, EVT-14."""
    root = xml(elements(registration(binding()), 110.0))
    assert root.tag == "{urn:ietf:params:xml:ns:reginfo}reginfo"
    assert (root.get("version"), root.get("state")) == ("3", "full")
    told = root.findall("r:registration", NS)
    assert [(each.get("aor"), each.get("state")) for each in told] == [(A, "active"), (B, "active")]
    first, second = (each.find("r:contact", NS) for each in told)
    assert first is not None
    assert second is not None
    uri = first.find("r:uri", NS)
    assert uri is not None
    assert uri.text == "sip:ue@10.0.0.2:5062"
    assert {
        name: first.get(name) for name in ("state", "event", "expires", "duration-registered", "callid", "cseq")
    } == {
        "state": "active",
        "event": "registered",
        "expires": "3490",
        "duration-registered": "100",
        "callid": "call-1",
        "cseq": "7",
    }
    assert second.get("event") == "created"


def test_ids_are_stable_and_different() -> None:
    """EVT-12, RFC 3680 5.2: also where identities differ in signs only."""
    made = Registration(A, tuple(Identity(uri, uri) for uri in ("sip:a-b@x", "sip:a_b@x", "sip:a2d-b@x", "sip:ä@x")))
    made.bindings += [binding(1), binding(2)]
    one, other = (elements(made, now) for now in (0.0, 99.0))
    assert [each.id for each in one] == [each.id for each in other]
    ids = [each.id for each in one] + [contact.id for each in one for contact in each.contacts]
    assert len(set(ids)) == len(ids)
    assert all(each.isascii() for each in ids)


@pytest.mark.parametrize("event", ["refreshed", "shortened"])
def test_events_other_than_registered_are_told_of_all(event: str) -> None:
    found = elements(registration(binding(event=event)), 0.0)
    assert [each.contacts[0].event for each in found] == [event, event]


def test_an_identity_that_was_added_is_created() -> None:
    """IRS-05."""
    found = elements(registration(binding(event="refreshed"), added=frozenset({B})), 0.0)
    assert [each.contacts[0].event for each in found] == ["refreshed", "created"]


def test_bindings_that_have_gone_are_told_once() -> None:
    found = elements(registration(binding(1)), 0.0, [Gone(binding(2), "expired")])
    assert [[(each.state, each.event, each.expires) for each in one.contacts] for one in found] == [
        [("active", "registered", 3600), ("terminated", "expired", 0)],
        [("active", "created", 3600), ("terminated", "expired", 0)],
    ]
    assert {each.state for each in found} == {"active"}


def test_nothing_is_left() -> None:
    found = elements(registration(), 5000.0, [Gone(binding(), "rejected")])
    assert {(each.state, each.contacts[0].event) for each in found} == {("terminated", "rejected")}


def test_an_identity_that_has_been_dropped() -> None:
    """IRS-06."""
    found = elements(registration(binding()), 0.0, dropped=["sip:old@x"])
    assert [(each.aor, each.state) for each in found] == [(A, "active"), (B, "active"), ("sip:old@x", "terminated")]
    assert [(each.state, each.event) for each in found[-1].contacts] == [("terminated", "deactivated")]


def test_times_are_never_negative() -> None:
    (first, _) = elements(registration(binding()), 4000.0)
    assert first.contacts[0].expires == 0
    (first, _) = elements(registration(binding()), 0.0)
    assert first.contacts[0].duration_registered == 0


@pytest.mark.parametrize("uri", ["sip:a&b@x", "sip:a'b@x", "sip:\udcff@x", "sip:ä@x"])
def test_whatever_a_contact_is_the_document_is_xml(uri: str) -> None:
    made = registration(binding(uri=uri))
    made.bindings[0].call_id = 'a<b>&"\udc80\x01'
    contact = xml(elements(made, 0.0)).find("r:registration/r:contact", NS)
    assert contact is not None
    assert contact.get("callid") == 'a<b>&"\ufffd\ufffd'
    told = contact.find("r:uri", NS)
    assert told is not None
    assert told.text == uri.replace("\udcff", "\ufffd")


# ---- NOTIFY


def test_notify_goes_back_along_the_dialog() -> None:
    """EVT-11."""
    made = subscription()
    request = made.notify([], 99.6, None)
    assert (request.method, request.uri) == ("NOTIFY", "sip:pcscf@x")
    assert (request.get("From"), request.get("To")) == (made.local, made.remote)
    assert request.rows("Route") == made.routes
    assert request.get("Event") == "reg;id=9"
    assert str(request.subscription_state) == "active;expires=100"
    assert request.content_type == "application/reginfo+xml"
    assert (request.cseq.number, request.max_forwards, request.call_id) == (1, 70, "sub")


def test_cseq_and_version_rise() -> None:
    """EVT-11, EVT-12."""
    made = subscription()
    sent = [made.notify(elements(made.registration, 0.0), 10.0, None) for _ in range(3)]
    assert [each.cseq.number for each in sent] == [1, 2, 3]
    assert [ElementTree.fromstring(each.body).get("version") for each in sent] == ["0", "1", "2"]


def test_the_last_notify_says_why() -> None:
    """DER-14."""
    assert str(subscription().notify([], 10.0, "noresource").subscription_state) == "terminated;reason=noresource"


def test_time_that_has_run_out_is_zero() -> None:
    assert str(subscription().notify([], -1.0, None).subscription_state) == "active;expires=0"


def test_a_dialog_is_three_names() -> None:
    assert subscription().key == ("sub", "ours", "theirs")
