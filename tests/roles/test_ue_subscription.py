"""The UE's subscription to its registration state (24.229 5.1.1.3, 5.1.2.1; RFC 3680, RFC 6665). Documents by hand."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.roles.ue_sas import Standing
from imslab.roles.ue_states import State
from imslab.sip.message import Request
from tests.roles.test_ue import challenge, registered, say, silence
from tests.roles.ue_lab import IMPU, PCSCF_HOST, PORT_PS, UE_HOST, UeLab, in_set

ALICE = "sip:alice@ims.mnc001.mcc001.3gppnetwork.org"


def contact(lab: UeLab, state: str = "active", event: str = "registered", uri: str = "", **more: Any) -> str:
    """A contact element, ours unless told otherwise."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    where = uri or f"sip:001010000000001@{UE_HOST}:{lab.ue.contact.port}"
    return f'<contact id="c{len(uri)}" state="{state}" event="{event}"{attributes}><uri>{where}</uri></contact>'


def document(version: int, *registrations: tuple[str, str, str], state: str = "full") -> bytes:
    """A reginfo document; registrations: (aor, state, contact elements)."""
    inner = "".join(
        f'<registration aor="{aor}" id="r{len(aor)}" state="{each}">{contacts}</registration>'
        for aor, each, contacts in registrations
    )
    return (
        '<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" '
        f'version="{version}" state="{state}">{inner}</reginfo>'
    ).encode()


def notify(
    lab: UeLab,
    body: bytes = b"",
    *,
    state: str = "active;expires=600000",
    event: str | None = "reg",
    content_type: str = "application/reginfo+xml",
    tag: str = "network",
    **more: Any,
) -> Request:
    """A NOTIFY of the UE's latest subscription."""
    subscribe = lab.sent("SUBSCRIBE")[-1]
    headers = [("Subscription-State", state), ("Contact", "<sip:scscf.example.org>")]
    if event is not None:
        headers.append(("Event", event))
    if body:
        headers.append(("Content-Type", content_type))
    request = lab.pcscf.make(
        "NOTIFY",
        lab.ue.contact.port,
        headers,
        body,
        to=f"<{IMPU}>;tag={subscribe.from_.tag}",
        call_id=subscribe.call_id,
        **more,
    )
    request.set("From", f"<{IMPU}>;tag={tag}")
    return request


def tell(lab: UeLab, *args: Any, **more: Any) -> int:
    """Send a NOTIFY; the status of its answer."""
    lab.push_inside(notify(lab, *args, **more))
    answers = [answer for answer in lab.answers if answer.method == "NOTIFY"]
    return answers[-1].status


# -------------------------------------------------------------------------------------------------------- SUBSCRIBE


def test_subscribe() -> None:
    # EVT-01, EVT-02
    lab = registered()
    (request,) = lab.sent("SUBSCRIBE")
    assert request.uri == IMPU
    assert str(request.from_.uri) == str(request.to.uri) == IMPU
    assert request.from_.tag
    assert request.to.tag is None
    assert request.get("Event") == "reg"
    assert request.get("Expires") == "600000"
    assert request.get("Accept") == "application/reginfo+xml"
    assert request.contact[0].uri.port == lab.ue.sas.port_s
    assert request.rows("Route") == [f"<sip:{PCSCF_HOST}:{PORT_PS};lr>", "<sip:orig@scscf.example.org;lr>"]
    assert lab.sends("SUBSCRIBE")[0].flow.remote.port == PORT_PS
    assert "subscribed" in lab.emitted


def test_no_subscription_unless_wanted() -> None:
    lab = registered(subscribe=False)
    assert lab.sent("SUBSCRIBE") == []
    lab.command("subscribe")
    assert len(lab.sent("SUBSCRIBE")) == 1


