"""Malformed and hostile input to the P-CSCF (catalogue U): whatever comes, the next sane phone registers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow
from imslab.sip.message import Request, Response
from tests.require import require_shared
from tests.roles.pcscf_bench import CORE, GM, MW, TCP, UDP, UE, Bench, Sas


def alive(bench: Bench) -> None:
    """A sane registration with another identity works from beginning to end."""
    bench.wire.run(bench.wire.now + 1.0)
    bench.registered(Sas(41001, 41002, 900001, 900002), impi="sane@ims.example", impu="sip:sane@ims.example")
    assert "established" in bench.sets.values()
    assert bench.ue.got[-1].flow.local.port == 41002


def listening() -> Bench:
    bench = Bench()
    for port in (41001, 41002):
        bench.wire.listening.add((UDP, Endpoint(UE, port)))
    return bench


def register_without(bench: Bench, name: str) -> Request:
    request = bench.register(Sas())
    request.remove(name)
    return request


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_mandatory_header_missing_is_400_or_silence(name: str) -> None:
    bench = listening()
    bench.from_ue(bench.clear(), register_without(bench, name))
    assert bench.core.got == []
    assert [response.status for response in bench.ue.responses()] in ([], [400])
    assert bench.sets == {}
    alive(bench)


@pytest.mark.parametrize("via", ["", ",", "SIP/2.0/UDP", "SIP/2.0/UDP :5060;branch=x"])
def test_a_via_of_nothing_is_no_via(via: str) -> None:
    bench = listening()
    for method in ("REGISTER", "ACK"):
        request = bench.register(Sas())
        octets = request.encode().replace((request.get("Via") or "").encode(), via.encode())
        bench.from_ue(bench.clear(), octets.replace(b"REGISTER sip", method.encode() + b" sip"))
    assert bench.core.got == []
    alive(bench)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CSeq", "1 INVITE"),
        ("CSeq", "4294967296 REGISTER"),
        ("Contact", "<sip:broken"),
        ("Contact", "*, <sip:a@b>"),
        ("Authorization", 'Digest username="x", nonce'),
        ("Authorization", 'Digest\tusername="x", integrity-protected="yes"'),
        ("Authorization", 'Digest username="a", username="b", integrity-protected="yes"'),
        ("Max-Forwards", "300"),
        ("Security-Client", 'ipsec-3gpp;alg="x'),
        ("Require", "a b c"),
        ("P-Access-Network-Info", "=;"),
        ("To", "<sip:x@y>, <sip:z@y>"),
    ],
)
def test_a_malformed_register_is_400(name: str, value: str, inside: bool) -> None:
    bench = listening()
    sas = bench.registered() if inside else Sas()
    before = len(bench.core.got), len(bench.ue.got)
    request = bench.register(sas.next(), clear=not inside, nonce=sas.nonce, response="1", verify=sas.server or None)
    request.set(name, value)
    bench.from_ue(bench.inside(sas) if inside else bench.clear(), request)
    assert len(bench.core.got) == before[0]
    assert bench.ue.responses()[-1].status in (400, 403)
    assert len(bench.ue.got) == before[1] + 1
    assert len(bench.sets) == (1 if inside else 0)
    alive(bench)


def test_compact_and_folded_forms_are_the_same() -> None:
    bench = Bench()
    text = bench.register(Sas()).encode().decode()
    for long, short in (("Via:", "v:"), ("From:", "F:"), ("To:", "t:"), ("Call-ID:", "i:"), ("Contact:", "M:")):
        text = text.replace(long, short)
    text = text.replace("Security-Client: ipsec-3gpp;", "sECURITY-cLIENT:\r\n ipsec-3gpp;\r\n\t")
    bench.from_ue(bench.clear(), text.encode())
    bench.challenge(bench.core.requests("REGISTER")[-1])
    assert bench.ue.responses()[-1].status == 401
    assert bench.sets == {1: "temporary"}


@pytest.mark.parametrize("length", ["99999", "-1", "abc", "99999999999999999999"])
def test_a_lying_content_length(length: str) -> None:
    bench = listening()
    octets = bench.register(Sas()).encode().replace(b"Content-Length: 0", f"Content-Length: {length}".encode())
    bench.from_ue(bench.clear(), octets)
    flow = Flow(TCP, Endpoint(UE, 40041), GM)
    bench.connect(flow)
    bench.from_ue(flow, octets)
    assert bench.core.got == []
    alive(bench)


def test_a_surplus_is_dropped() -> None:
    bench = Bench()
    bench.from_ue(bench.clear(), bench.register(Sas()).encode() + b"surplus")
    assert len(bench.core.requests("REGISTER")) == 1
    assert bench.core.requests("REGISTER")[0].body == b""


@pytest.mark.parametrize("size", [8_000, 60_000])
def test_very_long_values(size: int) -> None:
    bench = listening()
    for name, value in (
        ("Security-Client", "ipsec-3gpp;alg=" + "x" * size),
        ("Security-Client", ", ".join(["ipsec-3gpp;alg=x"] * (size // 20))),
        ("Contact", f"<sip:{'u' * size}@10.0.0.2:40002>"),
    ):
        request = bench.register(Sas())
        request.set(name, value)
        bench.from_ue(bench.clear(), request)
    alive(bench)


def test_impossible_answers() -> None:
    bench = listening()
    bench.from_core(
        Response(200, headers=[("Via", "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKnone"), ("CSeq", "1 REGISTER")])
    )
    bench.from_core(Response(401))
    bench.core.send(Flow(UDP, CORE, MW), b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n")
    bench.flush(bench.core)
    assert bench.ue.got == []
    alive(bench)


def test_register_and_deregister_interleaved_leave_no_orphan() -> None:
    bench = Bench()
    sas = bench.registered()
    one = bench.register(sas.next())
    two = bench.register(sas.next(2), clear=False, nonce=sas.nonce, response="1", verify=sas.server, expires=0)
    bench.from_ue(bench.clear(), one)
    bench.from_ue(bench.inside(sas), two)
    up_one, up_two = bench.core.requests("REGISTER")[-2:]
    bench.ok(up_two, expires=0)
    bench.challenge(up_one)
    assert "temporary" in bench.sets.values()
    bench.wire.run(300.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}


def test_a_flood_leaves_nothing_behind() -> None:
    bench = listening()
    for number in range(200):
        bench.from_ue(
            bench.clear(),
            bench.register(Sas(50000 - number, 40002, 5000 + 2 * number, 5001 + 2 * number), impi=f"{number}@x"),
        )
        if number % 2:
            bench.challenge(bench.core.requests("REGISTER")[-1])
    alive(bench)
    bench.wire.run(300.0)
    assert list(bench.sets.values()) == ["established"]
    assert len(bench.pcscf.contacts) == 1
    assert len(bench.pcscf.tokens) == 1


def test_torture_messages() -> None:
    folder = require_shared("vectors/sip-torture")
    bench = listening()
    sas = bench.registered()
    files = sorted(folder.rglob("*"))
    octets = [path.read_bytes() for path in files if path.is_file() and path.suffix != ".md"]
    assert len(octets) > 20
    for each in octets:
        bench.from_ue(bench.clear(), each)
        bench.from_ue(bench.inside(sas), each)
        bench.core.send(Flow(UDP, CORE, MW), each)
        bench.flush(bench.core)
    alive(bench)


PIECES = st.sampled_from(
    [b";", b",", b'"', b"<", b">", b"\r\n", b"\0", b"\xff", b"=", b" ", b"4294967296", b"spi-c=0", b""]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), PIECES), min_size=1, max_size=6), st.booleans())
def test_mutated_registers_never_raise(changes: list[tuple[int, int, bytes]], inside: bool) -> None:
    bench = listening()
    sas = bench.challenged()
    request = bench.register(sas, clear=not inside, nonce=sas.nonce, response="abc", verify=sas.server)
    octets = request.encode()
    for start, length, piece in changes:
        start %= len(octets)
        octets = octets[:start] + piece + octets[start + length :]
    flow = bench.inside(sas) if inside else bench.clear()
    bench.from_ue(flow, octets)
    for up in bench.core.requests("REGISTER")[1:]:
        bench.challenge(up)
    bench.wire.run(bench.wire.now + 70.0)
    alive(bench)
    bench.wire.run(bench.wire.now + 300.0)
    assert list(bench.sets.values()) == ["established"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), PIECES), min_size=1, max_size=6), st.integers(0, 2))
def test_mutated_answers_of_the_core_never_raise(changes: list[tuple[int, int, bytes]], which: int) -> None:
    bench = listening()
    mangled: list[bool] = []

    def mangle(name: str, send: object) -> bool:
        return not (name == "core" and not mangled)

    bench.wire.passes = mangle
    bench.from_ue(bench.clear(), bench.register(Sas()))
    up = bench.core.requests("REGISTER")[-1]
    if which == 0:
        bench.challenge(up)
    elif which == 1:
        bench.ok(up)
    else:
        bench.challenge(up, status=403)
    octets = [e.octets for _, who, e in bench.wire.log if who == "core" and isinstance(e, fx.Send)][-1]
    mangled.append(True)
    for start, length, piece in changes:
        start %= len(octets)
        octets = octets[:start] + piece + octets[start + length :]
    bench.wire.give(bench.pcscf, ev.Arrival(Flow(UDP, MW, CORE), octets))
    bench.wire.run(70.0)
    alive(bench)
