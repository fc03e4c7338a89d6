"""Whatever arrives at an S-CSCF or an I-CSCF, it does not raise, and serves the next one (MAL-02, MAL-20, MAL-22)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.diameter.cx import MultimediaAuthRequest, ServerAssignmentRequest, UserAuthorizationRequest
from imslab.diameter.message import DiameterMessage, parse
from tests.roles.core_bench import DOMAIN, IMPU, aka_response, profile, sip_request
from tests.roles.scscf_bench import Bench, Phone
from tests.roles.test_icscf import Bench as IcscfBench
from tests.roles.test_scscf_bindings import ppr, rtr

#: Pieces that peers put where they do not belong.
ODD = [
    b"\x00", b"\xff\xfe", b"\r\n", b"\r\n ", b";", b",", b"<", b">", b'"', b"=", b"@", b"%", b"%zz", b"*", b":",
    b"[::1",
    b"tel:+1", b"sip:", b"urn:service:sos", b"99999999999", b"-1", b"expires=0", b";lr;lr", b'auts="x"', b"AKAv2-MD5",
    b"Contact: *\r\n", b"Path: <\r\n", b"Authorization: Digest\r\n", b"Event: reg\r\n", b"Route: <sip:orig-1@x>\r\n",
]  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Where (0 to 1), how many octets go, what comes instead."""
    places = st.floats(0, 1, allow_nan=False)
    return draw(st.lists(st.tuples(places, st.integers(0, 12), st.sampled_from(ODD)), min_size=1, max_size=4))


def edited(octets: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, piece in changes:
        at = int(place * len(octets))
        octets = octets[:at] + piece + octets[at + length :]
    return octets


def messages(bench: Bench) -> list[bytes]:
    """One of each kind that the S-CSCF knows, sound."""
    phone = Phone(call_id="hostile")
    route = str(bench.registered(phone).service_route[0])
    nonce = bench.challenge(phone)
    res = bench.item(nonce).authorization or b""
    subscribe = [("Event", "reg"), ("Contact", "<sip:198.51.100.1>"), ("P-Asserted-Identity", f"<{IMPU}>")]
    made = [
        phone.register(),
        phone.register("yes"),
        phone.register("yes", nonce=nonce, response=aka_response(nonce, res)),
        phone.register("yes", contacts=["*"], expires=0),
        sip_request("SUBSCRIBE", IMPU, sender=IMPU, to=IMPU, headers=subscribe),
        sip_request("MESSAGE", IMPU, sender=IMPU, to=IMPU, headers=[("Route", route)]),
        sip_request("INVITE", IMPU, sender=IMPU, to=IMPU),
        sip_request("ACK", IMPU, sender=IMPU, to=IMPU),
        sip_request("BYE", IMPU, sender=IMPU, to=f"<{IMPU}>;tag=x"),
    ]
    return [each.encode() for each in made]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 8), edits())
def test_damaged_sip_harms_nobody(which: int, changes: list[tuple[float, int, bytes]]) -> None:
    """MAL-22's like on Mw: a sane registration passes afterwards."""
    bench, icscf = Bench(reauthenticate=False), IcscfBench()
    octets = edited(messages(bench)[which], changes)
    bench.send(octets)
    icscf.send(octets)
    bench.registered(Phone(impi=f"sane@{DOMAIN}", impu=f"sip:sane@{DOMAIN}", call_id="sane"))
    assert [each.status for each in icscf.send(icscf.register())][-1] == 200


@st.composite
def damage(draw: st.DrawFn) -> Any:
    """A function that changes an answer: AVPs gone, doubled, moved, cut, or filled with something else."""
    what = draw(st.sampled_from(["gone", "twice", "cut", "filled", "nothing", "flags"]))
    which = draw(st.integers(0, 30))
    data = draw(st.binary(max_size=40))

    def apply(message: DiameterMessage) -> DiameterMessage:
        avps = message.avps
        place = which % len(avps)
        if what == "gone":
            del avps[place]
        elif what == "twice":
            avps.append(avps[place])
        elif what == "cut":
            avps[place] = avps[place]._replace(data=avps[place].data[:3])
        elif what == "filled":
            avps[place] = avps[place]._replace(data=data)
        elif what == "nothing":
            avps.clear()
        else:
            avps[place] = avps[place]._replace(flags=which << 3 & 0x60)
        return parse(message.encode())

    return apply


@settings(max_examples=100, deadline=None)
@given(damage(), st.sampled_from([MultimediaAuthRequest, ServerAssignmentRequest]))
def test_damaged_answers_end_in_an_answer(apply: Any, kind: type[MultimediaAuthRequest]) -> None:
    """MAL-20: every REGISTER gets a final answer, whatever the HSS says."""
    bench = Bench()
    usual = bench.hss.script[kind]

    def script(request: MultimediaAuthRequest) -> DiameterMessage:
        made = usual(request)
        assert made is not None
        assert not isinstance(made, bytes | DiameterMessage)
        return apply(made.to_message(bench.hss.messages[-1]))

    bench.hss.script[kind] = script
    bench.send(bench.phone.register())
    bench.wire.run(6.0)
    last = bench.pcscf.responses[-1]
    if last.status == 401:
        nonce = last.www_authenticate[0].nonce or ""
        bench.send(bench.phone.register("yes", nonce=nonce, response=aka_response(nonce, b"\0" * 8)))
        bench.wire.run(12.0)
    assert len(bench.pcscf.responses) in (1, 2)
    assert all(each.status >= 200 for each in bench.pcscf.responses)
    bench.users.install()
    bench.wire.run(300.0)
    bench.registered(Phone(call_id="sane"))


@settings(max_examples=60, deadline=None)
@given(damage())
def test_damaged_answers_to_uar_end_in_an_answer(apply: Any) -> None:
    bench = IcscfBench()
    sane = bench.uaa
    assert sane is not None
    bench.hss.script[UserAuthorizationRequest] = lambda request: apply(sane.to_message(bench.hss.messages[-1]))
    bench.send(bench.register())
    bench.wire.run(6.0)
    assert len(bench.pcscf.responses) == 1


@settings(max_examples=60, deadline=None)
@given(damage(), st.sampled_from([rtr(0), rtr(2, IMPU), ppr(profile(IMPU))]))
def test_damaged_pushes_are_answered(apply: Any, request: Any) -> None:
    """RFC 6733 7.1.5: with an error, or obeyed; never with silence."""
    bench = Bench()
    bench.registered()
    (peer,) = bench.hss._peers.values()
    message = apply(request.to_message())
    peer.send_request(message, bench.wire.now, "push")
    bench.kick(bench.hss)
    assert len(bench.hss.pushed) == 1
    bench.registered(Phone(call_id="sane"))


@pytest.mark.parametrize("size", [10_000, 60_000])
def test_a_register_of_many_rows_costs_time_in_proportion(size: int) -> None:
    """MAL-16: contacts, paths, credentials without end; the answer is a refusal."""
    bench = Bench()
    contacts = [f"<sip:{number}@10.0.0.2>" for number in range(size // 40)]
    assert bench.one(bench.phone.register("yes", contacts=contacts)).status in (401, 403)