@pytest.mark.parametrize(("granted", "due"), [(1800, 1200), (120, 60)])
def test_refresh_of_the_subscription(granted: int, due: float) -> None:
    # EVT-05
    lab = UeLab()
    lab.pcscf.granted = 600000
    lab.pcscf.next["SUBSCRIBE"] = [
        say(
            200,
            ("Expires", str(granted)),
            ("Contact", "<sip:s@s.example.org>"),
            ("Record-Route", "<sip:b;lr>, <sip:a;lr>"),
        )
    ]
    lab.register()
    lab.run(due - 0.01)
    assert len(lab.sent("SUBSCRIBE")) == 1
    lab.run(0.02)
    first, second = lab.sent("SUBSCRIBE")
    assert second.call_id == first.call_id
    assert second.cseq.number == first.cseq.number + 1
    assert second.to.tag == "network"
    assert second.uri == "sip:s@s.example.org"  # the remote target
    assert second.rows("Route") == ["<sip:a;lr>", "<sip:b;lr>"]  # RFC 3261 12.1.2: the route set, reversed
    assert second.has("Security-Verify")


def test_granted_longer_than_asked_for_counts_as_asked_for() -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(200, ("Expires", "4000000000"))]
    lab.register()
    assert lab.ue.alarm("subscription") == 600000 - 600


def test_lost_subscription_is_made_anew() -> None:
    # EVT-06
    lab = UeLab()
    lab.pcscf.granted = 600000
    lab.pcscf.next["SUBSCRIBE"] = [say(200, ("Expires", "120")), say(481)]
    lab.register()
    lab.run(60)
    first, refresh, new = lab.sent("SUBSCRIBE")
    assert refresh.call_id == first.call_id
    assert new.call_id != first.call_id
    assert new.to.tag is None
    assert new.uri == IMPU


@pytest.mark.parametrize("status", [503, 500, 480])
def test_retry_after_of_subscribe(status: int) -> None:
    # ERR-10
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(status, ("Retry-After", "300"))]
    lab.register()
    lab.command("reregister")  # does not subscribe either
    lab.run(299)
    assert len(lab.sent("SUBSCRIBE")) == 1
    lab.run(1)
    assert len(lab.sent("SUBSCRIBE")) == 2


@pytest.mark.parametrize("status", [408, 500, 504])
def test_trouble_is_retried_with_patience(status: int) -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(status)]
    lab.register()
    lab.run(59)
    assert len(lab.sent("SUBSCRIBE")) == 1
    lab.run(2)
    assert len(lab.sent("SUBSCRIBE")) == 2


@pytest.mark.parametrize("status", [403, 489, 481])
def test_refused_subscription(status: int) -> None:
    lab = UeLab()
    lab.pcscf.granted = 600000
    lab.pcscf.next["SUBSCRIBE"] = [say(status)]
    lab.register()
    lab.run(10000)
    assert len(lab.sent("SUBSCRIBE")) == 1
    assert not lab.ue.subscription.active
    assert "subscription-failed" in lab.emitted


def test_423_to_subscribe() -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(423, ("Min-Expires", "700000"))]
    lab.register()
    assert [request.get("Expires") for request in lab.sent("SUBSCRIBE")] == ["600000", "700000"]
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(423)]
    lab.register()
    assert len(lab.sent("SUBSCRIBE")) == 1


def test_malformed_answer_to_subscribe() -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(200, ("Contact", "<"))]
    lab.register()
    assert lab.emitted[-1] == "malformed"
    assert lab.state() is State.REGISTERED


def test_provisional_answer_to_subscribe() -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [say(100)]
    lab.register()
    assert "subscribed" not in lab.emitted


def test_unanswered_subscribe() -> None:
    lab = UeLab()
    lab.pcscf.next["SUBSCRIBE"] = [silence] * 20
    lab.register()
    lab.run(60)
    lab.push_inside(lab.pcscf.make("OPTIONS", 1))  # the SAs are alive
    lab.run(70)
    assert len(lab.sent("REGISTER")) == 2
    lab.pcscf.next["SUBSCRIBE"] = []
    lab.run(60)
    assert len({request.call_id for request in lab.sent("SUBSCRIBE")}) == 2
    assert lab.emitted[-1] == "subscribed"


def test_refresh_of_the_subscription_while_leaving() -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [silence]
    lab.command("deregister")
    lab.ue.set_alarm("subscription", 0)
    lab.run(0)
    assert len(lab.sent("SUBSCRIBE")) == 1


