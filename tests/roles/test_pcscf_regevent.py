"""The P-CSCF as a subscriber of the registration state (catalogue O, P; RFC 3680, RFC 6665)."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core.flow import Endpoint
from imslab.sip.message import Request, Response, response_to
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, Registration, write_reginfo
from tests.roles.pcscf_bench import CORE, IMPI, IMPU, MW, SERVICE_ROUTE, TEL, UE, Bench, Sas

CONTACT = f"sip:ue@{UE}:40002"
SECOND = "sip:second@ims.example"


def watching(**config: Any) -> tuple[Bench, Sas, Request]:
    """A registered UE, and the P-CSCF's SUBSCRIBE for it."""
    bench = Bench(subscribe=True, **config)
    sas = bench.registered()
    return bench, sas, bench.core.requests("SUBSCRIBE")[-1]


def accept(bench: Bench, subscribe: Request, expires: int = 600000) -> None:
    bench.from_core(
        response_to(
            subscribe,
            200,
            to_tag="notifier",
            headers=[
                ("Record-Route", "<sip:far@198.51.100.2:5060;lr>, <sip:near@198.51.100.2:5060;lr>"),
                ("Contact", "<sip:reg@198.51.100.2:5060>"),
                ("Expires", str(expires)),
            ],
        )
    )


def registration(aor: str, state: str = "active", contact: str = CONTACT, **changes: Any) -> Registration:
    contact_state = "terminated" if state == "terminated" else "active"
    event = changes.pop("event", "rejected" if state == "terminated" else "registered")
    return Registration(aor, f"a{aor}", state, [RegContact(contact, f"c{aor}", contact_state, event, **changes)])


def notify(
    bench: Bench,
    subscribe: Request,
    version: int,
    registrations: list[Registration],
    *,
    state: str = "active",
    document: str = "full",
    body: bytes | None = None,
    tag: str | None = None,
) -> Response:
    """Send a NOTIFY in the subscription's dialog; the answer."""
    bench.branch += 1
    bench.cseq += 1
    tag = tag or subscribe.from_.tag or ""
    request = Request(
        "NOTIFY",
        bench.config.uri,
        [
            ("Via", f"SIP/2.0/UDP {CORE};branch=z9hG4bKn{bench.branch}"),
            ("Max-Forwards", "70"),
            ("From", f"<{IMPU}>;tag=notifier"),
            ("To", f"<{bench.config.uri}>;tag={tag}"),
            ("Call-ID", subscribe.call_id),
            ("CSeq", f"{bench.cseq} NOTIFY"),
            ("Event", "reg"),
            ("Subscription-State", state),
            ("Content-Type", CONTENT_TYPE),
        ],
        write_reginfo(RegInfo(version, document, registrations)) if body is None else body,
    )
    bench.from_core(request)
    return bench.core.responses()[-1]


def identities(bench: Bench) -> list[str]:
    return [str(uri) for uri in next(iter(bench.pcscf.contacts.values())).identities]


# ---- subscribing


def test_the_subscribe_says_who_asks_for_whom() -> None:
    bench, _, subscribe = watching()
    assert subscribe.uri == IMPU
    assert str(subscribe.to.uri) == IMPU
    assert str(subscribe.from_.uri) == bench.config.uri
    assert [str(each.uri) for each in subscribe.p_asserted_identity] == [bench.config.uri]
    assert subscribe.event is not None
    assert subscribe.event.package == "reg"
    assert subscribe.accept == [CONTENT_TYPE]
    assert (subscribe.expires or 0) > 600000
    assert str(subscribe.contact[0].uri) == bench.config.uri
    assert bench.core.got[-1].flow.remote == MW
    assert subscribe.via[0].sent_by == str(MW)


def test_it_comes_once_for_each_private_identity_after_the_200() -> None:
    bench, sas, _ = watching()
    kinds = [type(m).__name__ + m.method for m in bench.core.messages()]
    assert kinds[-1] == "RequestSUBSCRIBE"
    bench.registered(under=sas)
    assert len(bench.core.requests("SUBSCRIBE")) == 1
    bench.registered(Sas(41001, 41002, 71, 72), impi="other@ims.example")
    assert len(bench.core.requests("SUBSCRIBE")) == 2


def test_no_subscription_where_nobody_wants_one() -> None:
    bench = Bench(subscribe=False)
    bench.registered()
    assert bench.core.requests("SUBSCRIBE") == []


