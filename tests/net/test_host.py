"""How a host holds its node: effects in order, failures, commits, costs, timers, SAs and their net."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.net.host import SA_NET
from imslab.net.simulated import SimulatedNetwork
from imslab.trace.record import ListRecorder
from tests.net.toys import PC, PCSCF4, PS, UC, UE4, Lab, Toy, listen, sas_of, tcp, udp

CLEAR = udp((UE4, 5060), (PCSCF4, 5060))


class Table:
    """A store."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def load(self, key: Any) -> Any:
        return self.rows.get(key)

    def commit(self, change: Any) -> None:
        self.rows.update(change)


def kinds(toy: Toy) -> list[str]:
    """The names of the events, Started left out."""
    return [type(event).__name__ for _, event in toy.heard][1:]


class TestEvents:
    def test_started_is_the_first_and_once(self) -> None:
        lab = Lab()
        lab.do(lab.ue)
        assert lab.ue.heard[0] == (0.0, ev.Started())
        assert len(lab.ue.of(ev.Started)) == 1

    def test_events_of_effects_come_after_the_list(self) -> None:
        lab = Lab()
        order: list[str] = []
        lab.ue.react = lambda event: order.append(type(event).__name__)
        send = fx.Send(CLEAR, b"x")
        lab.do(lab.ue, fx.Resolve("pcscf.example", 5060), fx.InstallSas(sas_of(UE4)), send)
        assert order == ["Command", "Resolved", "SasInstalled"]
        assert len(lab.recorder.packets) == 1

    def test_command(self) -> None:
        lab = Lab()
        for who in (lab.ue, lab.u, "ue"):
            lab.net.command(who, "register", name="alice")
        lab.net.run(1)
        assert lab.ue.of(ev.Command) == [ev.Command("register", {"name": "alice"})] * 3

    def test_a_node_that_talks_to_itself(self) -> None:
        lab = Lab()
        lab.ue.react = lambda event: [fx.Resolve("again", 1)]
        with pytest.raises(LocalError, match="ue keeps itself busy"):
            lab.do(lab.ue)


class TestOrder:
    def test_sas_before_the_message_that_needs_them(self) -> None:
        lab = Lab()
        protected = fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"inside")
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)), protected)
        assert [packet.octets[9] for packet in lab.recorder.packets] == [50]
        assert lab.recorder.events[0].kind == "install-sas"

    def test_and_after_it(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"before"), fx.InstallSas(sas_of(UE4)))
        assert [packet.octets[9] for packet in lab.recorder.packets] == [17]

    @pytest.mark.parametrize(
        ("failing", "event"),
        [
            (fx.Send(udp((UE4, 1), ("192.0.2.1", 1)), b""), "Closed"),
            (fx.Send(udp(("192.0.2.1", 1), (PCSCF4, 1)), b""), "Closed"),
            (fx.Send(udp((UE4, 0), (PCSCF4, 1)), b""), "Closed"),
            (fx.Send(udp((UE4, 1), ("pcscf.example", 1)), b""), "Closed"),
            (fx.Send(udp(("ue.example", 1), (PCSCF4, 1)), b""), "Closed"),
            (fx.Send(udp((UE4, 1), ("2001:db8::2", 1)), b""), "Closed"),
            (fx.Send(udp((UE4, 1), (PCSCF4, 1)), bytes(66_000)), "Closed"),
            (fx.Send(tcp((UE4, 1), (PCSCF4, 1)), b""), "Closed"),
            (fx.Send(CLEAR._replace(transport=Transport.TLS), b""), "Closed"),
            (fx.Connect(tcp((UE4, 0), ("192.0.2.1", 1))), "Closed"),
            (fx.Connect(CLEAR._replace(transport=Transport.SCTP)), "Closed"),
            (fx.Connect(tcp(("192.0.2.1", 0), (PCSCF4, 1))), "Closed"),
            (fx.Listen(Transport.UDP, Endpoint("192.0.2.1", 1)), "Closed"),
            (fx.Listen(Transport.UDP, Endpoint(UE4, 0)), "Closed"),
            (fx.Listen(Transport.TLS, Endpoint(UE4, 1)), "Closed"),
            (fx.Listen(Transport.UDP, Endpoint("ue.example", 1)), "Closed"),
            (fx.InstallSas(sas_of(PCSCF4)), "SasFailed"),
            (fx.UpdateSas(7, 10.0), "SasFailed"),
        ],
    )
    def test_a_failure_comes_back_and_ends_the_list(self, failing: fx.Effect, event: str) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.Emit("before", ""), failing, fx.Emit("after", ""), fx.Send(CLEAR, b"never"))
        assert kinds(lab.ue) == ["Command", event]
        told = [each.kind for each in lab.recorder.events]
        assert "before" in told
        assert "after" not in told
        assert lab.recorder.packets == []
        if isinstance(failing, fx.Send | fx.Connect):
            assert lab.ue.of(ev.Closed)[0].flow == failing.flow
            assert lab.ue.of(ev.Closed)[0].reason

    def test_a_failed_listen_names_the_place(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.Listen(Transport.UDP, Endpoint("192.0.2.1", 5060)))
        lab.do(lab.ue, fx.Listen(Transport.TCP, Endpoint("2001:db8::9", 5060)))
        assert [event.flow for event in lab.ue.of(ev.Closed)] == [
            Flow(Transport.UDP, Endpoint("192.0.2.1", 5060), Endpoint("0.0.0.0", 0)),
            Flow(Transport.TCP, Endpoint("2001:db8::9", 5060), Endpoint("::", 0)),
        ]

    def test_listening_twice_is_listening(self) -> None:
        lab = Lab()
        lab.do(lab.ue, listen(Transport.UDP, UE4, 5060), listen(Transport.UDP, UE4, 5060), fx.Emit("after", ""))
        assert lab.recorder.events[-1].kind == "after"
        assert lab.ue.of(ev.Closed) == []

    def test_what_does_not_exist_is_closed_removed_and_unlistened_in_peace(self) -> None:
        lab = Lab()
        quiet = [fx.Close(tcp((UE4, 1), (PCSCF4, 1))), fx.RemoveSas(9)]
        lab.do(lab.ue, *quiet, fx.Unlisten(Transport.UDP, Endpoint("192.0.2.1", 1)), fx.Emit("done", "all"))
        assert lab.recorder.events[-1].kind == "done"
        assert kinds(lab.ue) == ["Command"]