def test_answer_to_a_subscription_that_was_given_up() -> None:
    lab = UeLab()
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["SUBSCRIBE"] = [lambda fake, request, arrival: kept.append((request, arrival))]
    lab.register()
    lab.command("subscribe")
    assert lab.emitted[-1] == "subscribed"
    lab.pcscf.reply(*kept[0], 403)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.ue.subscription.active


def test_last_document_with_a_gap() -> None:
    lab = registered()
    body = document(7, (IMPU, "active", contact(lab)), state="partial")
    assert tell(lab, body, state="terminated;reason=noresource") == 200
    assert lab.ue.alarm("subscription") is None


def test_alarm_without_a_registration_does_nothing() -> None:
    lab = registered()
    lab.pcscf.rechallenge = False
    lab.command("deregister")
    count = len(lab.requests)
    lab.ue.set_alarm("subscription", 0)
    lab.run(1)
    assert len(lab.requests) == count


# ------------------------------------------------------------------------------------------------------------ NOTIFY


def test_notify_is_answered_and_applied() -> None:
    # EVT-04
    lab = registered()
    body = document(
        0,
        (IMPU, "active", contact(lab)),
        (ALICE, "active", contact(lab)),
        ("tel:+15550001", "active", contact(lab)),
    )
    assert tell(lab, body) == 200
    assert set(lab.ue.subscription.contacts) == {IMPU, ALICE, "tel:+15550001"}
    assert lab.ue.subscription.version == 0
    assert lab.state() is State.REGISTERED
    assert lab.emitted[-1] == "notify"


def test_notify_before_the_answer_to_subscribe() -> None:
    # EVT-22
    lab = UeLab()
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["SUBSCRIBE"] = [lambda fake, request, arrival: kept.append((request, arrival))]
    lab.register()
    assert tell(lab, document(0, (IMPU, "active", contact(lab)))) == 200
    lab.pcscf.reply(*kept[0], 200, [("Expires", "120"), ("Record-Route", "<sip:x;lr>")])
    lab.wire.give(lab.pcscf, ev.Timer())
    lab.run(60)
    assert lab.sent("SUBSCRIBE")[1].to.tag == "network"
    assert lab.sent("SUBSCRIBE")[1].uri == "sip:scscf.example.org"
    assert lab.sent("SUBSCRIBE")[1].rows("Route") == []  # of the NOTIFY, which made the dialog


def test_versions() -> None:
    # EVT-07, EVT-08
    lab = registered()
    assert tell(lab, document(5, (IMPU, "active", contact(lab)))) == 200
    for version in (5, 4, 0):
        assert tell(lab, document(version, (IMPU, "terminated", contact(lab, "terminated", "rejected")))) == 200
    assert lab.state() is State.REGISTERED
    # The next one, partial: only what it lists changes.
    partial = document(6, (ALICE, "active", contact(lab)), state="partial")
    assert tell(lab, partial) == 200
    assert set(lab.ue.subscription.contacts) == {IMPU, ALICE}
    # A gap leads to a refresh, and is not applied.
    count = len(lab.sent("SUBSCRIBE"))
    gap = document(8, (IMPU, "terminated", contact(lab, "terminated", "rejected")), state="partial")
    assert tell(lab, gap) == 200
    assert lab.ue.subscription.version == 6
    lab.run(0)
    assert len(lab.sent("SUBSCRIBE")) == count + 1
    # A full one may leap, and replaces everything.
    assert tell(lab, document(9, ("tel:+15550001", "active", contact(lab)))) == 200
    assert set(lab.ue.subscription.contacts) == {"tel:+15550001"}


