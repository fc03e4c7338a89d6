"""Other requests through the P-CSCF, both ways: agreement, routes, identities, calls (catalogue J, L, and calls)."""

from __future__ import annotations

import pytest

from imslab.core.flow import Endpoint, Flow
from imslab.sip.message import Request, Response, response_to
from tests.roles.pcscf_bench import CORE, GM, IMPU, MW, SERVICE_ROUTE, TEL, UDP, UE, Bench, Sas


def up(bench: Bench, sas: Sas, request: Request) -> Request:
    """Send this inside; as the core gets it."""
    before = len(bench.core.got)
    bench.from_ue(bench.inside(sas), request)
    assert len(bench.core.got) == before + 1
    message = bench.core.got[-1].message
    assert isinstance(message, Request)
    return message


def refused(bench: Bench, sas: Sas, request: Request) -> Response:
    """Send this inside; it must not reach the core. The answer."""
    before = len(bench.core.got)
    bench.from_ue(bench.inside(sas), request)
    assert len(bench.core.got) == before
    return bench.ue.responses()[-1]


def down(bench: Bench, request: Request) -> Request:
    """Send this from the core; as the phone gets it."""
    before = len(bench.ue.got)
    bench.from_core(request)
    assert len(bench.ue.got) == before + 1
    message = bench.ue.got[-1].message
    assert isinstance(message, Request)
    return message


# ---- the agreement


@pytest.mark.parametrize("method", ["SUBSCRIBE", "INVITE", "MESSAGE", "PUBLISH", "OPTIONS", "REFER", "INFO"])
def test_the_agreement_is_checked_and_taken_off(method: str) -> None:
    bench = Bench()
    sas = bench.registered()
    request = up(bench, sas, bench.ue_request(sas, method))
    assert request.method == method
    for name in ("Security-Verify", "Require", "Proxy-Require"):
        assert not request.has(name)
    assert request.max_forwards == 69


def test_a_wrong_security_verify_is_494() -> None:
    bench = Bench()
    sas = bench.registered()
    response = refused(bench, sas, bench.ue_request(sas, "INVITE", Security_Verify="tls"))
    assert response.status == 494
    assert response.get("Security-Server") == sas.server


def test_a_missing_security_verify_is_a_matter_of_policy() -> None:
    bench = Bench()
    sas = bench.registered()
    up(bench, sas, bench.ue_request(sas, "MESSAGE", Security_Verify=""))
    bench = Bench(require_verify=True)
    sas = bench.registered()
    assert refused(bench, sas, bench.ue_request(sas, "MESSAGE", Security_Verify="")).status == 494


def test_on_an_old_set_the_verify_of_either_set_will_do() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.registered(under=old)
    up(bench, old, bench.ue_request(old, "MESSAGE"))
    up(bench, old, bench.ue_request(old, "MESSAGE", Security_Verify=new.server))
    assert refused(bench, old, bench.ue_request(old, "MESSAGE", Security_Verify="tls")).status == 494


# ---- refusals


@pytest.mark.parametrize("method", ["FOO", "REFRESH", "invite"])
def test_unknown_methods_are_501_never_silence(method: str) -> None:
    bench = Bench()
    sas = bench.registered()
    response = refused(bench, sas, bench.ue_request(sas, method))
    assert response.status == 501
    assert "INVITE" in response.allow
    bench.from_core(bench.core_request(sas, method))
    assert bench.core.responses()[-1].status == 501


def test_max_forwards_and_proxy_require_both_ways() -> None:
    bench = Bench()
    sas = bench.registered()
    assert refused(bench, sas, bench.ue_request(sas, "MESSAGE", Max_Forwards="0")).status == 483
    response = refused(bench, sas, bench.ue_request(sas, "MESSAGE", Proxy_Require="sec-agree, foo"))
    assert (response.status, response.unsupported) == (420, ["foo"])
    before = len(bench.ue.got)
    bench.from_core(bench.core_request(sas, "MESSAGE", Max_Forwards="0"))
    assert bench.core.responses()[-1].status == 483
    bench.from_core(bench.core_request(sas, "MESSAGE", Proxy_Require="foo"))
    assert bench.core.responses()[-1].status == 420
    assert len(bench.ue.got) == before