class TestStore:
    def test_load_persist_committed(self) -> None:
        net = SimulatedNetwork()
        toy, table = Toy("hss"), Table()
        net.host(toy, ["10.1.1.1"], store=table)
        net.command(toy, "do", effects=[fx.Load("sqn"), fx.Persist({"sqn": 32}), fx.Load("sqn")])
        net.run()
        assert [event for _, event in toy.heard[2:]] == [
            ev.Loaded("sqn", None),
            ev.Committed({"sqn": 32}),
            ev.Loaded("sqn", 32),
        ]

    def test_without_a_store(self) -> None:
        lab = Lab()
        with pytest.raises(LocalError, match="no store"):
            lab.do(lab.ue, fx.Load("x"))

    def test_what_follows_a_persist_waits_for_its_commit_and_nothing_else_does(self) -> None:
        recorder = ListRecorder()
        net = SimulatedNetwork(recorder=recorder)
        toy, table = Toy("hss"), Table()
        net.host(toy, ["10.1.1.1"], store=table, cost=lambda step: 0.01 if isinstance(step, fx.Persist) else 0.0)
        toy.timer = 0.005
        net.command(toy, "do", effects=[fx.Emit("1", ""), fx.Persist({"a": 1}), fx.Emit("3", "")])
        net.command(toy, "do", effects=[fx.Emit("2", "")])
        net.run(0.009)
        assert table.rows == {}
        net.run()
        assert [(each.time, each.kind) for each in recorder.events] == [(0.0, "1"), (0.0, "2"), (0.01, "3")]
        assert [(time, type(event)) for time, event in toy.heard[-2:]] == [(0.005, ev.Timer), (0.01, ev.Committed)]