def test_unknown_elements_are_ignored() -> None:
    # EVT-09
    lab = registered()
    body = document(0, (IMPU, "active", contact(lab))).replace(b"</reginfo>", b'<x:y xmlns:x="urn:z">1</x:y></reginfo>')
    assert tell(lab, body) == 200
    assert lab.ue.subscription.version == 0


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"body": b"<reginfo"}, 400),
        ({"body": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}, 400),  # MAL-17
        ({"body": b"<a>" * 5000 + b"</a>" * 5000}, 400),
        ({"body": b"x", "content_type": "text/plain"}, 415),
        ({"event": "presence"}, 489),
        ({"event": None}, 489),
        ({"state": ";"}, 400),
        ({"tag": "stranger"}, 481),
        ({}, 200),
    ],
)
def test_notify_that_is_not_as_it_should_be(more: dict[str, Any], status: int) -> None:
    lab = registered()
    assert tell(lab, **more) == status
    assert lab.state() is State.REGISTERED
    assert tell(lab, document(0, (IMPU, "active", contact(lab)))) == 200


def test_notify_of_another_dialog() -> None:
    lab = registered()
    request = notify(lab)
    request.set("Call-ID", "other")
    lab.push_inside(request)
    assert lab.answers[-1].status == 481
    request = notify(lab)
    request.set("To", f"<{IMPU}>;tag=other")
    lab.push_inside(request)
    assert lab.answers[-1].status == 481


def test_last_notify_after_the_registration_has_ended() -> None:
    """The 200 to the de-registration and the last NOTIFY take different ways: the NOTIFY may come second."""
    lab = registered()
    assert tell(lab, document(0, (IMPU, "active", contact(lab)))) == 200
    request = notify(lab, state="terminated;reason=noresource", cseq=9)
    stranger = notify(lab, cseq=10)
    stranger.set("Call-ID", "other")
    sas = lab.ue.sas.established
    assert sas is not None
    lab.command("deregister")
    assert lab.state() is State.IDLE
    lab.push(in_set(sas), request)
    assert lab.answers[-1].status == 200
    assert lab.state() is State.IDLE
    assert not lab.ue.subscription.active
    lab.push(in_set(sas), stranger)
    assert lab.answers[-1].status == 481
    lab.run(1000)
    assert len(lab.sent("SUBSCRIBE")) == 1


def test_notify_out_of_order() -> None:
    lab = registered()
    assert tell(lab, cseq=10) == 200
    assert tell(lab, cseq=9) == 500


def test_notifier_may_shorten_the_subscription() -> None:
    lab = registered()
    assert tell(lab, state="active;expires=120") == 200
    assert lab.ue.alarm("subscription") == 60
    assert tell(lab, state="active;expires=100000") == 200
    assert lab.ue.alarm("subscription") == 60
    assert tell(lab, state="active") == 200
    assert lab.ue.alarm("subscription") == 60


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("terminated;reason=deactivated", 1),
        ("terminated;reason=timeout", 1),
        ("terminated;reason=probation;retry-after=77", 77),
        ("terminated;reason=giveup", 60),
        ("terminated", 60),
        ("terminated;reason=noresource", None),
        ("terminated;reason=rejected", None),
    ],
)
def test_end_of_the_subscription(state: str, again: float | None) -> None:
    lab = registered()
    first = lab.sent("SUBSCRIBE")[0]
    assert tell(lab, state=state) == 200
    assert lab.emitted[-1] == "subscription-ended"
    assert lab.ue.alarm("subscription") == again
    if again is not None:
        lab.run(again)
        assert lab.sent("SUBSCRIBE")[1].call_id != first.call_id
    assert lab.state() is State.REGISTERED


# ------------------------------------------------------------------------------- what the documents mean for us


def ended(lab: UeLab, event: str, **more: Any) -> int:
    gone = contact(lab, "terminated", event, **more)
    body = document(1, (IMPU, "terminated", gone), (ALICE, "terminated", gone))
    return tell(lab, body, state="terminated;reason=noresource")


@pytest.mark.parametrize("event", ["rejected", "unregistered"])
def test_rejected_ends_the_registration_for_good(event: str) -> None:
    # DER-17
    lab = registered()
    lab.command("call", to="sip:bob@example.org")
    assert ended(lab, event) == 200
    assert lab.state() is State.IDLE
    assert lab.ue.registration is None
    assert len(lab.ue.calls) == 0
    # The SAs go when the transaction of the NOTIFY is over: a repetition is still answered.
    assert [each.standing for each in lab.ue.sets.values()] == [Standing.ENDING]
    count = len(lab.answers)
    ending = next(iter(lab.ue.sets.values()))
    repeated = next(
        e.octets
        for _, who, e in reversed(lab.wire.log)
        if who == "pcscf0" and isinstance(e, fx.Send)
        if e.octets.startswith(b"NOTIFY")
    )
    lab.push(in_set(ending), repeated)
    assert len(lab.answers) == count + 1
    lab.run(128)
    assert lab.ue.sets == {}
    lab.run(100000)
    assert len(lab.sent("REGISTER")) == 2