# ---- routes


def test_the_service_route_is_followed() -> None:
    bench = Bench()
    sas = bench.registered()
    request = up(bench, sas, bench.ue_request(sas, "MESSAGE"))
    assert [str(each) for each in request.route] == [SERVICE_ROUTE]
    assert request.via[0].sent_by == str(MW)
    bench.wire.run(1.0)
    up(bench, sas, bench.ue_request(sas, "MESSAGE", Route=SERVICE_ROUTE))  # without our own on top


@pytest.mark.parametrize(
    "route",
    [
        "",
        "<sip:elsewhere.example;lr>",
        f"{SERVICE_ROUTE}, <sip:elsewhere.example;lr>",
        "<sip:other@198.51.100.2:5060;lr>",
    ],
)
def test_another_route_is_refused_or_corrected(route: str) -> None:
    bench = Bench()
    sas = bench.registered()
    own = f"<sip:{Endpoint(GM.host, sas.ps)};lr>"
    both = f"{own}, {route}" if route else own
    response = refused(bench, sas, bench.ue_request(sas, "MESSAGE", Route=both))
    assert response.status == 400
    bench = Bench(correct_routes=True)
    sas = bench.registered()
    request = up(bench, sas, bench.ue_request(sas, "MESSAGE", Route=both))
    assert [str(each) for each in request.route] == [SERVICE_ROUTE]


def test_a_to_tag_alone_opens_no_other_way() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.ue_request(sas, "BYE", To="<sip:bob@ims.example>;tag=x", Route="<sip:elsewhere.example;lr>")
    assert refused(bench, sas, request).status == 400


def test_the_service_route_of_the_latest_200_counts() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    bench.from_ue(bench.inside(sas), request)
    other = "<sip:other@198.51.100.2:5060;lr>"
    last = bench.core.requests("REGISTER")[-1]
    bench.from_core(
        response_to(
            last,
            200,
            headers=[
                ("Contact", last.get("Contact") or ""),
                ("Service-Route", other),
                ("P-Associated-URI", f"<{IMPU}>"),
            ],
        )
    )
    assert refused(bench, sas, bench.ue_request(sas, "MESSAGE")).status == 400
    up(bench, sas, bench.ue_request(sas, "MESSAGE", Route=other))


def test_a_next_hop_that_has_no_address_is_504() -> None:
    bench = Bench(correct_routes=True)
    sas = bench.registered()
    next(iter(bench.pcscf.contacts.values())).service_route.clear()
    response = refused(bench, sas, bench.ue_request(sas, "MESSAGE", uri="sip:bob@nowhere.example", Route=""))
    assert response.status == 504
    assert refused(bench, sas, bench.ue_request(sas, "MESSAGE", uri="tel:+1555", Route="")).status == 504


def test_options_to_ourselves_is_answered() -> None:
    bench = Bench()
    sas = bench.registered()
    response = refused(bench, sas, bench.ue_request(sas, "OPTIONS", uri=f"sip:{Endpoint(GM.host, sas.ps)}", Route=""))
    assert response.status == 200
    assert "MESSAGE" in response.allow
    bench.from_core(bench.core_request(sas, "OPTIONS", route=""))
    assert bench.core.responses()[-1].status == 404  # that asked for the UE, but by no path of ours
    request = bench.core_request(sas, "OPTIONS", route="")
    request.uri = bench.config.uri
    bench.from_core(request)
    assert bench.core.responses()[-1].status == 200


