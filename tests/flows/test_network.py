"""What a bad network, a slow box and a stranger on the wire do to a lab: nothing that lasts."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.config import load
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Transport, pack_host
from imslab.ipsec.packet import ESP, TCP, UDP, build_ip, build_udp, parse_ip, parse_tcp
from imslab.lab import EPOCH, Lab
from imslab.net.link import Transit
from imslab.report.summary import summarise
from imslab.rules.judge import judge
from imslab.sip.message import Request
from imslab.trace.model import Hop, Icv, Role
from imslab.trace.registration import Outcome
from tests.flows.labs import FIRST, SECOND, Job, Play, job, on_gm, play, says, subscriber


def bad(**chances: float) -> dict[str, float]:
    """Settings of a lab with the same chances on all its links."""
    return {f"links__{link}__{name}": value for link in ("gm", "mw", "cx") for name, value in chances.items()}


def protocol(octets: bytes) -> int:
    """The protocol of an IP packet."""
    return parse_ip(octets).protocol


def in_esp(transit: Transit) -> bool:
    """True for what travels inside an SA."""
    return protocol(transit.octets) == ESP


class TestChance:
    @pytest.mark.parametrize("transport", ["udp", "tcp", "auto"])
    @pytest.mark.parametrize("seed", range(4))
    def test_of_everything(self, seed: int, transport: str) -> None:
        """A tenth lost, a tenth doubled, a fifth overtaken: the main job comes about, and nobody is to blame."""
        chances: dict[str, Any] = bad(loss=0.1, duplicate=0.1, reorder=0.2, delay=0.02)
        done = Job(Lab(load(seed=seed, ip=4 + 2 * (seed % 2), ue__transport=transport, **chances)))
        assert [each.step for each in done.results if not each.ok] == []
        assert summarise(done.trace, [])["verdict"] == "pass"
        assert [each.outcome for each in done.trace.registrations].count(Outcome.REGISTERED) == 3
        assert {record.icv for record in done.trace.esp_records} == {Icv.OK}
        assert done.trace.malformed_records == []
        assert [finding for finding in done.findings if finding.rule != "TRN-02"] == []
        # it was as bad as that
        repeated = [record for record in done.trace.sip_records if done.trace.is_retransmission(record)]
        segments = [each for each in done.lab.recording.packets if protocol(each.octets) == TCP]
        assert repeated or transport == "tcp"
        assert len(segments) > len({each.octets[20:] for each in segments})

    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    @pytest.mark.parametrize(
        "chances",
        [{"loss": 0.3}, {"duplicate": 1.0}, {"reorder": 0.9}, {"delay": 0.4}],
        ids=lambda each: next(iter(each)),
    )
    def test_of_one_kind_alone(self, chances: dict[str, float], transport: str) -> None:
        here = play(ue__transport=transport, **bad(**{"delay": 0.01} | chances))
        here.net.command(here.ue, "register")
        assert here.heard("registered", here.ue, within=400)
        here.run(10)
        assert here.trace.registrations[-1].outcome is Outcome.REGISTERED
        assert [finding for finding in here.findings if finding.rule != "TRN-02"] == []

    def test_of_doubles_shows_in_counters_only(self) -> None:
        """Every ESP packet arrives twice; the second is a replay to the window, and the trace has it once."""
        here = play(**bad(duplicate=1.0))
        here.register(here.ue)
        assert here.ask(here.ue, "message", "message-received", to=FIRST, text="once")
        here.run(1)
        packets = here.trace.esp_records
        counted = sum(here.lab.host(node).counters["XfrmInStateSeqError"] for node in (here.ue, here.lab.pcscf))
        assert counted == len(packets)
        assert not any(record.replayed for record in packets)
        assert here.told(here.ue).count("message-received") == 1

    @pytest.mark.parametrize("seed", [3, 6, 20])
    def test_of_half_an_hour(self, seed: int) -> None:
        """Refreshes, switches, messages and calls of three UEs on a bad network: nobody is lost, or to blame."""
        chances: dict[str, Any] = bad(loss=0.08, duplicate=0.08, reorder=0.2, delay=0.02)
        here = play(
            seed=seed,
            ue__transport=("udp", "tcp", "auto")[seed % 3],
            scscf__expires_max=600,
            subscribers=[subscriber(number) for number in (1, 2, 3)],
            **chances,
        )
        ues = here.lab.ues
        for ue in ues:
            here.net.command(ue, "register")
        here.run(60)
        for number in range(30):
            sender, target = ues[number % 3], ues[(number + 1) % 3]
            here.net.command(sender, "message", to=target.config.impu, text=str(number))
            if number % 7 == 3:
                here.net.command(sender, "call", to=target.config.impu)
            elif number % 7 == 4:
                here.net.command(ues[(number - 1) % 3], "hangup")
            if number % 10 == 9:
                here.net.command(target, "reregister")
            here.run(61)
        trace = here.trace
        assert [ue.registration is not None for ue in ues] == [True] * 3
        got = [event.data["body"] for event in here.lab.recording.events if event.kind == "message-received"]
        told = [event.data["status"] for event in here.lab.recording.events if event.kind == "message-sent"]
        # each arrives once; what was under way on a set that had to go may be lost, and then its sender is told
        assert len(got) == len(set(got)) >= 29
        assert len(told) == 30
        assert told.count(200) <= len(got)
        assert here.told(here.ue).count("registered") == 1  # whoever was in, stayed in
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert [finding for finding in judge(trace) if finding.rule != "TRN-02"] == []


class TestSize:
    @pytest.mark.parametrize(("ip", "mtu"), [(4, 1500), (6, 1500), (4, 1280), (6, 1280)])
    def test_fragments(self, ip: int, mtu: int) -> None:
        """UDP never switches: what is larger than the link goes in fragments, ESP around the whole."""
        here = play(ip=ip, ue__transport="udp", links__gm__mtu=mtu)
        here.register(here.ue)
        trace = here.trace
        answer = trace.registrations[0].requests[1]
        assert len(answer.message.octets or b"") > 1500
        assert answer.transport is Transport.UDP
        assert len(answer.frames) == 2
        for number in answer.frames:
            packet = parse_ip(here.lab.recording.packets[number - 1].octets)
            assert packet.more_fragments or packet.fragment_offset
        gm = [each.octets for each in here.lab.recording.packets if each.point == "Gm"]
        assert max(map(len, gm)) <= mtu
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert {finding.rule for finding in here.findings} == {"TRN-02"}

    @pytest.mark.parametrize("lost", [1, 2])
    def test_a_fragment_that_is_lost(self, lost: int) -> None:
        """The whole is lost with it, and sent again."""
        here = play(ue__transport="udp")
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)

        def is_fragment(transit: Transit) -> bool:
            packet = parse_ip(transit.octets)
            return packet.more_fragments or packet.fragment_offset > 0

        with here.net.drop(host >> pcscf, nth=lost, match=is_fragment) as loss:
            assert here.ask(here.ue, "register", "registered", within=10)
        assert loss.hits == 1
        assert here.net.now > 2  # T1 of Gm
        here.run(60)
        assert here.trace.registrations[0].outcome is Outcome.REGISTERED

    @pytest.mark.parametrize("ip", [4, 6])
    def test_segments(self, ip: int) -> None:
        """TCP inside ESP: handshake, data in segments that fit the link, an orderly end with the SAs."""
        here = play(ip=ip, ue__transport="tcp", links__gm__mtu=1280)
        here.register(here.ue)
        trace = here.trace
        answer = trace.registrations[0].requests[1]
        assert answer.transport is Transport.TCP
        assert answer.spi is not None
        assert len(answer.frames) == 2
        gm = [each.octets for each in here.lab.recording.packets if each.point == "Gm"]
        assert max(map(len, gm)) <= 1280
        for number in answer.frames:
            assert not parse_ip(here.lab.recording.packets[number - 1].octets).more_fragments

    def test_a_stream_in_clear_and_its_end(self) -> None:
        """SYN, SYN-ACK, ACK … FIN both ways: what Mw shows of the connection for large REGISTERs."""
        done = job()
        flags: dict[tuple[bytes, bytes, int, int], list[int]] = {}
        for each in done.lab.recording.packets:
            packet = parse_ip(each.octets)
            if each.point == "Mw" and packet.protocol == TCP:
                segment = parse_tcp(packet.payload, packet.src, packet.dst)
                key = packet.src, packet.dst, segment.src_port, segment.dst_port
                flags.setdefault(key, []).append(segment.flags)
        assert flags
        for (src, dst, src_port, dst_port), seen in flags.items():
            back = flags[dst, src, dst_port, src_port]
            assert {seen[0], back[0]} == {0x02, 0x12}  # SYN, and SYN with ACK
            assert all(each & 0x10 for each in seen[1:])

    def test_a_reset(self) -> None:
        """The P-CSCF's TCP loses the UE's connection; the next request opens another one."""
        here = play(ue__transport="tcp")
        here.register()
        host = here.lab.host(here.lab.pcscf)
        flows = [flow for flow in here.lab.pcscf.streams() if flow.remote.host == here.ue.config.host]
        assert flows
        for flow in flows:
            host.abort(flow)
        here.run(1)
        assert here.ask(here.ue, "message", "message-received", where=here.other, to=SECOND, text="still here")
        assert here.ask(here.other, "message", "message-received", where=here.ue, to=FIRST, text="me too")
        assert here.findings == []


class TestRepetition:
    """RFC 3261 17.1.2.2, 24.229 7.7: when a request over UDP is sent again."""

    def times(self, here: Play, hop: Hop) -> list[float]:
        """Seconds after the first sending of the first REGISTER on a hop."""
        sent = here.trace.sip(method="REGISTER", request=True, hop=hop)
        first = sent[0].message.via[0].branch
        sent = [record for record in sent if record.message.via[0].branch == first]
        return [round(record.time - sent[0].time, 3) for record in sent]

    def test_on_gm(self) -> None:
        """T1 is 2 s, T2 16 s, timer F 128 s."""
        here = play()
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        here.net.drop(host >> pcscf, nth=None)
        here.net.command(here.ue, "register")
        here.run(130)
        assert self.times(here, Hop.GM) == [0, 2, 6, 14, 30, 46, 62, 78, 94, 110, 126]

    def test_on_mw(self) -> None:
        """T1 is 0.5 s, T2 4 s, timer F 32 s."""
        here = play()
        here.run(1)
        icscf, pcscf = here.lab.host(here.lab.icscf), here.lab.host(here.lab.pcscf)
        here.net.drop(pcscf >> icscf, nth=None)
        here.net.command(here.ue, "register")
        here.run(50)
        assert self.times(here, Hop.MW) == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


class TestTime:
    def cost(self, kind: type, seconds: float) -> Any:
        """What a host is told: this long for each event or effect of a kind."""
        return lambda step: seconds if isinstance(step, kind) else 0.0

    def test_an_answer_within_a_millisecond_of_the_401(self) -> None:
        """33.203 7.2: whoever installs first and tells then has time enough, however slow it is."""
        here = play(links__gm__delay=0.0001)
        here.lab.host(here.lab.pcscf).set_cost(self.cost(fx.InstallSas, 0.02))
        assert here.ask(here.ue, "register", "registered", within=1)
        trace = here.trace
        told, answer = trace.registrations[0].finals[0], trace.registrations[0].requests[1]
        assert told is not None
        assert answer.time - told.time < 0.001
        assert not here.lab.host(here.lab.pcscf).counters
        assert not [record for record in trace.sip_records if trace.is_retransmission(record)]
        assert here.findings == []

    def test_the_same_race_lost(self) -> None:
        """A P-CSCF that tells first is not ready for that UE: its SYN finds no SA, and comes again a second later."""
        here = play(links__gm__delay=0.0001, pcscf__faults=("pcscf-late-sas",))
        here.lab.host(here.lab.pcscf).set_cost(self.cost(fx.InstallSas, 0.02))
        assert here.ask(here.ue, "register", "registered", within=30)
        assert here.net.now > 0.9
        assert here.lab.host(here.lab.pcscf).counters["XfrmInNoStates"] == 1

    def test_slow_boxes(self) -> None:
        """Every event costs: 50 ms at each box. Timers hold, nothing is sent twice on Gm for it."""
        here = play()
        for host in here.net.hosts.values():
            host.set_cost(self.cost(ev.Arrival, 0.05))
        here.net.command(here.ue, "register")
        assert here.heard("registered", here.ue, within=30)
        here.run(30)
        trace = here.trace
        assert trace.registrations[0].final is not None
        assert trace.registrations[0].final.time - trace.registrations[0].requests[0].time > 1
        assert [record for record in on_gm(trace, here.ue) if trace.is_retransmission(record)] == []
        assert here.findings == []


class TestStrangers:
    """Packets that nobody meant: counted, not answered, without effect."""

    def ready(self, **settings: Any) -> Play:
        here = play(**settings)
        here.register()
        return here

    def state(self, here: Play) -> Any:
        """What must not change."""
        return (
            [list(host.sets) for host in here.net.hosts.values()],
            [ue.registration for ue in here.lab.ues],
            len(here.lab.recording.packets),
            len(here.lab.recording.events),
        )

    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    def test_replayed(self, transport: str) -> None:
        """RFC 4303 3.4.3: every ESP packet of a minute once more, five seconds later."""
        here = play(ue__transport=transport)
        with here.net.replay(None, 5.0, nth=None, match=in_esp) as again:
            here.register()
            assert here.ask(here.ue, "message", "message-received", where=here.other, to=SECOND, text="once")
            here.run(10)
        packets = [parse_ip(each.octets) for each in here.lab.recording.packets]
        whole = [each for each in packets if each.protocol == ESP and not each.fragment_offset]
        assert again.hits >= len(whole) > 10
        here.run(5)
        assert sum(host.counters["XfrmInStateSeqError"] for host in here.net.hosts.values()) == len(whole)
        assert here.told(here.other).count("message-received") == 1
        assert len(here.trace.registrations) == 2
        assert [finding for finding in here.findings if finding.rule != "TRN-02"] == []

    def test_replayed_in_clear(self) -> None:
        """A REGISTER in clear once more: the transaction answers it again, no new SAs come of it (RFC 3261 17.2.2)."""
        here = play(subscribers=load().model_dump()["subscribers"][:1])
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with here.net.replay(host >> pcscf, 0.5, match=says("REGISTER")) as again:
            here.register(here.ue)
        assert again.hits == 1
        assert here.told(here.lab.pcscf).count("install-sas") == 1
        assert len(here.trace.registrations) == 1

    def test_corrupted(self) -> None:
        """One bit of an ESP packet: a wrong ICV, dropped; over UDP the request comes again, by itself."""
        here = self.ready()
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with here.net.corrupt(host >> pcscf, match=in_esp) as damage:
            assert here.ask(here.ue, "message", "message-received", where=here.other, to=SECOND, text="hello")
        assert damage.hits == 1
        assert pcscf.counters == {"XfrmInStateProtoError": 1}
        assert here.told(here.other).count("message-received") == 1
        here.run(10)
        assert here.findings == []

    def test_corrupted_in_clear(self) -> None:
        """A wrong checksum: never seen by the P-CSCF."""
        here = play()
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with here.net.corrupt(host >> pcscf, match=says("REGISTER")) as damage:
            assert here.ask(here.ue, "register", "registered", within=10)
        assert damage.hits == 1
        assert pcscf.counters == {"UdpInErrors": 1}

    @pytest.mark.parametrize("ip", [4, 6])
    def test_injected(self, ip: int) -> None:
        """33.203 7.1: SIP in clear to protected ports, ESP that no SA made, requests to a UE's open port."""
        here = self.ready(ip=ip)
        ue, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        (mine,) = here.lab.host(here.ue).sets.values()
        uc, ps = mine.sas[0].src, mine.sas[0].dst
        pc, us = mine.sas[2].src, mine.sas[2].dst
        message = self.message(FIRST, SECOND)
        before = self.state(here)
        packets = [
            (pcscf, self.datagram(uc, ps, message), "XfrmInTmplMismatch"),
            (pcscf, self.datagram(uc._replace(port=uc.port + 1), ps, message), "XfrmInNoPols"),
            (pcscf, self.esp(uc.host, ps.host, 0xDEADBEEF, bytes(80)), "XfrmInNoStates"),
            (pcscf, self.esp(uc.host, ps.host, mine.sas[0].spi, bytes(80)), "XfrmInStateProtoError"),
            (pcscf, self.esp(uc.host, ps.host, mine.sas[0].spi, b"12"), "XfrmInStateProtoError"),
            (ue, self.datagram(pc, us, message), "XfrmInTmplMismatch"),
            (ue, self.esp(pc.host, us.host, mine.sas[2].spi, bytes(99)), "XfrmInStateProtoError"),
        ]
        for host, octets, name in packets:
            was = host.counters[name]
            here.net.inject(octets, host)
            here.run(1)
            assert host.counters[name] == was + 1
        assert self.state(here)[:2] == before[:2]
        assert "message-received" not in here.told(here.ue)
        # the watchdogs of Diameter aside, nobody said a word
        assert [record for record in here.trace.sip_records if record.time > EPOCH + 2.1] == []

    def test_requests_in_clear(self) -> None:
        """33.203 7.1: on its open port a UE takes no request, and a P-CSCF nothing but REGISTER."""
        here = self.ready()
        ue, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        stranger = here.ue.config.host[:-1] + "9"
        for host, octets in (
            (ue, self.message(FIRST, SECOND)),
            (pcscf, self.message(SECOND, FIRST)),
        ):
            target = host.addresses[0]
            packet = build_ip(
                pack_host(stranger),
                pack_host(target),
                UDP,
                build_udp(pack_host(stranger), pack_host(target), 5060, 5060, octets),
            )
            here.net.inject(packet, host)
            here.run(1)
            assert "discarded" in here.told(host.node)
        assert "message-received" not in here.told(here.ue) + here.told(here.other)
        assert [record for record in here.trace.sip_records if record.time > EPOCH + 2.1] == []

    def test_a_forged_answer_in_clear(self) -> None:
        """33.203 7.4.1a: a 403 in clear does not end an authentication that goes on inside the new SAs."""
        here = play(links__gm__delay=0.1)
        here.net.command(here.ue, "register")
        ue, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        assert here.heard("install-sas", here.ue, within=10)
        here.run(0.01)
        second = here.trace.sip(method="REGISTER", request=True, hop=Hop.GM, sender=Role.UE)
        asked = second[-1].message
        head = [f"{name}: {value}" for name in ("Via", "From", "To", "Call-ID", "CSeq") for value in asked.rows(name)]
        forged = "\r\n".join(["SIP/2.0 403 Forbidden", *head, "Content-Length: 0", "", ""]).encode()
        src, dst = pack_host(pcscf.addresses[0]), pack_host(ue.addresses[0])
        here.net.inject(build_ip(src, dst, UDP, build_udp(src, dst, 5060, 5060, forged)), ue)
        assert here.heard("registered", here.ue, within=10)
        assert "rejected" not in here.told(here.ue)

    def message(self, to: str, sender: str) -> bytes:
        """A MESSAGE that nobody sent."""
        headers = [
            ("Via", "SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKforged"),
            ("Max-Forwards", "70"),
            ("From", f"<{sender}>;tag=f"),
            ("To", f"<{to}>"),
            ("Call-ID", "forged"),
            ("CSeq", "1 MESSAGE"),
            ("Content-Type", "text/plain"),
        ]
        return Request("MESSAGE", to, headers, b"forged").encode()

    def datagram(self, source: Any, target: Any, data: bytes) -> bytes:
        """An IP packet with a UDP datagram in clear."""
        src, dst = pack_host(source.host), pack_host(target.host)
        return build_ip(src, dst, UDP, build_udp(src, dst, source.port, target.port, data))

    def esp(self, source: str, target: str, spi: int, rest: bytes) -> bytes:
        """An IP packet with something that says it is ESP."""
        return build_ip(pack_host(source), pack_host(target), ESP, spi.to_bytes(4, "big") + b"\0\0\1\0" + rest)


class TestDeterminism:
    def test_one_seed_one_capture(self) -> None:
        chances: dict[str, Any] = bad(loss=0.05, duplicate=0.05, reorder=0.1)
        captures = [Job(Lab(load(seed=seed, **chances))).capture() for seed in (7, 7, 8)]
        assert captures[0] == captures[1]
        assert captures[0] != captures[2]
        assert len(captures[0]) > 100_000

    def test_a_ue_more_does_not_change_the_others(self) -> None:
        """Each node has its own stream of chance: RAND, SPIs and tags of the first UE stay."""
        few, many = (play(subscribers=[subscriber(number) for number in range(1, count + 1)]) for count in (1, 3))
        for here in (few, many):
            here.register(here.ue)
        first = [[r.message.octets for r in on_gm(here.trace, here.ue)] for here in (few, many)]
        assert first[0] == first[1]