def test_it_is_refreshed_in_time_inside_its_dialog() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe, 2000)
    bench.registered(under=sas, expires=100000)
    bench.wire.run(1399.0)
    assert len(bench.core.requests("SUBSCRIBE")) == 1
    bench.wire.run(1400.1)
    again = bench.core.requests("SUBSCRIBE")[-1]
    assert again.call_id == subscribe.call_id
    assert again.to.tag == "notifier"
    assert again.cseq.number == subscribe.cseq.number + 1
    assert again.uri == "sip:reg@198.51.100.2:5060"
    assert [each.uri.user for each in again.route] == ["near", "far"]
    bench.from_core(response_to(again, 200, headers=[("Expires", "1000")]))
    bench.wire.run(1899.0)
    assert len({each.cseq.number for each in bench.core.requests("SUBSCRIBE")}) == 2
    bench.wire.run(1902.0)  # half of a short one
    assert len({each.cseq.number for each in bench.core.requests("SUBSCRIBE")}) == 3


def test_a_refused_refresh_begins_anew_and_a_refused_beginning_does_not() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe, 1000)
    bench.registered(under=sas, expires=100000)
    bench.wire.run(500.1)
    bench.from_core(response_to(bench.core.requests("SUBSCRIBE")[-1], 481))
    bench.wire.run(529.0)
    assert bench.core.requests("SUBSCRIBE")[-1].call_id == subscribe.call_id
    bench.wire.run(531.0)
    fresh = bench.core.requests("SUBSCRIBE")[-1]
    assert fresh.call_id != subscribe.call_id
    assert fresh.to.tag is None
    assert fresh.uri == IMPU
    bench.from_core(response_to(fresh, 403, to_tag="n"))
    bench.wire.run(1000.0)
    assert bench.core.requests("SUBSCRIBE")[-1].call_id == fresh.call_id
    assert bench.pcscf.subscriptions == {}
    assert "subscription-failed" in bench.wire.emitted("pcscf")


def test_silence_is_a_refusal() -> None:
    bench, _, _ = watching()
    bench.wire.run(40.0)
    assert bench.pcscf.subscriptions == {}
    bench = Bench(subscribe=True, icscf=(CORE, Endpoint("nobody.example", 5060)))
    bench.pcscf.config = type(bench.config)(gm=bench.gm, mw=MW, icscf=(Endpoint("nobody.example", 5060), CORE))
    bench.registered()
    assert bench.pcscf.subscriptions == {}


def test_provisional_answers_change_nothing() -> None:
    bench, _, subscribe = watching()
    bench.from_core(response_to(subscribe, 183, to_tag="x"))
    accept(bench, subscribe)
    assert bench.pcscf.subscriptions[IMPI].active


# ---- being told


def test_a_notify_is_answered_and_applied() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    response = notify(bench, subscribe, 0, [registration(IMPU), registration(TEL), registration(SECOND)])
    assert response.status == 200
    assert identities(bench) == [IMPU, TEL, SECOND]
    assert notify(bench, subscribe, 1, [registration(TEL, "terminated")], document="partial").status == 200
    assert identities(bench) == [IMPU, SECOND]
    assert bench.sets == {1: "established"}


def test_an_added_identity_may_be_used() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 0, [registration(SECOND)])
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE", P_Preferred_Identity=f"<{SECOND}>"))
    assert bench.core.requests("MESSAGE")[-1].rows("P-Asserted-Identity") == [f"<{SECOND}>"]


def test_all_terminated_takes_the_sas_after_the_ues_notify_has_passed() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe)
    gone = [registration(IMPU, "terminated"), registration(TEL, "terminated")]
    assert notify(bench, subscribe, 0, gone, state="terminated;reason=deactivated").status == 200
    assert bench.sets == {1: "closing"}
    assert "deregistered" in bench.wire.emitted("pcscf")
    bench.from_core(bench.core_request(sas, "NOTIFY", To=f"<{IMPU}>;tag=ue"))
    got = bench.ue.requests("NOTIFY")[-1]
    bench.from_ue(bench.inside(sas), response_to(got, 200))
    assert bench.core.responses()[-1].status == 200
    bench.wire.run(33.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}
    assert bench.pcscf.subscriptions == {}
    assert bench.pcscf.next_timer() is None


def test_a_registration_without_contacts_is_gone() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 0, [Registration(IMPU, "a", "terminated"), Registration(TEL, "b", "terminated")])
    assert bench.sets == {1: "closing"}


def test_another_contacts_end_is_not_ours() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    other = registration(IMPU, "terminated", contact="sip:ue@10.0.0.77:5060")
    other.state = "active"
    notify(bench, subscribe, 0, [other, registration("not a uri", "terminated")])
    assert identities(bench) == [IMPU, TEL]
    assert bench.sets == {1: "established"}