def test_both_sides_are_recorded() -> None:
    bench = Bench()
    sas = bench.registered()
    request = up(bench, sas, bench.ue_request(sas, "INVITE"))
    outer, inner = request.record_route
    assert (outer.uri.host, outer.uri.port) == MW
    assert (inner.uri.host, inner.uri.port) == (GM.host, sas.ps)
    assert "lr" in outer.uri.params
    assert "lr" in inner.uri.params
    assert not up(bench, sas, bench.ue_request(sas, "MESSAGE")).has("Record-Route")
    request = down(bench, bench.core_request(sas, "INVITE", Record_Route="<sip:scscf.ims.example;lr>"))
    outer, inner, far = request.record_route
    assert (outer.uri.host, outer.uri.port) == (GM.host, sas.ps)
    assert (inner.uri.host, inner.uri.port) == MW
    assert far.uri.host == "scscf.ims.example"


# ---- identities


@pytest.mark.parametrize(
    ("preferred", "asserted"),
    [
        ("", f"<{IMPU}>"),
        (f"<{TEL}>", f"<{TEL}>"),
        (f'"Ann" <{IMPU}>', f"<{IMPU}>"),
        ("<sip:victim@ims.example>", f"<{IMPU}>"),
        (f"<sip:victim@ims.example>, <{TEL}>", f"<{TEL}>"),
        ("<tel:+1-555-0001>", f"<{TEL}>"),
    ],
)
def test_an_own_identity_is_asserted_whatever_is_preferred(preferred: str, asserted: str) -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.ue_request(sas, "MESSAGE", P_Preferred_Identity=preferred)
    request.add("P-Asserted-Identity", "<sip:boss@ims.example>")
    got = up(bench, sas, request)
    assert got.rows("P-Asserted-Identity") == [asserted]
    assert not got.has("P-Preferred-Identity")


def test_nobody_speaks_for_the_network() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.ue_request(
        sas,
        "MESSAGE",
        P_Charging_Vector="icid-value=forged",
        P_Charging_Function_Addresses="ccf=1",
        P_Access_Network_Info="3GPP-GERAN;network-provided",
    )
    got = up(bench, sas, request)
    assert got.p_charging_vector
    assert got.p_charging_vector.icid != "forged"
    assert not got.has("P-Charging-Function-Addresses")
    assert not got.has("P-Access-Network-Info")


def test_the_ue_does_not_see_what_the_network_tells_itself() -> None:
    bench = Bench()
    sas = bench.registered()
    network = {
        "P_Charging_Vector": "icid-value=1",
        "P_Charging_Function_Addresses": "ccf=1",
        "P_Access_Network_Info": "3GPP-GERAN",
        "P_Asserted_Identity": "<sip:bob@ims.example>",
    }
    got = down(bench, bench.core_request(sas, "MESSAGE", **network))
    for name in ("P-Charging-Vector", "P-Charging-Function-Addresses", "P-Access-Network-Info"):
        assert not got.has(name)
    assert got.rows("P-Asserted-Identity") == ["<sip:bob@ims.example>"]
    got = down(bench, bench.core_request(sas, "MESSAGE", **network, Privacy="header; id"))
    assert not got.has("P-Asserted-Identity")


def test_an_answer_asserts_who_was_called() -> None:
    bench = Bench()
    sas = bench.registered()
    got = down(bench, bench.core_request(sas, "MESSAGE", P_Called_Party_ID=f"<{TEL}>"))
    more = [("P-Asserted-Identity", "<sip:boss@ims.example>"), ("Security-Verify", "tls"), ("P-Charging-Vector", "x=1")]
    bench.from_ue(bench.inside(sas), response_to(got, 200, to_tag="u", headers=more))
    response = bench.core.responses()[-1]
    assert response.rows("P-Asserted-Identity") == [f"<{TEL}>"]
    assert not response.has("Security-Verify")
    assert not response.has("P-Charging-Vector")
    assert len(response.via) == 1


def test_an_answer_to_the_ue_is_cleaned() -> None:
    bench = Bench()
    sas = bench.registered()
    got = up(bench, sas, bench.ue_request(sas, "MESSAGE"))
    more = [("P-Charging-Vector", "icid-value=1"), ("P-Asserted-Identity", "<sip:bob@x>"), ("Privacy", "id")]
    bench.from_core(response_to(got, 200, to_tag="b", headers=more))
    response = bench.ue.responses()[-1]
    assert not response.has("P-Charging-Vector")
    assert not response.has("P-Asserted-Identity")


