"""The S-CSCF as notifier: catalogue area P (EVT-10 … EVT-19), and DER-14."""

from __future__ import annotations

import pytest

from imslab.roles.scscf_regevent import SUBSCRIPTION_MAX, WATCHERS_MAX
from imslab.sip.message import Request, response_to
from tests.roles.core_bench import ALICE, DOMAIN, IMPU, PCSCF, SCSCF, TEL, profile, sip_request
from tests.roles.scscf_bench import CONTACT, Bench, Phone, states

URI = "sip:001010000000001@10.0.0.2:5062"
OTHER = "sip:001010000000001@10.0.0.7:5062"


def subscribed(**config: object) -> Bench:
    bench = Bench(reauthenticate=False, **config)
    bench.registered()
    assert bench.subscribe().status == 200
    return bench


def again(bench: Bench, cseq: int, expires: int | None, *, tag: str = "", sender: str = "uetag") -> int:
    """A SUBSCRIBE in the dialog of the last NOTIFY; the status of its answer."""
    notify = bench.notifies[-1]
    response = bench.subscribe(
        to=f"<{IMPU}>;tag={tag or notify.from_.tag}",
        uri=str(notify.contact[0].uri),
        call_id=notify.call_id,
        cseq=cseq,
        expires=expires,
        tag=sender,
    )
    return response.status


def test_a_subscribe_is_granted_and_told_at_once() -> None:
    """EVT-10."""
    bench = Bench()
    bench.registered()
    response = bench.subscribe(expires=1000)
    assert (response.status, response.expires) == (200, 1000)
    assert response.to.tag
    assert response.contact[0].uri.host == SCSCF.host
    (notify,) = bench.notifies
    assert str(notify.subscription_state) == "active;expires=1000"
    assert (notify.event.package, notify.content_type) == ("reg", "application/reginfo+xml")  # type: ignore[union-attr]
    assert bench.told[0].state == "full"


@pytest.mark.parametrize(("asked", "granted"), [(None, SUBSCRIPTION_MAX), (1_200_000, SUBSCRIPTION_MAX), (1, 1)])
def test_the_time_that_is_granted(asked: int | None, granted: int) -> None:
    """EVT-10: never more than was asked for."""
    bench = Bench()
    bench.registered()
    assert bench.subscribe(expires=asked).expires == granted


def test_a_user_watches_himself_by_any_identity() -> None:
    """EVT-10: through his Service-Route, as his phone does."""
    bench = Bench()
    route = str(bench.registered().service_route[0])
    headers = [("Route", route), ("Record-Route", "<sip:token1@198.51.100.1;lr>")]
    assert bench.subscribe(ALICE, sender=IMPU, headers=headers).status == 200
    (notify,) = bench.notifies
    assert notify.rows("Route") == ["<sip:token1@198.51.100.1;lr>"]


def test_notify_is_a_request_of_the_dialog() -> None:
    """EVT-11: identities and tags of the SUBSCRIBE turned round, the subscriber's contact, its route set in order."""
    bench = Bench()
    bench.registered()
    routes = ["<sip:token1@198.51.100.1:5060;lr>", "<sip:other.example;lr>"]
    headers = [("Record-Route", route) for route in routes]
    response = bench.subscribe(headers=headers, event='reg;id="7"')
    bench.registered()
    first, second = bench.notifies
    for notify in (first, second):
        assert notify.uri == f"sip:{PCSCF}"
        assert str(notify.from_) == str(response.to)
        assert str(notify.to) == str(response.from_)
        assert notify.call_id == response.call_id
        assert notify.rows("Route") == routes
        assert notify.get("Event") == 'reg;id="7"'
    assert [each.cseq.number for each in (first, second)] == [1, 2]