def test_deactivated_wants_a_new_registration() -> None:
    # DER-18
    lab = registered()
    assert ended(lab, "deactivated") == 200
    assert lab.state() is State.REGISTERED
    third = lab.sent("REGISTER")[2]
    assert lab.sends("REGISTER")[2].flow.remote.port == 5060
    assert third.call_id != lab.sent("REGISTER")[0].call_id
    assert len(lab.sent("SUBSCRIBE")) == 2


def test_probation_wants_it_later() -> None:
    # DER-19
    lab = registered(pcscfs=2)
    assert ended(lab, "probation", retry_after=200) == 200
    assert lab.state() is State.WAITING
    lab.run(199)
    assert len(lab.sent("REGISTER")) == 2
    lab.run(2)
    assert lab.state() is State.REGISTERED
    assert lab.ue.pcscf.host == PCSCF_HOST


@pytest.mark.parametrize("event", ["expired", "probation"])
def test_probation_without_a_time(event: str) -> None:
    lab = registered()
    assert ended(lab, event) == 200
    assert lab.state() is State.WAITING
    lab.run(60)
    assert lab.state() is State.REGISTERED


def test_shortened_means_a_sooner_refresh() -> None:
    # RER-11, RER-12
    lab = registered()
    body = document(0, (IMPU, "active", contact(lab, event="shortened", expires=100)))
    assert tell(lab, body) == 200
    assert lab.ue.registration is not None
    assert lab.ue.registration.expires_at == 100
    lab.run(49)
    assert len(lab.sent("REGISTER")) == 2
    lab.run(2)
    assert len(lab.sent("REGISTER")) == 4
    assert lab.ue.registration.expires_at == 3650


def test_one_identity_gone_is_not_the_end() -> None:
    lab = registered()
    body = document(0, (IMPU, "active", contact(lab)), (ALICE, "terminated", contact(lab, "terminated", "rejected")))
    assert tell(lab, body) == 200
    assert lab.state() is State.REGISTERED


def test_other_contacts_are_none_of_ours() -> None:
    lab = registered()
    others = "".join(
        contact(lab, "terminated", "rejected", uri)
        for uri in ("sip:001010000000001@192.0.2.77:1", f"sip:x@{UE_HOST}:9", "sip:ue.example.org", "mailto:x", "?")
    )
    assert tell(lab, document(0, (IMPU, "terminated", others))) == 200
    assert lab.state() is State.REGISTERED


def test_registration_without_contacts_ends_those_known_before() -> None:
    lab = registered()
    assert tell(lab, document(0, (IMPU, "active", contact(lab)))) == 200
    assert tell(lab, document(1, (IMPU, "terminated", ""), state="partial")) == 200
    assert lab.state() is State.IDLE


def test_end_while_a_refresh_is_under_way() -> None:
    for event, state in (("rejected", State.IDLE), ("probation", State.WAITING)):
        for before in ([], [challenge()]):
            lab = registered()
            lab.pcscf.next["REGISTER"] = [*before, silence]
            lab.command("reregister")
            assert ended(lab, event) == 200
            assert lab.state() is state
            assert all(each.standing is Standing.ENDING for each in lab.ue.sets.values())


def test_end_while_we_leave_is_ours_to_finish() -> None:
    # LIF-20 seen from the UE: NOTIFY(terminated) races the 200
    lab = registered()
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["REGISTER"] = [lambda fake, request, arrival: kept.append((request, arrival))]
    lab.command("deregister")
    assert ended(lab, "unregistered") == 200
    assert lab.state() is State.LEAVING
    lab.pcscf.reply(*kept[0], 200)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.IDLE
