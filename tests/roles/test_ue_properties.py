"""What must hold for a UE whatever the network and the operator do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Transport
from imslab.roles.ue_sas import Standing
from imslab.roles.ue_states import BUSY, State
from imslab.sip.message import Request
from tests.roles.test_ue import bad_mac, challenge, registered, say, silence, stale_sqn, without_server
from tests.roles.test_ue_subscription import ended
from tests.roles.ue_lab import PCSCF_HOST, FakePcscf, UeLab, in_set

SETTINGS = settings(max_examples=60, deadline=None)


def grant(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
    """A reaction: 200, deserved or not."""
    fake.reply(request, arrival, 200, fake.ok_headers(request))


REACTIONS: list[Any] = [
    bad_mac,
    stale_sqn,
    without_server,
    challenge(),
    silence,
    grant,
    *[say(status) for status in (100, 302, 305, 403, 404, 408, 420, 494, 500, 503, 600)],
    say(503, ("Retry-After", "33")),
    say(423, ("Min-Expires", "650000")),
]
COMMANDS = ["register", "reregister", "deregister", "subscribe", "hangup", "cancel", "message", "call"]


def check(lab: UeLab) -> None:
    """The invariants, after everything has settled for the moment."""
    ue = lab.ue
    standing = [each.standing for each in ue.sets.values()]
    # 33.203 7.1 rule 3: three sets, and one more that only answers repetitions.
    for kind in (Standing.TEMPORARY, Standing.ESTABLISHED, Standing.OLD):
        assert standing.count(kind) <= 1
    spis = [sa.spi for each in ue.sets.values() for sa in each.sas.inbound]
    assert len(spis) == len(set(spis))
    # The carrier and the UE agree about what stands.
    assert set(lab.wire.sets["ue"]) == set(ue.sets)
    if ue.state is State.REGISTERED:
        assert ue.registration is not None
        assert Standing.ESTABLISHED in standing
        assert Standing.TEMPORARY not in standing
    if ue.state in (State.IDLE, State.WAITING):
        assert ue.registration is None
        assert set(standing) <= {Standing.ENDING}
        assert not ue.calls.by_id
    if ue.state is State.WAITING:
        assert ue.alarm("retry") is not None
    if ue.state in BUSY:
        assert ue.next_timer() is not None  # nothing waits without an end
    # Ports are open as long as somebody may send to them.
    for each in ue.sets.values():
        for transport in (Transport.UDP, Transport.TCP):
            assert (transport, each.sas.sas[2].dst) in lab.wire.listening


def check_log(lab: UeLab) -> None:
    """33.203 7.1: nothing leaves a protected port without a set, nothing but REGISTER leaves in clear."""
    live: dict[int, Any] = {}
    for _, who, effect in lab.wire.log:
        if who != "ue":
            continue
        match effect:
            case fx.InstallSas(sas):
                live[sas.number] = sas
            case fx.RemoveSas(number):
                live.pop(number, None)
            case fx.Send(flow, octets) if flow.remote.port == 5060:
                assert octets.startswith((b"REGISTER ", b"SIP/2.0"))
            case fx.Send(flow, octets):
                pairs = {(sa.src, sa.dst) for sas in live.values() for sa in sas.sas}
                retransmission = octets.startswith(b"SIP/2.0") or any(
                    isinstance(e, fx.Send) and e.octets == octets and e is not effect for _, _, e in lab.wire.log
                )
                assert (flow.local, flow.remote) in pairs or retransmission


@SETTINGS
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("network"), st.sampled_from(range(len(REACTIONS)))),
            st.tuples(st.just("operator"), st.sampled_from(COMMANDS)),
            st.tuples(st.just("time"), st.sampled_from([0.0, 1.0, 20.0, 130.0, 250.0, 2000.0])),
            st.tuples(st.just("notify"), st.sampled_from(["rejected", "deactivated", "probation", "expired"])),
            st.tuples(st.just("lost"), st.just("sas")),
        ),
        max_size=20,
    ),
    transport=st.sampled_from(["auto", "udp", "tcp"]),
    seed=st.integers(0, 3),
)
def test_invariants(steps: list[tuple[str, Any]], transport: str, seed: int) -> None:
    lab = UeLab(transport=transport, seed=seed)
    lab.register()
    for kind, what in steps:
        match kind:
            case "network":
                lab.pcscf.next.setdefault("REGISTER", []).append(REACTIONS[what])
            case "operator":
                lab.command(what, to="sip:bob@example.org", text="x")
            case "time":
                lab.run(what)
            case "notify" if lab.ue.sas.established is not None and lab.sent("SUBSCRIBE"):
                ended(lab, what)
            case "lost" if lab.ue.sets:
                number = next(iter(lab.ue.sets))
                lab.wire.sets["ue"].pop(number)
                lab.wire.give(lab.ue, ev.SaExpired(number))
        check(lab)
    check_log(lab)
    # A sane network brings every UE home.
    lab.pcscf.next.clear()
    lab.run(4000)
    if lab.state() is State.IDLE:
        lab.register()
        lab.run(1)
    assert lab.state() is State.REGISTERED
    check(lab)


@SETTINGS
@given(data=st.data())
def test_damaged_answers_never_raise(data: st.DataObject) -> None:
    """Whatever octets come, in whatever state, the UE stays alive."""
    lab = UeLab(transport=data.draw(st.sampled_from(["udp", "tcp"])))
    plain = lab.pcscf.send
    left = data.draw(st.integers(1, 6))

    def damaged(flow: Any, message: Any) -> None:
        nonlocal left
        octets = bytearray(message.encode())
        if left > 0 and data.draw(st.booleans()):
            left -= 1
            for _ in range(data.draw(st.integers(1, 3))):
                at = data.draw(st.integers(0, len(octets) - 1))
                match data.draw(st.sampled_from(["flip", "cut", "insert", "end"])):
                    case "flip":
                        octets[at] = data.draw(st.integers(0, 255))
                    case "cut":
                        del octets[at : at + data.draw(st.integers(1, 20))]
                    case "insert":
                        octets[at:at] = data.draw(st.binary(max_size=6))
                    case "end":
                        del octets[at + 1 :]
                if not octets:
                    break
        lab.pcscf.effects.append(fx.Send(flow, bytes(octets)))

    lab.pcscf.send = damaged  # type: ignore[method-assign]
    lab.register()
    lab.run(1)
    lab.command("reregister")
    lab.command("message", to="sip:bob@example.org", text="x")
    lab.run(1)
    check(lab)
    lab.pcscf.send = plain  # type: ignore[method-assign]
    lab.run(8000)
    if lab.state() is State.IDLE:
        lab.register()
        lab.run(4000)
    assert lab.state() is State.REGISTERED


@SETTINGS
@given(octets=st.binary(max_size=400), method=st.sampled_from(["INVITE", "NOTIFY", "MESSAGE", "BYE", "ACK", "CANCEL"]))
def test_any_request_inside_is_survived(octets: bytes, method: str) -> None:
    lab = registered(transport="udp")
    sas = lab.ue.sas.established
    assert sas is not None
    head = lab.pcscf.make(method, sas.offer.port_s).encode()
    lab.push(in_set(sas), octets)
    lab.push(in_set(sas), head[: len(head) - 4] + b"\r\n" + octets + b"\r\n\r\n" + octets)
    lab.push_inside(lab.pcscf.make("OPTIONS", sas.offer.port_s))
    assert lab.answers[-1].status == 200
    assert lab.state() is State.REGISTERED
    assert lab.ue.pcscf.host == PCSCF_HOST