# ---- towards the UE


def test_a_request_for_a_token_that_is_not_ours() -> None:
    bench = Bench()
    sas = bench.registered()
    before = len(bench.ue.got)
    bench.from_core(bench.core_request(sas, "MESSAGE", route=f"<sip:nobody@{MW};lr>"))
    assert bench.core.responses()[-1].status == 480
    bench.from_core(bench.core_request(sas, "MESSAGE", route=f"<sip:{MW};lr>"))
    assert bench.core.responses()[-1].status == 404
    assert len(bench.ue.got) == before


def test_the_token_may_stand_in_the_request_uri() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.core_request(sas, "MESSAGE", route="")
    request.uri = f"sip:{bench.token}@{MW}"
    down(bench, request)


def test_a_silent_ue_is_480() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    bench.wire.run(33.0)
    assert bench.core.responses()[-1].status == 480
    bench.from_core(bench.core_request(sas, "INVITE"))
    bench.wire.run(70.0)
    assert bench.core.responses()[-1].status == 408


def test_a_silent_core_is_504_or_408() -> None:
    bench = Bench()
    sas = bench.registered()
    up(bench, sas, bench.ue_request(sas, "MESSAGE"))
    bench.wire.run(33.0)
    assert bench.ue.responses()[-1].status == 504
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "INVITE"))
    bench.wire.run(70.0)
    assert bench.ue.responses()[-1].status == 408


# ---- calls


def call_from_ue(bench: Bench, sas: Sas) -> tuple[Request, Request]:
    """An INVITE as the phone sent it, and as the core got it; 100 has been said."""
    invite = bench.ue_request(sas, "INVITE", Contact=f"<sip:ue@{UE}:{sas.us}>")
    bench.from_ue(bench.inside(sas), invite)
    assert bench.ue.responses()[-1].status == 100
    return invite, bench.core.requests("INVITE")[-1]


def in_dialog(bench: Bench, sas: Sas, invite: Request, response: Response, method: str) -> Request:
    """A request in the dialog, as the phone sends it: Record-Route backwards (RFC 3261 12.1.2)."""
    routes = ", ".join(str(each) for each in reversed(response.record_route))
    return bench.ue_request(
        sas,
        method,
        uri=str(response.contact[0].uri),
        To=response.get("To") or "",
        From=invite.get("From") or "",
        Call_ID=invite.call_id,
        Route=routes,
    )


FAR = [("Contact", "<sip:bob@203.0.113.9>")]


def accept(bench: Bench, invite: Request, status: int = 200, tag: str = "bob") -> Response:
    """The far end's answer to an INVITE that reached the core."""
    routes = [("Record-Route", row) for row in ("<sip:mo@198.51.100.2:5060;lr>", *invite.rows("Record-Route"))]
    response = response_to(invite, status, to_tag=tag, headers=[*routes, *FAR])
    bench.from_core(response)
    return response


def test_a_call_from_the_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    invite, core_invite = call_from_ue(bench, sas)
    assert core_invite.p_asserted_identity
    accept(bench, core_invite, 183)
    progress = bench.ue.responses()[-1]
    assert progress.status == 183
    prack = up(bench, sas, in_dialog(bench, sas, invite, progress, "PRACK"))
    assert [each.uri.user for each in prack.route] == ["mo"]
    assert not prack.has("Security-Verify")
    bench.from_core(response_to(prack, 200))
    assert bench.ue.responses()[-1].cseq.method == "PRACK"
    response = accept(bench, core_invite)
    assert bench.ue.responses()[-1].status == 200
    bench.from_core(response)  # a repetition
    assert [each.status for each in bench.ue.responses()][-2:] == [200, 200]
    ok = bench.ue.responses()[-1]
    ack = up(bench, sas, in_dialog(bench, sas, invite, ok, "ACK"))
    assert ack.method == "ACK"
    assert [each.uri.user for each in ack.route] == ["mo"]
    assert ack.max_forwards == 69
    assert ack.via[0].sent_by == str(MW)
    assert not ack.has("P-Asserted-Identity")
    update = up(bench, sas, in_dialog(bench, sas, invite, ok, "UPDATE"))
    bench.from_core(response_to(update, 200))
    bye = up(bench, sas, in_dialog(bench, sas, invite, ok, "BYE"))
    bench.from_core(response_to(bye, 200))
    assert bench.ue.responses()[-1].cseq.method == "BYE"
    # The dialog is over: its routes lead nowhere any more.
    assert refused(bench, sas, in_dialog(bench, sas, invite, ok, "BYE")).status == 400