class TestCost:
    def test_events_wait_for_one_another(self) -> None:
        net = SimulatedNetwork()
        toy = Toy("slow")
        net.host(toy, ["10.1.1.1"], cost=0.1)
        for _ in range(3):
            net.command(toy, "do", effects=[fx.Emit("x", "")])
        net.run()
        assert [time for time, _ in toy.heard] == pytest.approx([0.1, 0.2, 0.3, 0.4])

    def test_the_race_for_the_sas(self) -> None:
        """An answer within 1 ms of the 401 finds the SAs there, or not, by the order of two effects."""
        for early in (False, True):
            net = SimulatedNetwork()
            pcscf, ue = Toy("pcscf"), Toy("ue")
            cost = {fx.InstallSas: 0.002}
            p = net.host(pcscf, [PCSCF4], cost=lambda step, cost=cost: cost.get(type(step), 0.0))
            u = net.host(ue, [UE4])
            net.link(u, p, "Gm", delay=0.0002)
            ue.react = lambda event: (
                [fx.InstallSas(sas_of(UE4)), fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"REGISTER 2")]
                if isinstance(event, ev.Arrival)
                else None
            )
            install = fx.InstallSas(sas_of(PCSCF4))
            challenge = fx.Send(CLEAR.reversed, b"401")
            steps = [challenge, install] if early else [install, challenge]
            net.command(pcscf, "do", effects=[listen(Transport.UDP, PCSCF4, PS), *steps])
            net.command(ue, "do", effects=[listen(Transport.UDP, UE4, 5060)])
            net.run(1)
            if early:
                assert p.counters == {"XfrmInNoStates": 1}
                assert pcscf.of(ev.Arrival) == []
            else:
                assert not p.counters
                assert pcscf.octets == b"REGISTER 2"

    def test_a_failure_after_a_costly_effect_ends_the_list(self) -> None:
        recorder = ListRecorder()
        net = SimulatedNetwork(recorder=recorder)
        toy = Toy("slow")
        net.host(toy, ["10.1.1.1"], cost=lambda step: 0.5 if isinstance(step, fx.UpdateSas) else 0.0)
        net.command(toy, "do", effects=[fx.UpdateSas(1, 1.0), fx.Emit("never", "")])
        net.command(toy, "do", effects=[fx.Emit("later", "")])
        net.run()
        assert [(each.time, each.kind) for each in recorder.events] == [(0.5, "later")]
        assert [type(event) for _, event in toy.heard] == [ev.Started, ev.Command, ev.Command, ev.SasFailed]

    def test_a_cost_from_now_on(self) -> None:
        net = SimulatedNetwork()
        toy = Toy("slower")
        host = net.host(toy, ["10.1.1.1"])
        net.run(1)
        host.set_cost(0.1)
        net.command(toy, "do", effects=[])
        net.run()
        host.set_cost(0.0)
        net.command(toy, "do", effects=[])
        net.run()
        assert [time for time, _ in toy.heard] == pytest.approx([0, 1.1, 1.1])
        with pytest.raises(LocalError):
            host.set_cost(-1)

    def test_no_negative_cost(self) -> None:
        with pytest.raises(LocalError):
            SimulatedNetwork().host(Toy("x"), ["10.1.1.1"], cost=-1.0)


class TestTimer:
    def test_at_its_time(self) -> None:
        lab = Lab()
        lab.ue.timer = 5.0
        lab.do(lab.ue)
        assert lab.ue.of(ev.Timer) == []
        lab.net.run()
        assert (lab.ue.heard[-1]) == (5.0, ev.Timer())
        assert len(lab.ue.of(ev.Timer)) == 1

    def test_moved_both_ways_and_taken_back(self) -> None:
        lab = Lab()
        lab.ue.timer = 5.0
        lab.do(lab.ue)
        lab.ue.timer = 3.0
        lab.do(lab.ue)
        lab.net.run(3.5)
        assert lab.ue.heard[-1] == (3.0, ev.Timer())
        lab.ue.timer = 6.0
        lab.do(lab.ue)
        lab.ue.timer = 9.0
        lab.do(lab.ue)
        lab.net.run(8)
        assert len(lab.ue.of(ev.Timer)) == 1
        lab.ue.timer = None
        lab.do(lab.ue)
        lab.net.run(20)
        assert len(lab.ue.of(ev.Timer)) == 1

    def test_one_in_the_past_comes_now(self) -> None:
        lab = Lab()
        lab.net.run(10)
        lab.ue.timer = 1.0
        lab.do(lab.ue)
        assert lab.ue.heard[-1] == (10.0, ev.Timer())

    def test_a_busy_node_gets_one(self) -> None:
        net = SimulatedNetwork()
        toy = Toy("slow")
        net.host(toy, ["10.1.1.1"], cost=1.0)
        toy.timer = 1.5
        for _ in range(4):
            net.command(toy, "do", effects=[])
        net.run()
        assert [time for time, event in toy.heard if isinstance(event, ev.Timer)] == [6.0]

    def test_one_that_never_moves(self) -> None:
        class Stuck(Toy):
            def next_timer(self) -> float | None:
                return 1.0

        net = SimulatedNetwork()
        net.host(Stuck("stuck"), ["10.1.1.1"])
        with pytest.raises(LocalError, match="stuck asks for a Timer"):
            net.run()