def test_what_is_older_changes_nothing_and_a_gap_asks_for_everything() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 3, [registration(IMPU)])
    notify(bench, subscribe, 3, [registration(TEL, "terminated")])
    notify(bench, subscribe, 2, [registration(TEL, "terminated")])
    assert identities(bench) == [IMPU, TEL]
    notify(bench, subscribe, 5, [registration(TEL, "terminated")], document="partial")
    assert identities(bench) == [IMPU, TEL]
    assert len(bench.core.requests("SUBSCRIBE")) == 2
    notify(bench, subscribe, 4, [registration(TEL, "terminated")], document="partial")
    assert identities(bench) == [IMPU]


def test_a_notify_may_overtake_the_200() -> None:
    bench, _, subscribe = watching()
    assert notify(bench, subscribe, 0, [registration(SECOND)]).status == 200
    assert SECOND in identities(bench)
    assert notify(bench, subscribe, 5, [], document="partial").status == 200  # a gap, and no dialog to ask in yet
    assert len(bench.core.requests("SUBSCRIBE")) == 1
    accept(bench, subscribe)
    assert bench.pcscf.subscriptions[IMPI].active


def test_an_ended_subscription_is_begun_anew_while_something_is_registered() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 0, [registration(IMPU)], state="terminated;reason=timeout;retry-after=50")
    bench.wire.run(49.0)
    assert len(bench.core.requests("SUBSCRIBE")) == 1
    bench.wire.run(51.0)
    assert len({each.call_id for each in bench.core.requests("SUBSCRIBE")}) == 2
    assert bench.sets == {1: "established"}
    notify(bench, bench.core.requests("SUBSCRIBE")[-1], 0, [], state="terminated")
    bench.wire.run(630.0)  # and when nobody is registered any more by then, it is not
    assert len({each.call_id for each in bench.core.requests("SUBSCRIBE")}) == 3


def test_a_pause_outlived_by_nobody_ends_in_nothing() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 0, [registration(IMPU)], state="terminated")
    gone = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server, expires=0)
    bench.from_ue(bench.inside(sas), gone)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)
    bench.wire.run(100.0)
    assert len(bench.core.requests("SUBSCRIBE")) == 1


@pytest.mark.parametrize("expires", [0, 1, 59])
def test_a_notifier_in_a_hurry_makes_no_storm(expires: int) -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe, expires)
    bench.wire.run(29.0)
    assert len(bench.core.requests("SUBSCRIBE")) == 1
    bench.wire.run(31.0)
    assert len({each.cseq.number for each in bench.core.requests("SUBSCRIBE")}) == 2


def test_a_shortened_registration_ends_sooner() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    notify(bench, subscribe, 0, [registration(IMPU, event="shortened", expires=60)])
    contact = next(iter(bench.pcscf.contacts.values()))
    assert [binding.expires for binding in contact.bindings] == [60.0]
    bench.wire.run(61.0)
    assert not contact.bindings
    assert bench.sets == {1: "established"}  # the SAs' life is another matter


def test_only_the_binding_that_is_named_is_shortened() -> None:
    bench, sas, subscribe = watching()
    accept(bench, subscribe)
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server, impu=SECOND)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1], identities=f"<{SECOND}>")
    notify(bench, subscribe, 0, [registration(SECOND, event="shortened", expires=60), registration(IMPU, contact="?")])
    contact = next(iter(bench.pcscf.contacts.values()))
    assert [binding.expires for binding in contact.bindings] == [600.0, 60.0]


def test_a_notifier_without_contact_is_asked_where_it_was_found() -> None:
    bench, sas, subscribe = watching()
    bench.from_core(response_to(subscribe, 200, to_tag="n", headers=[("Expires", "100")]))
    bench.registered(under=sas, expires=100000)
    bench.wire.names["ims.example"] = CORE.host
    bench.wire.run(51.0)
    again = bench.core.requests("SUBSCRIBE")[-1]
    assert (again.uri, again.to.tag, again.has("Route")) == (IMPU, "n", False)


def test_notifies_of_no_subscription_get_481() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    assert notify(bench, subscribe, 0, [], tag="another").status == 481


@pytest.mark.parametrize(
    "body",
    [
        b"not xml",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><reginfo>&e;</reginfo>',
        b'<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><reginfo>&b;</reginfo>',
        b"<a>" * 5000,
    ],
)
def test_hostile_documents_are_400_and_change_nothing(body: bytes) -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    assert notify(bench, subscribe, 0, [], body=body).status == 400
    assert identities(bench) == [IMPU, TEL]
    assert notify(bench, subscribe, 1, [], body=b"").status == 200  # without a body there is nothing to apply
    assert bench.sets == {1: "established"}


def test_the_end_of_the_last_contact_forgets_the_subscription() -> None:
    bench, _, subscribe = watching()
    accept(bench, subscribe)
    bench.wire.run(640.0)
    assert bench.sets == {}
    assert bench.pcscf.subscriptions == {}
    assert notify(bench, subscribe, 0, [registration(IMPU)]).status == 481
    assert SERVICE_ROUTE