def test_requests_of_the_far_end_in_that_call() -> None:
    bench = Bench()
    sas = bench.registered()
    invite, core_invite = call_from_ue(bench, sas)
    accept(bench, core_invite)
    route = ", ".join(core_invite.rows("Record-Route"))
    bye = bench.core_request(
        sas, "BYE", route=route, From="<sip:bob@ims.example>;tag=bob", To=f"<{IMPU}>;tag=ue", Call_ID=invite.call_id
    )
    got = down(bench, bye)
    assert not got.has("Route")
    assert bench.ue.got[-1].flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))


def test_a_call_to_the_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    invite = down(bench, bench.core_request(sas, "INVITE", Record_Route="<sip:mt@198.51.100.2:5060;lr>"))
    assert bench.core.responses()[-1].status == 100
    contact = [("Contact", f"<sip:ue@{UE}:{sas.us}>")]
    routes = [("Record-Route", row) for row in invite.rows("Record-Route")]
    for status in (180, 200):
        bench.from_ue(bench.inside(sas), response_to(invite, status, to_tag="ue", headers=[*routes, *contact]))
        assert bench.core.responses()[-1].status == status
    ok = bench.core.responses()[-1]
    assert ok.p_asserted_identity
    route = ", ".join(str(each) for each in reversed(ok.record_route) if each.uri.user != "mt")
    ack = bench.core_request(
        sas, "ACK", route=route, To=ok.get("To") or "", Call_ID=ok.call_id, CSeq=f"{ok.cseq.number} ACK"
    )
    got = down(bench, ack)
    assert got.method == "ACK"
    assert got.via[0].port == sas.ps
    assert bench.ue.got[-1].flow.remote.port == sas.pc
    # The phone ends it, by the routes of the dialog.
    bye = bench.ue_request(
        sas,
        "BYE",
        uri="sip:bob@203.0.113.9",
        To="<sip:bob@ims.example>;tag=bob",
        From=f"<{IMPU}>;tag=ue",
        Call_ID=ok.call_id,
        Route=", ".join(str(each) for each in invite.record_route),
    )
    assert [each.uri.user for each in up(bench, sas, bye).route] == ["mt"]


def test_cancel_waits_for_a_word_of_the_next_hop() -> None:
    bench = Bench()
    sas = bench.registered()
    invite, core_invite = call_from_ue(bench, sas)
    cancel = Request(
        "CANCEL", invite.uri, [*[(n, v) for n, v in invite.headers if n in ("Via", "From", "To", "Call-ID")],
        ("CSeq", f"{invite.cseq.number} CANCEL"), ("Max-Forwards", "70")],
    )  # fmt: skip
    bench.from_ue(bench.inside(sas), cancel)
    assert bench.ue.responses()[-1].cseq.method == "CANCEL"
    assert bench.ue.responses()[-1].status == 200
    assert bench.core.requests("CANCEL") == []
    accept(bench, core_invite, 180)
    assert len(bench.core.requests("CANCEL")) == 1
    assert bench.core.requests("CANCEL")[0].via[0].branch == core_invite.via[0].branch
    bench.from_core(response_to(core_invite, 487, to_tag="bob"))
    assert bench.ue.responses()[-1].status == 487
    assert bench.core.requests("ACK")[-1].cseq.number == invite.cseq.number
    ack = Request(
        "ACK", invite.uri, [*[(n, v) for n, v in invite.headers if n in ("Via", "From", "To", "Call-ID")],
        ("CSeq", f"{invite.cseq.number} ACK"), ("Max-Forwards", "70")],
    )  # fmt: skip
    before = len(bench.core.requests("ACK"))
    bench.from_ue(bench.inside(sas), ack)
    assert len(bench.core.requests("ACK")) == before  # that of a failure ends here