class TestSas:
    def test_installed_and_noted_without_keys(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)))
        assert lab.ue.of(ev.SasInstalled) == [ev.SasInstalled(1)]
        (note,) = lab.recorder.events
        assert (note.node, note.kind, note.data["number"]) == ("ue", "install-sas", 1)
        assert note.data["sas"] == sas_of(UE4)
        assert bytes(range(16)).hex() not in repr(note)
        assert lab.u.sets == {1: sas_of(UE4)}

    def test_made_to_fail(self) -> None:
        lab = Lab()
        lab.u.sa_install_fails = "No buffer space available"
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)))
        assert lab.ue.of(ev.SasFailed) == [ev.SasFailed(1, "No buffer space available")]
        assert lab.recorder.events[-1].kind == "sas-failed"
        assert lab.u.sets == {}
        lab.u.sa_install_fails = ""
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)))
        assert lab.ue.of(ev.SasInstalled) == [ev.SasInstalled(1)]

    def test_the_same_spi_again(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)), fx.InstallSas(sas_of(UE4, 2, uc=UC + 10, pc=PC + 10)))
        (failed,) = lab.ue.of(ev.SasFailed)
        assert failed.number == 2
        assert "SPI" in failed.error
        assert list(lab.u.sets) == [1]

    def test_the_net_below_the_nodes_timer(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4, lifetime=100.0)))
        lab.net.run(100 + SA_NET - 0.1)
        assert lab.ue.of(ev.SaExpired) == []
        lab.net.run(100 + SA_NET)
        assert lab.ue.of(ev.SaExpired) == [ev.SaExpired(1)]
        assert lab.u.sets == {}
        assert lab.recorder.events[-1].kind == "sas-expired"

    def test_update_moves_it_and_remove_takes_it_away(self) -> None:
        lab = Lab()
        second = sas_of(UE4, 2, uc=UC + 10, pc=PC + 10, first_spi=2001, lifetime=100.0)
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4, lifetime=100.0)), fx.InstallSas(second))
        lab.do(lab.ue, fx.UpdateSas(1, 1000.0), fx.RemoveSas(2))
        assert [each.kind for each in lab.recorder.events[2:]] == ["update-sas", "remove-sas"]
        lab.net.run(1000)
        assert lab.ue.of(ev.SaExpired) == []
        lab.net.run(1001 + SA_NET)
        assert lab.ue.of(ev.SaExpired) == [ev.SaExpired(1)]

    def test_removed_sets_leave_nothing_to_wait_for(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)), fx.RemoveSas(1))
        lab.net.run()
        assert lab.net.now == 1.0


def test_resolve() -> None:
    lab = Lab()
    lab.net.names = {"pcscf.example": [PCSCF4, "2001:DB8::2"], "srv.example": [Endpoint(PCSCF4, 7060)]}
    for name in ("PCSCF.example.", "srv.example", "nobody.example", "[2001:db8::7]"):
        lab.do(lab.ue, fx.Resolve(name, 5060))
    assert [event.endpoints for event in lab.ue.of(ev.Resolved)] == [
        (Endpoint(PCSCF4, 5060), Endpoint("2001:db8::2", 5060)),
        (Endpoint(PCSCF4, 7060),),
        (),
        (Endpoint("2001:db8::7", 5060),),
    ]


def test_emit_and_what_a_host_says_of_itself() -> None:
    lab = Lab()
    lab.do(lab.ue, fx.Emit("registered", "as alice", {"impu": "sip:alice@example"}))
    (event,) = lab.recorder.events
    assert event[:5] == (0.0, "ue", "registered", "as alice", {"impu": "sip:alice@example"})
    assert repr(lab.u) == "<Host ue 10.0.0.1 2001:db8::1>"