def test_versions_rise_and_ids_stay() -> None:
    """EVT-12: from 0, one by one, for each subscription."""
    bench = subscribed()
    for _ in range(3):
        bench.one(bench.phone.register("yes"))
    bench.subscribe(call_id="sub-2")
    assert [each.version for each in bench.told] == [0, 1, 2, 3, 0]
    ids = [[(each.aor, each.id, [c.id for c in each.contacts]) for each in info.registrations] for info in bench.told]
    assert all(each == ids[0] for each in ids)
    assert len({each for row in ids[0] for each in (row[1], *row[2])}) == 6


def test_every_usable_identity_is_told() -> None:
    """EVT-13."""
    bench = Bench()
    bench.users.profile = profile(IMPU, ALICE, TEL, f"sip:secret@{DOMAIN}", barred=[f"sip:secret@{DOMAIN}"])
    bench.registered()
    bench.subscribe()
    told = states(bench.told[0])
    assert list(told) == [IMPU, ALICE, TEL]
    assert {(state, contacts[0][0]) for state, contacts in told.values()} == {("active", URI)}


def test_what_was_asked_for_is_registered_and_the_rest_created() -> None:
    """EVT-14; after a refresh both are refreshed."""
    bench = subscribed()
    bench.one(bench.phone.register("yes"))
    first, second = (states(info) for info in bench.told)
    assert [first[each][1][0][2] for each in (IMPU, ALICE, TEL)] == ["registered", "created", "created"]
    assert [second[each][1][0][2] for each in (IMPU, ALICE, TEL)] == ["refreshed"] * 3


def test_all_contacts_are_told() -> None:
    """EVT-15: each with its own time and event."""
    bench = subscribed()
    bench.wire.run(100.0)
    bench.registered(Phone(contact=f"<{OTHER}>", call_id="second"), expires=600)
    contacts = bench.told[-1].registrations[0].contacts
    assert [(each.uri, each.expires, each.event, each.duration_registered) for each in contacts] == [
        (URI, 3500, "registered", 100),
        (OTHER, 600, "registered", 0),
    ]
    assert [(each.callid, each.cseq) for each in contacts] == [("reg-1@10.0.0.2", 2), ("second", 2)]


def test_changes_are_told() -> None:
    """EVT-16: a refresh, a contact that goes, a contact that comes."""
    bench = subscribed()
    bench.registered(Phone(contact=f"<{OTHER}>", call_id="second"))
    bench.one(bench.phone.register("yes"))
    bench.one(bench.phone.register("yes", expires=0))
    events = [[each[1:] for each in states(info)[IMPU][1]] for info in bench.told]
    assert events == [
        [("active", "registered")],
        [("active", "registered"), ("active", "registered")],
        [("active", "registered"), ("active", "refreshed")],
        [("active", "registered"), ("terminated", "unregistered")],
    ]


@pytest.mark.parametrize("stranger", [f"sip:mallory@{DOMAIN}", "sip:proxy.example", "tel:+1999"])
def test_strangers_do_not_watch(stranger: str) -> None:
    """EVT-17."""
    bench = Bench()
    bench.registered()
    assert bench.subscribe(sender=stranger).status == 403
    assert bench.notifies == []


def test_another_registered_user_does_not_watch() -> None:
    """EVT-17: by his own Service-Route."""
    bench = Bench()
    bench.registered()
    mallory = f"sip:mallory@{DOMAIN}"
    bench.users.profile = profile(mallory)
    phone = Phone(f"mallory@{DOMAIN}", mallory, "<sip:mallory@10.0.0.66>", "m", "<sip:other.example;lr>")
    route = str(bench.registered(phone).service_route[0])
    assert bench.subscribe(sender=mallory, headers=[("Route", route)]).status == 403


@pytest.mark.parametrize("event", ["foo", ""])
def test_other_events_are_refused(event: str) -> None:
    """EVT-18: with what there is instead; no Event at all is no better."""
    bench = Bench()
    route = str(bench.registered().service_route[0])
    response = bench.subscribe(sender=IMPU, event=event, headers=[("Route", route)])
    assert (response.status, response.allow_events) == (489, ["reg"])


