"""UDP, TCP, fragments and ESP between two hosts, and what their kernels drop."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, Flow, Transport, pack_host
from imslab.ipsec.packet import ACK, ESP, FIN, RST, SYN, TCP, UDP, build_ip, build_tcp, build_udp, parse_ip, parse_tcp
from imslab.net.tcp import TIME_WAIT
from tests.net.toys import (
    EVERY_COMBINATION,
    PC,
    PCSCF4,
    PCSCF6,
    PS,
    UC,
    UE4,
    UE6,
    US,
    Lab,
    echo,
    listen,
    sas_of,
    tcp,
    udp,
)

UE, PCSCF = pack_host(UE4), pack_host(PCSCF4)


def flags(lab: Lab, since: int = 0) -> list[int]:
    """The control bits of the TCP segments recorded in clear."""
    packets = [parse_ip(packet.octets) for packet in lab.recorder.packets[since:]]
    return [parse_tcp(each.payload, each.src, each.dst).flags for each in packets if each.protocol == TCP]


def protocols(lab: Lab, since: int = 0) -> set[int]:
    return {parse_ip(packet.octets).protocol for packet in lab.recorder.packets[since:]}


class TestUdp:
    @pytest.mark.parametrize("pair", [(UE4, PCSCF4), (UE6, PCSCF6)])
    @pytest.mark.parametrize("size", [0, 1, 1400, 1473, 9000, 65_000])
    def test_there_and_back(self, pair: tuple[str, str], size: int) -> None:
        lab = Lab()
        ue, pcscf = pair
        lab.pcscf.react = echo
        lab.do(lab.pcscf, listen(Transport.UDP, pcscf, 5060))
        octets = bytes(index % 253 for index in range(size))
        lab.do(lab.ue, listen(Transport.UDP, ue, 5062), fx.Send(udp((ue, 5062), (pcscf, 5060)), octets))
        assert lab.pcscf.of(ev.Arrival) == [ev.Arrival(udp((pcscf, 5060), (ue, 5062)), octets)]
        assert lab.ue.of(ev.Arrival) == [ev.Arrival(udp((ue, 5062), (pcscf, 5060)), octets)]
        assert all(len(packet.octets) <= 1500 for packet in lab.recorder.packets)
        assert (len(lab.recorder.packets) == 2) is (size <= 1400)

    def test_nobody_listens(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.Send(udp((UE4, 5060), (PCSCF4, 5060)), b"x"))
        assert lab.p.counters == {"UdpNoPorts": 1}

    def test_listening_everywhere_and_no_more(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, "0.0.0.0", 5060), listen(Transport.UDP, "::", 5060))
        send = [fx.Send(udp((UE4, 1), (PCSCF4, 5060)), b"4"), fx.Send(udp((UE6, 1), (PCSCF6, 5060)), b"6")]
        lab.do(lab.ue, *send)
        assert lab.pcscf.octets == b"46"
        lab.do(lab.pcscf, fx.Unlisten(Transport.UDP, Endpoint("0.0.0.0", 5060)))
        lab.do(lab.ue, *send)
        assert lab.pcscf.octets == b"466"

    def test_a_lost_fragment_loses_the_datagram(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060))
        with lab.net.drop(lab.u >> lab.p, nth=2) as fault:
            lab.do(lab.ue, fx.Send(udp((UE4, 1), (PCSCF4, 5060)), bytes(4000)))
        assert fault.hits == 1
        assert lab.pcscf.octets == b""
        lab.do(lab.ue, fx.Send(udp((UE4, 1), (PCSCF4, 5060)), bytes(4000)))
        assert lab.pcscf.octets == bytes(4000)

    @pytest.mark.parametrize(
        ("octets", "counter"),
        [
            (b"\x40nonsense", "IpInHdrErrors"),
            (build_ip(UE, UE, UDP, build_udp(UE, UE, 1, 5060, b"x")), "IpInAddrErrors"),
            (build_ip(UE, PCSCF, 1, b"ping"), "IpInUnknownProtos"),
            (build_ip(UE, PCSCF, UDP, build_udp(UE, UE, 1, 5060, b"x")), "UdpInErrors"),
            (build_ip(UE, PCSCF, UDP, b"tiny"), "UdpInErrors"),
            (build_ip(UE, PCSCF, TCP, b"tiny"), "TcpInErrs"),
            (build_ip(UE, PCSCF, ESP, bytes(40)), "XfrmInNoStates"),
        ],
    )
    def test_what_a_kernel_drops(self, octets: bytes, counter: str) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060))
        lab.net.inject(octets, at=lab.p)
        lab.net.run()
        assert lab.p.counters == {counter: 1}
        assert lab.pcscf.of(ev.Arrival) == []

    @settings(max_examples=60, deadline=None)
    @given(head=st.sampled_from([b"", build_ip(UE, PCSCF, UDP, b"")[:20], b"\x60" + bytes(39)]), tail=st.binary())
    def test_no_packet_breaks_a_host(self, head: bytes, tail: bytes) -> None:
        lab = Lab()
        lab.net.inject(head + tail, at=lab.p)
        for protocol in (UDP, TCP, ESP):
            lab.net.inject(build_ip(UE, PCSCF, protocol, tail), at=lab.p)
        lab.net.run()
        assert lab.pcscf.of(ev.Arrival) == []

    def test_fragments_that_lie(self) -> None:
        lab = Lab()
        whole = build_ip(pack_host(UE6), pack_host(PCSCF6), 44, b"\x00\x00\x00\x01\x00\x00\x00\x07" + bytes(8))
        last = build_ip(pack_host(UE6), pack_host(PCSCF6), 44, b"\x00\x00\x00\x08\x00\x00\x00\x07\x3b")
        for packet in (whole, last):
            lab.net.inject(packet, at=lab.p)
        lab.net.run()
        assert sum(lab.p.counters.values()) == 1


class TestTcp:
    FLOW = tcp((UE4, 40000), (PCSCF4, 5060))

    def listening(self, **link: object) -> Lab:
        lab = Lab(**link)  # type: ignore[arg-type]
        lab.do(lab.pcscf, listen(Transport.TCP, PCSCF4, 5060))
        return lab

    def test_the_whole_life(self) -> None:
        lab = self.listening()
        lab.do(lab.ue, fx.Connect(self.FLOW, "key"))
        assert lab.ue.of(ev.Connected) == [ev.Connected(self.FLOW, "key")]
        assert lab.pcscf.of(ev.Connected) == [ev.Connected(self.FLOW.reversed)]
        octets = bytes(index % 251 for index in range(100_000))
        lab.do(lab.ue, fx.Send(self.FLOW, octets))
        lab.do(lab.pcscf, fx.Send(self.FLOW.reversed, octets[::-1]))
        lab.do(lab.ue, fx.Close(self.FLOW))
        assert lab.pcscf.octets == octets
        assert lab.ue.octets == octets[::-1]
        assert lab.ue.of(ev.Closed) == [ev.Closed(self.FLOW, "", "key")]
        assert lab.pcscf.of(ev.Closed) == [ev.Closed(self.FLOW.reversed)]
        assert all(len(packet.octets) <= 1500 for packet in lab.recorder.packets)
        assert flags(lab)[:3] == [SYN, SYN | ACK, ACK]
        assert flags(lab)[-4:] == [FIN | ACK, ACK, FIN | ACK, ACK]

    def test_a_port_of_the_carriers_choice(self) -> None:
        lab = self.listening()
        asked = tcp((UE4, 0), (PCSCF4, 5060))
        lab.do(lab.ue, fx.Connect(asked, 1), fx.Connect(asked, 2))
        first, second = lab.ue.of(ev.Connected)
        assert (first.key, second.key) == (1, 2)
        assert 49152 <= first.flow.local.port < second.flow.local.port <= 65535
        lab.do(lab.ue, fx.Send(first.flow, b"x"))
        assert lab.pcscf.octets == b"x"

    def test_nobody_listens(self) -> None:
        lab = Lab()
        lab.do(lab.ue, fx.Connect(self.FLOW, "key"))
        assert lab.ue.of(ev.Closed) == [ev.Closed(self.FLOW, "connection refused", "key")]
        assert flags(lab) == [SYN, RST | ACK]
        assert lab.p.counters == {"TcpOutRsts": 1}

    def test_nobody_answers(self) -> None:
        lab = self.listening()
        with lab.net.drop(lab.p >> lab.u, nth=None):
            lab.do(lab.ue, fx.Connect(self.FLOW, "key"), seconds=300)
        assert lab.ue.of(ev.Closed) == [ev.Closed(self.FLOW, "timed out", "key")]
        assert lab.pcscf.of(ev.Connected) == lab.pcscf.of(ev.Closed) == []

    def test_connected_twice(self) -> None:
        lab = self.listening()
        lab.do(lab.ue, fx.Connect(self.FLOW, 1), fx.Connect(self.FLOW, 2))
        assert lab.ue.of(ev.Closed) == [ev.Closed(self.FLOW, "address already in use", 2)]
        assert lab.ue.of(ev.Connected) == [ev.Connected(self.FLOW, 1)]

    @pytest.mark.parametrize("who", ["the one that closed", "the other"])
    def test_fixed_ports_are_used_again_at_once(self, who: str) -> None:
        lab = self.listening()
        for round_ in range(3):
            lab.do(lab.ue, fx.Connect(self.FLOW, round_), seconds=0.01)
            lab.do(lab.ue, fx.Send(self.FLOW, bytes(200_000)), seconds=0.5)
            closer, flow = (lab.ue, self.FLOW) if who == "the one that closed" else (lab.pcscf, self.FLOW.reversed)
            lab.do(closer, fx.Close(flow), seconds=0.01)
        assert [event.key for event in lab.ue.of(ev.Connected)] == [0, 1, 2]
        assert [event.reason for event in lab.ue.of(ev.Closed)] == [""] * 3
        assert len(lab.pcscf.octets) == 600_000

    def test_rest_ends(self) -> None:
        lab = self.listening()
        lab.do(lab.ue, fx.Connect(self.FLOW))
        lab.do(lab.ue, fx.Close(self.FLOW))
        assert lab.u._stack.stream(self.FLOW) is not None
        lab.net.run(lab.net.now + TIME_WAIT)
        assert lab.u._stack.stream(self.FLOW) is None
        assert lab.p._stack.stream(self.FLOW.reversed) is None

    def test_the_answer_to_the_last_request_comes_before_the_end(self) -> None:
        """A peer that sends and closes at once still gets its answer."""
        lab = self.listening()
        lab.pcscf.react = echo
        lab.do(lab.ue, fx.Connect(self.FLOW))
        lab.do(lab.ue, fx.Send(self.FLOW, b"request"), fx.Close(self.FLOW))
        assert lab.ue.octets == b"request"
        assert [type(event) for _, event in lab.ue.heard[-2:]] == [ev.Arrival, ev.Closed]

    def test_a_slow_node_hears_of_the_end_in_time(self) -> None:
        lab = Lab()
        slow = type(lab.pcscf)("slow", echo)
        s = lab.net.host(slow, ["10.0.0.3"], cost=0.2)
        lab.net.link(lab.u, s, "Mw")
        lab.do(slow, listen(Transport.TCP, "10.0.0.3", 5060))
        flow = tcp((UE4, 0), ("10.0.0.3", 5060))
        lab.do(lab.ue, fx.Connect(flow), seconds=2)
        flow = lab.ue.of(ev.Connected)[0].flow
        lab.do(lab.ue, fx.Send(flow, b"request"), fx.Close(flow), seconds=2)
        assert lab.ue.octets == b"request"
        assert [event.reason for event in lab.ue.of(ev.Closed) + slow.of(ev.Closed)] == ["", ""]

    def test_what_is_sent_after_the_end_is_an_error_once_it_was_told(self) -> None:
        lab = self.listening()
        lab.do(lab.ue, fx.Connect(self.FLOW))
        lab.u.abort(self.FLOW)
        lab.net.run(lab.net.now + 1)
        assert [event.reason for event in lab.pcscf.of(ev.Closed)] == ["connection reset by peer"]
        assert [event.reason for event in lab.ue.of(ev.Closed)] == ["connection aborted"]
        lab.do(lab.ue, fx.Send(self.FLOW, b"late"), fx.Emit("never", ""))
        assert [event.reason for event in lab.ue.of(ev.Closed)] == ["connection aborted", "no such connection"]
        assert lab.recorder.events == []
        with pytest.raises(LocalError):
            lab.u.abort(self.FLOW)

    def test_an_end_that_waits_to_be_told_is_told_once(self) -> None:
        lab = Lab()
        slow = type(lab.pcscf)("slow", echo)
        s = lab.net.host(slow, ["10.0.0.3"], cost=0.2)
        lab.net.link(lab.u, s, "Mw")
        lab.do(slow, listen(Transport.TCP, "10.0.0.3", 5060))
        lab.do(lab.ue, fx.Connect(tcp((UE4, 0), ("10.0.0.3", 5060))), seconds=2)
        flow = lab.ue.of(ev.Connected)[0].flow
        lab.do(lab.ue, fx.Send(flow, b"request"), seconds=0.01)
        lab.u.abort(flow)
        lab.net.run(lab.net.now + 2)
        assert [type(event) for _, event in slow.heard[-2:]] == [ev.Arrival, ev.Closed]
        assert len(slow.of(ev.Closed)) == 1

    def test_segments_for_nobody_are_reset_and_resets_are_not(self) -> None:
        lab = Lab()
        for bits in (ACK, SYN, RST, RST | ACK):
            lab.net.inject(build_ip(UE, PCSCF, TCP, build_tcp(UE, PCSCF, 1, 2, seq=9, ack=7, flags=bits)), at=lab.p)
        lab.net.run()
        answers = [parse_ip(packet.octets) for packet in lab.recorder.packets]
        segments = [parse_tcp(each.payload, each.src, each.dst) for each in answers]
        assert [(each.flags, each.seq, each.ack) for each in segments] == [(RST, 7, 0), (RST | ACK, 0, 10)]

    def test_no_free_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imslab.net.stack.LAST_EPHEMERAL", 49153)
        lab = self.listening()
        asked = tcp((UE4, 0), (PCSCF4, 5060))
        lab.do(lab.ue, fx.Connect(asked), fx.Connect(asked), fx.Connect(asked, 3))
        assert len(lab.ue.of(ev.Connected)) == 2
        assert lab.ue.of(ev.Closed) == [ev.Closed(asked, "no free port", 3)]

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        loss=st.floats(0, 0.1),
        duplicate=st.floats(0, 0.3),
        reorder=st.floats(0, 0.3),
        protected=st.booleans(),
        size=st.integers(0, 30_000),
    )
    def test_exact_streams_on_bad_links(
        self, seed: int, loss: float, duplicate: float, reorder: float, protected: bool, size: int
    ) -> None:
        lab = Lab(seed, loss=loss, duplicate=duplicate, reorder=reorder, delay=(0.001, 0.02))
        lab.pcscf.react = echo
        flow = tcp((UE4, UC), (PCSCF4, PS)) if protected else self.FLOW
        if protected:
            lab.protect()
        lab.do(lab.pcscf, listen(Transport.TCP, *flow.remote))
        octets = bytes(index % 249 for index in range(size))
        lab.do(lab.ue, fx.Connect(flow), seconds=0)
        assert lab.net.run_until(lambda: lab.ue.of(ev.Connected) != [], 200)
        lab.do(lab.ue, fx.Send(flow, octets), seconds=0)
        assert lab.net.run_until(lambda: len(lab.ue.octets) == size, 600)
        lab.do(lab.ue, fx.Close(flow), seconds=0)
        assert lab.net.run_until(lambda: bool(lab.ue.of(ev.Closed) and lab.pcscf.of(ev.Closed)), 200)
        assert lab.pcscf.octets == lab.ue.octets == octets
        assert {event.sas for event in lab.pcscf.of(ev.Arrival)} <= {1 if protected else None}
        assert lab.ue.of(ev.Closed) == [ev.Closed(flow)]


class TestEsp:
    @pytest.mark.parametrize(("alg", "ealg"), EVERY_COMBINATION)
    @pytest.mark.parametrize("family", [4, 6])
    def test_udp_and_tcp_through_every_algorithm(self, alg: str, ealg: str, family: int) -> None:
        lab = Lab()
        ue, pcscf = (UE4, PCSCF4) if family == 4 else (UE6, PCSCF6)
        lab.do(lab.pcscf, fx.InstallSas(sas_of(pcscf, 5, alg=alg, ealg=ealg)))
        lab.do(lab.ue, fx.InstallSas(sas_of(ue, 7, alg=alg, ealg=ealg)))
        lab.do(lab.pcscf, listen(Transport.UDP, pcscf, PS), listen(Transport.TCP, pcscf, PS))
        lab.do(lab.ue, listen(Transport.UDP, ue, US), listen(Transport.TCP, ue, US))
        up, down = (ue, UC), (pcscf, PS)
        octets = bytes(index % 247 for index in range(5000))
        lab.do(lab.ue, fx.Send(udp(up, down), octets), fx.Connect(tcp(up, down)))
        lab.do(lab.pcscf, fx.Send(udp((pcscf, PC), (ue, US)), octets), fx.Connect(tcp((pcscf, PC), (ue, US))))
        lab.do(lab.ue, fx.Send(tcp(up, down), octets), fx.Send(tcp((ue, US), (pcscf, PC)), b"and back"))
        streams = {
            flow: b"".join(event.octets for event in lab.pcscf.of(ev.Arrival) if event.flow == flow)
            for flow in {event.flow for event in lab.pcscf.of(ev.Arrival)}
        }
        assert streams == {
            udp(down, up): octets,
            tcp(down, up): octets,
            tcp((pcscf, PC), (ue, US)): b"and back",
        }
        assert lab.ue.octets == octets
        assert {event.sas for event in lab.pcscf.of(ev.Arrival) + lab.pcscf.of(ev.Connected)} == {5}
        assert {event.sas for event in lab.ue.of(ev.Arrival) + lab.ue.of(ev.Connected)} == {7}
        assert protocols(lab) == {ESP}
        assert not lab.u.counters
        assert not lab.p.counters
        # Segments are cut so that ESP fits; only the two long datagrams are in fragments.
        assert sum(parse_ip(packet.octets).is_fragment for packet in lab.recorder.packets) == 8

    def test_clear_beside_protected(self) -> None:
        lab = Lab()
        lab.protect()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060), listen(Transport.UDP, PCSCF4, PS))
        lab.do(lab.ue, fx.Send(udp((UE4, 5060), (PCSCF4, 5060)), b"a"), fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"b"))
        assert [(event.octets, event.sas) for event in lab.pcscf.of(ev.Arrival)] == [(b"a", None), (b"b", 1)]

    @pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
    @pytest.mark.parametrize(("local", "remote"), [(UC, 5060), (US, PS), (UC, PC), (US, 5060)])
    def test_nothing_leaves_a_protected_port_without_its_sa(
        self, transport: Transport, local: int, remote: int
    ) -> None:
        lab = Lab()
        lab.protect()
        flow = Flow(transport, Endpoint(UE4, local), Endpoint(PCSCF4, remote))
        lab.do(lab.ue, fx.Connect(flow) if transport is Transport.TCP else fx.Send(flow, b"x"), fx.Emit("never", ""))
        assert lab.ue.of(ev.Closed) == [ev.Closed(flow, f"no SA protects port {local}")]
        assert lab.u.counters == {"XfrmOutNoStates": 1}
        assert lab.recorder.packets == []

    def test_nor_when_its_sas_are_gone_until_unlisten(self) -> None:
        lab = Lab()
        lab.do(lab.ue, listen(Transport.UDP, UE4, US), listen(Transport.TCP, UE4, US))
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060))
        lab.protect()
        lab.do(lab.ue, fx.RemoveSas(1))
        send = fx.Send(udp((UE4, US), (PCSCF4, 5060)), b"x")
        lab.do(lab.ue, send)
        lab.do(lab.ue, fx.Unlisten(Transport.UDP, Endpoint(UE4, US)))
        lab.do(lab.ue, send)
        assert lab.u.counters == {"XfrmOutNoStates": 2}
        lab.do(lab.ue, fx.Unlisten(Transport.TCP, Endpoint(UE4, US)), send)
        assert lab.pcscf.octets == b"x"

    def test_nothing_clear_comes_in_there_either(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, PS), listen(Transport.TCP, PCSCF4, PS))
        lab.protect()
        lab.do(lab.ue, fx.RemoveSas(1), fx.Unlisten(Transport.UDP, Endpoint(UE4, UC)))
        lab.do(lab.ue, fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"x"), fx.Send(udp((UE4, 9), (PCSCF4, PS)), b"x"))
        lab.do(lab.ue, fx.Connect(tcp((UE4, 10), (PCSCF4, PS))))
        assert lab.p.counters == {"XfrmInTmplMismatch": 1, "XfrmInNoPols": 2}
        assert lab.pcscf.of(ev.Arrival) == lab.pcscf.of(ev.Connected) == []
        assert RST | ACK not in flags(lab)

    def test_a_stream_never_falls_back_to_clear(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.TCP, PCSCF4, PS))
        lab.protect()
        flow = tcp((UE4, UC), (PCSCF4, PS))
        lab.do(lab.ue, fx.Connect(flow))
        lab.do(lab.ue, fx.RemoveSas(1), fx.Unlisten(Transport.TCP, Endpoint(UE4, UC)))
        before = len(lab.recorder.packets)
        lab.do(lab.ue, fx.Send(flow, b"secret"), seconds=300)
        assert lab.recorder.packets[before:] == []
        assert lab.ue.of(ev.Closed) == [ev.Closed(flow, "timed out")]
        assert lab.u.counters["XfrmOutNoStates"] > 5

    def test_nor_hears_in_clear(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.TCP, PCSCF4, PS))
        lab.protect()
        flow = tcp((UE4, UC), (PCSCF4, PS))
        lab.do(lab.ue, fx.Connect(flow))
        # Both forget that uc is protected, but the stream began there.
        lab.do(lab.ue, fx.RemoveSas(1), fx.Unlisten(Transport.TCP, Endpoint(UE4, UC)))
        stream = lab.u._stack.stream(flow)
        assert stream is not None
        seq = stream.tcp.rcv_nxt & 0xFFFFFFFF
        forged = build_tcp(PCSCF, UE, PS, UC, seq=seq, ack=stream.tcp.snd_nxt & 0xFFFFFFFF, flags=ACK, data=b"forged")
        lab.net.inject(build_ip(PCSCF, UE, TCP, forged), at=lab.u)
        lab.net.run(lab.net.now + 0.1)
        assert lab.ue.of(ev.Arrival) == []
        assert lab.u.counters["XfrmInTmplMismatch"] == 1

    def test_faults_on_the_way(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, PS))
        lab.protect()
        send = fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"x")
        with lab.net.corrupt(lab.u >> lab.p):
            lab.do(lab.ue, send)
        assert lab.p.counters == {"XfrmInStateProtoError": 1}
        with lab.net.duplicate(lab.u >> lab.p):
            lab.do(lab.ue, send)
        assert lab.p.counters["XfrmInStateSeqError"] == 1
        with lab.net.replay(lab.u >> lab.p, after=0.5):
            lab.do(lab.ue, send)
        assert lab.p.counters["XfrmInStateSeqError"] == 2
        assert lab.pcscf.octets == b"xx"
        lab.do(lab.pcscf, fx.RemoveSas(1))
        lab.do(lab.ue, send)
        assert lab.p.counters["XfrmInNoStates"] == 1

    def test_other_keys(self) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, PS), fx.InstallSas(sas_of(PCSCF4, ik=bytes(16))))
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4)), fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"x"))
        assert lab.p.counters == {"XfrmInStateProtoError": 1}

    def test_numbers_run_out(self) -> None:
        lab = Lab()
        lab.protect()
        outbound = lab.u._stack.sadb.outbound((UE, UC, PCSCF, PS))
        assert outbound is not None
        send = fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"x")
        lab.do(lab.ue, send)
        assert outbound._sealer is not None
        outbound._sealer.sequence = 0xFFFFFFFF
        lab.do(lab.ue, send)
        assert [event.reason for event in lab.ue.of(ev.Closed)] == ["the SA has used up its sequence numbers"]
        assert lab.u.counters == {"XfrmOutStateSeqError": 1}

    def test_a_chosen_port_is_never_one_that_was_protected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.TCP, PCSCF4, 5060))
        lab.do(lab.ue, fx.InstallSas(sas_of(UE4, uc=50_000)), listen(Transport.TCP, UE4, 50_001))
        monkeypatch.setattr(lab.u._stack, "_next_port", 50_000)
        lab.do(lab.ue, fx.Connect(tcp((UE4, 0), (PCSCF4, 5060))))
        assert lab.ue.of(ev.Connected)[0].flow.local.port == 50_002