def test_cancel_towards_the_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.core_request(sas, "INVITE")
    invite = down(bench, request)
    bench.from_ue(bench.inside(sas), response_to(invite, 180, to_tag="ue"))
    cancel = Request(
        "CANCEL", request.uri, [*[(n, v) for n, v in request.headers if n in ("Via", "From", "To", "Call-ID", "Route")],
        ("CSeq", f"{request.cseq.number} CANCEL"), ("Max-Forwards", "70")],
    )  # fmt: skip
    bench.from_core(cancel)
    got = bench.ue.requests("CANCEL")[-1]
    assert got.via[0].branch == invite.via[0].branch
    assert bench.ue.got[-1].flow.remote.port == sas.pc


def test_ack_and_repetitions_of_a_call_on_an_old_set() -> None:
    bench = Bench()
    old = bench.registered()
    invite, core_invite = call_from_ue(bench, old)
    new = bench.registered(under=old)
    up(bench, new, bench.ue_request(new, "MESSAGE"))
    accept(bench, core_invite)
    assert bench.ue.got[-1].flow.remote.port == old.pc
    ok = bench.ue.responses()[-1]
    assert up(bench, new, in_dialog(bench, new, invite, ok, "ACK")).method == "ACK"


def test_an_ack_that_leads_nowhere_is_dropped() -> None:
    bench = Bench()
    sas = bench.registered()
    before = len(bench.core.got), len(bench.ue.got)
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "ACK", Route="<sip:elsewhere.example;lr>"))
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "ACK", Max_Forwards="0"))
    bench.from_core(bench.core_request(sas, "ACK", route=f"<sip:nobody@{MW};lr>"))
    request = bench.core_request(sas, "ACK", route="")
    request.uri = bench.config.uri
    bench.from_core(request)
    assert (len(bench.core.got), len(bench.ue.got)) == before
    next(iter(bench.pcscf.contacts.values())).service_route.clear()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "ACK", uri="sip:bob@nowhere.example", Route=""))
    assert (len(bench.core.got), len(bench.ue.got)) == before


def test_dialogs_are_remembered_in_bounds() -> None:
    bench = Bench()
    sas = bench.registered()
    contact = next(iter(bench.pcscf.contacts.values()))
    for number in range(250):
        contact.note_dialog(f"call{number}")
    assert len(contact.dialogs) == 200
    contact.note_dialog("call60")
    contact.note_dialog("new")
    assert "call60" in contact.dialogs
    assert "call50" not in contact.dialogs
    assert sas.ps


def test_subscribe_and_its_notify() -> None:
    bench = Bench()
    sas = bench.registered()
    subscribe = bench.ue_request(sas, "SUBSCRIBE", Event="reg", Contact=f"<sip:ue@{UE}:{sas.us}>")
    request = up(bench, sas, subscribe)
    routes = [("Record-Route", row) for row in request.rows("Record-Route")]
    bench.from_core(response_to(request, 200, to_tag="s", headers=[*routes, ("Contact", "<sip:scscf.ims.example>")]))
    notify = bench.core_request(
        sas, "NOTIFY", route=", ".join(request.rows("Record-Route")), To=f"<{IMPU}>;tag=ue", Call_ID=request.call_id
    )
    got = down(bench, notify)
    bench.from_ue(bench.inside(sas), response_to(got, 200))
    assert bench.core.responses()[-1].status == 200
    assert CORE.port == 5060


def test_a_faulty_register_answer_of_the_ue_is_no_matter() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), Response(200, headers=[("Via", "x")]))
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    assert len(bench.core.requests("MESSAGE")) == 1