def test_a_fetch_gets_one_notify() -> None:
    """EVT-19."""
    bench = Bench()
    bench.registered()
    response = bench.subscribe(expires=0)
    assert (response.status, response.expires) == (200, 0)
    (notify,) = bench.notifies
    assert str(notify.subscription_state) == "terminated;reason=timeout"
    assert states(bench.told[0])[IMPU][0] == "active"
    bench.registered()
    assert len(bench.notifies) == 1
    assert bench.box._dialogs == bench.box._watchers == {}


def test_a_subscription_is_refreshed_in_its_dialog() -> None:
    bench = subscribed()
    assert again(bench, 2, 100) == 200
    assert [each.version for each in bench.told] == [0, 1]
    assert str(bench.notifies[-1].subscription_state) == "active;expires=100"
    bench.wire.run(99.0)
    assert len(bench.notifies) == 2
    bench.wire.run(101.0)
    assert str(bench.notifies[-1].subscription_state) == "terminated;reason=timeout"
    assert again(bench, 3, 100) == 481


def test_a_subscription_is_ended_by_the_subscriber() -> None:
    """EVT-19."""
    bench = subscribed()
    assert again(bench, 2, 0) == 200
    assert bench.notifies[-1].subscription_state.state == "terminated"  # type: ignore[union-attr]
    assert again(bench, 3, 100) == 481


def test_a_refresh_may_come_from_elsewhere() -> None:
    """RFC 3261 12.2.2: the target is refreshed."""
    bench = subscribed()
    notify = bench.notifies[-1]
    request = sip_request(
        "SUBSCRIBE",
        str(notify.contact[0].uri),
        sender=f"sip:{PCSCF}",
        to=str(notify.from_),
        call_id="sub-1",
        cseq=2,
        headers=[("Event", "reg"), ("Contact", f"<sip:elsewhere@{PCSCF}>")],
    )
    assert bench.one(request).status == 200
    assert bench.notifies[-1].uri == f"sip:elsewhere@{PCSCF}"


def test_a_refresh_need_not_say_where_it_comes_from() -> None:
    bench = subscribed()
    notify = bench.notifies[-1]
    request = sip_request(
        "SUBSCRIBE",
        str(notify.contact[0].uri),
        sender=f"sip:{PCSCF}",
        to=str(notify.from_),
        call_id="sub-1",
        cseq=2,
        headers=[("Event", "reg")],
    )
    assert bench.one(request).status == 200
    assert bench.notifies[-1].uri == f"sip:{PCSCF}"


def test_those_who_watch_come_and_go_one_by_one() -> None:
    bench = subscribed()
    bench.subscribe(call_id="sub-2", expires=10)
    bench.wire.run(11.0)
    bench.one(bench.phone.register("yes"))
    assert [each.call_id for each in bench.notifies] == ["sub-1", "sub-2", "sub-2", "sub-1"]


def test_an_old_subscribe_is_refused() -> None:
    """RFC 3261 12.2.2."""
    bench = subscribed()
    assert again(bench, 1, 100) == 500
    assert len(bench.notifies) == 1


@pytest.mark.parametrize(("tag", "sender"), [("wrong", "uetag"), ("", "wrong")])
def test_a_subscribe_in_no_dialog_of_ours(tag: str, sender: str) -> None:
    bench = subscribed()
    assert again(bench, 2, 100, tag=tag, sender=sender) == 481


def test_the_last_notify_closes_the_subscription() -> None:
    """DER-14."""
    bench = subscribed()
    bench.one(bench.phone.register("yes", expires=0))
    assert str(bench.notifies[-1].subscription_state) == "terminated;reason=noresource"
    assert states(bench.told[-1])[IMPU] == ("terminated", [(URI, "terminated", "unregistered")])
    bench.registered()
    assert len(bench.notifies) == 2


@pytest.mark.parametrize("status", [481, 404, 501])
def test_a_subscriber_that_knows_nothing_is_forgotten(status: int) -> None:
    """RFC 6665 4.2.2."""
    bench = subscribed()
    bench.pcscf.answer = lambda request: response_to(request, status)
    bench.one(bench.phone.register("yes"))
    assert bench.box._dialogs == bench.box._watchers == {}
    bench.one(bench.phone.register("yes"))
    assert len(bench.notifies) == 2


def test_a_subscriber_that_is_silent_is_forgotten() -> None:
    """RFC 6665 4.2.2."""
    bench = subscribed()
    bench.pcscf.answer = lambda request: None
    bench.send(bench.phone.register("yes"))
    bench.wire.run(40.0)
    assert bench.box._dialogs == {}


def test_a_subscriber_in_trouble_is_kept() -> None:
    bench = subscribed()
    bench.pcscf.answer = lambda request: response_to(request, 503)
    bench.one(bench.phone.register("yes"))
    assert len(bench.box._dialogs) == 1


def test_a_subscriber_without_an_address_is_forgotten() -> None:
    bench = Bench()
    bench.registered()
    assert bench.subscribe(headers=[("Record-Route", "<sip:nowhere.example;lr>")]).status == 200
    assert "unresolved" in bench.wire.emitted("scscf")
    assert bench.box._dialogs == {}


@pytest.mark.parametrize("contact", [None, "*", "<tel:+1>"])
def test_a_subscribe_needs_an_address(contact: str | None) -> None:
    bench = Bench()
    bench.registered()
    headers = [("Event", "reg"), ("P-Asserted-Identity", f"<{IMPU}>")]
    headers += [("Contact", contact)] if contact else []
    assert bench.one(sip_request("SUBSCRIBE", IMPU, sender=IMPU, to=IMPU, headers=headers)).status == 400
    assert bench.box._dialogs == {}


def test_only_so_many_may_watch() -> None:
    """The memory of one user is bounded, whatever his phone does."""
    bench = Bench()
    bench.registered()
    for number in range(WATCHERS_MAX):
        assert bench.subscribe(call_id=f"sub-{number}").status == 200
    assert bench.subscribe(call_id="one-too-many").status == 503


def test_users_are_told_of_themselves_only() -> None:
    bench = subscribed()
    bob = f"sip:bob@{DOMAIN}"
    bench.users.profile = profile(bob)
    bench.registered(Phone(f"bob@{DOMAIN}", bob, "<sip:bob@10.0.0.3>", "bob"))
    assert len(bench.notifies) == 1
    bench.subscribe(bob, call_id="sub-bob")
    assert list(states(bench.told[-1])) == [bob]


def test_what_a_phone_wrote_cannot_break_the_document() -> None:
    """A Call-ID of odd octets, markup in a contact: the XML stays XML."""
    bench = Bench()
    evil = "<sip:a&b'@10.0.0.2;x=%3Cy%3E>"
    nonce = bench.challenge(contacts=[evil], call_id="x<&>'%")
    assert bench.answer(nonce, contacts=[evil], call_id="x<&>'%").status == 200
    bench.subscribe()
    (contact,) = bench.told[0].registrations[0].contacts
    assert (contact.uri, contact.callid) == ("sip:a&b'@10.0.0.2;x=%3Cy%3E", "x<&>'%")
    request = bench.phone.register(contacts=[CONTACT])
    octets = request.encode().replace(b"@10.0.0.2:5062>", b"\xff\xfe@10.0.0.2:5062>")
    (challenge,) = bench.send(octets)
    assert challenge.status in (400, 401)


def test_octets_that_are_no_text_become_a_sign() -> None:
    bench = Bench()
    bench.phone.contact = "<sip:\udcff@10.0.0.2:5062>"
    bench.registered()
    bench.subscribe()
    assert bench.told[0].registrations[0].contacts[0].uri == "sip:\ufffd@10.0.0.2:5062"


def test_asserted_identities_are_read_before_anything_is_done() -> None:
    bench = Bench()
    bench.registered()
    request: Request = sip_request("SUBSCRIBE", IMPU, sender=IMPU, to=IMPU, headers=[("Event", "reg;=")])
    assert bench.one(request).status == 400
