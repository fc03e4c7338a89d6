"""The network as a whole: clock, topology, faults, the capture as others see it, and what a thousand nodes cost."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw
from scapy.utils import RawPcapWriter

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.core.flow import Transport, pack_host
from imslab.ipsec.packet import build_ip, build_udp, parse_ip
from imslab.net import simulated
from imslab.net.simulated import SimulatedNetwork
from imslab.trace.record import ListRecorder, RecordedPacket
from tests.net.toys import (
    CK,
    IK,
    PCSCF4,
    PCSCF6,
    PS,
    UC,
    UE4,
    UE6,
    US,
    Lab,
    Toy,
    echo,
    listen,
    tcp,
    udp,
)
from tests.require import require_program

CLEAR = udp((UE4, 5062), (PCSCF4, 5060))


def lively(seed: int) -> Lab:
    """A run with everything in it: both families, UDP and TCP, fragments, clear and ESP, on a bad link."""
    lab = Lab(seed, loss=0.05, duplicate=0.05, reorder=0.1, delay=(0.001, 0.003))
    lab.pcscf.react = echo
    for host in (PCSCF4, PCSCF6):
        lab.do(lab.pcscf, listen(Transport.UDP, host, 5060), listen(Transport.TCP, host, 5060))
    lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, PS), listen(Transport.TCP, PCSCF4, PS))
    lab.do(lab.ue, listen(Transport.UDP, UE4, US), listen(Transport.UDP, UE6, 5062))
    lab.protect()
    for size in (10, 1500, 4001):
        octets = bytes(index % 245 for index in range(size))
        for local, remote in (((UE4, 5062), (PCSCF4, 5060)), ((UE6, 5062), (PCSCF6, 5060)), ((UE4, UC), (PCSCF4, PS))):
            lab.do(lab.ue, fx.Send(udp(local, remote), octets))
            lab.do(lab.ue, fx.Connect(tcp(local, remote)), seconds=30)
            lab.do(lab.ue, fx.Send(tcp(local, remote), octets), seconds=30)
            lab.do(lab.ue, fx.Close(tcp(local, remote)), seconds=100)
    lab.do(lab.ue, fx.Connect(tcp((UE4, 7), (PCSCF4, 7))))
    return lab


class TestDeterminism:
    def test_one_seed_one_capture_octet_for_octet(self) -> None:
        first, second, other = lively(1), lively(1), lively(2)
        assert first.recorder.packets == second.recorder.packets
        assert first.recorder.events == second.recorder.events
        assert first.ue.heard == second.ue.heard
        assert first.recorder.packets != other.recorder.packets
        assert len(first.recorder.packets) > 100

    def test_in_another_process_too(self) -> None:
        """Hashing is seeded anew by each interpreter; nothing may hang on it."""
        program = (
            "import hashlib; from tests.net.test_simulated import lively\n"
            "print(hashlib.sha256(repr(lively(1).recorder.packets).encode()).hexdigest())"
        )
        root = Path(__file__).parents[2]
        seen = {
            subprocess.run(
                [sys.executable, "-c", program],
                cwd=root,
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(seen) == 1


class TestClock:
    def test_in_order_of_time_then_of_making(self) -> None:
        net = SimulatedNetwork()
        seen: list[tuple[float, str]] = []
        for time, what in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (-5.0, "now")):
            net.at(time, lambda what=what: seen.append((net.now, what)))  # type: ignore[misc]
        net.run(1.5)
        assert seen == [(0.0, "now"), (1.0, "a"), (1.0, "b")]
        assert net.now == 1.5
        net.run()
        assert seen[-1] == (2.0, "c")
        assert not net.step()
        assert net.now == 2.0

    def test_run_until(self) -> None:
        net = SimulatedNetwork()
        seen: list[float] = []
        for time in (1.0, 2.0, 3.0):
            net.at(time, lambda: seen.append(net.now))
        assert net.run_until(lambda: len(seen) == 2, 10)
        assert net.now == 2.0
        assert not net.run_until(lambda: len(seen) == 3, 0.5)
        assert net.now == 2.5
        assert net.run_until(lambda: len(seen) == 3, 0.5)
        assert not net.run_until(lambda: False, 100)
        assert net.now == 103.0

    def test_cancelled_entries_do_not_move_it(self) -> None:
        net = SimulatedNetwork()
        entry = net.schedule(5.0, lambda _: None, None)
        net.schedule(1.0, lambda _: net.cancel(entry), None)
        net.run()
        assert net.now == 1.0

    def test_one_that_stands_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(simulated, "MOST_AT_ONCE", 1000)
        net = SimulatedNetwork()

        def again() -> None:
            net.at(net.now, again)

        again()
        with pytest.raises(LocalError, match="clock stands"):
            net.run()


class TestTopology:
    def test_hosts_are_unique(self) -> None:
        net = SimulatedNetwork()
        net.host(Toy("a"), ["10.0.0.1", "2001:db8::1"])
        for name, addresses in (
            ("a", ["10.0.0.2"]),
            ("b", ["2001:DB8:0::1"]),
            ("b", ["not an address"]),
            ("b", []),
        ):
            with pytest.raises(LocalError):
                net.host(Toy(name), addresses)
        assert list(net.hosts) == ["a"]
        with pytest.raises(LocalError):
            net.command("b", "x")

    def test_points_and_links_for_everyone(self) -> None:
        recorder = ListRecorder()
        net = SimulatedNetwork(0, recorder)
        toys = [Toy(name) for name in ("ue1", "ue2", "pcscf", "scscf")]
        hosts = [net.host(toy, [f"10.0.0.{number}"]) for number, toy in enumerate(toys, 1)]
        ue1, _, pcscf, scscf = hosts
        net.link(None, pcscf, "Gm")
        net.link(pcscf, scscf, "Mw")
        net.link(ue1, pcscf, "Gm-1", delay=0.1)
        for source, destination in ((1, 3), (2, 3), (3, 1), (3, 2), (3, 4), (4, 3), (1, 2), (1, 4)):
            flow = udp((f"10.0.0.{source}", 1), (f"10.0.0.{destination}", 1))
            net.command(toys[source - 1], "do", effects=[fx.Send(flow, b"x")])
        net.run()
        assert [packet.point for packet in recorder.packets] == ["Gm-1", "Gm", "Gm-1", "Gm", "Mw", "Mw"]
        assert [event.reason for event in toys[0].of(ev.Closed)] == [
            "no route to host 10.0.0.2",
            "no route to host 10.0.0.4",
        ]

    def test_a_link_is_replaced(self) -> None:
        lab = Lab()
        lab.net.link(lab.p, lab.u, "Gm", delay=0.25)
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060))
        lab.do(lab.ue, fx.Send(CLEAR, b"x"))
        assert lab.pcscf.heard[-1][0] == 1.25

    def test_without_a_recorder_nothing_is_kept(self) -> None:
        net = SimulatedNetwork()
        a, b = Toy("a"), Toy("b")
        net.link(net.host(a, [UE4]), net.host(b, [PCSCF4]), "Gm")
        net.command(b, "do", effects=[listen(Transport.UDP, PCSCF4, 5060), fx.Emit("x", "")])
        net.command(a, "do", effects=[fx.Send(CLEAR, b"x")])
        net.run()
        assert b.octets == b"x"


class TestFaults:
    def lab(self) -> Lab:
        lab = Lab()
        lab.do(lab.pcscf, listen(Transport.UDP, PCSCF4, 5060), listen(Transport.UDP, PCSCF4, PS))
        lab.do(lab.ue, listen(Transport.UDP, UE4, 5062))
        return lab

    def send(self, lab: Lab, *texts: bytes) -> None:
        lab.do(lab.ue, *(fx.Send(CLEAR, text) for text in texts))

    def test_drop_the_nth_that_matches(self) -> None:
        lab = self.lab()
        with lab.net.drop(lab.u >> lab.p, nth=2, match=lambda transit: b"REG" in transit.clear) as fault:
            self.send(lab, b"REG 1", b"INV", b"REG 2", b"REG 3")
        assert lab.pcscf.octets == b"REG 1INVREG 3"
        assert fault.hits == 1
        assert len(lab.recorder.packets) == 4  # the capture is the sender's

    def test_choose_by_what_esp_hides(self) -> None:
        lab = self.lab()
        lab.protect()
        with lab.net.drop(None, match=lambda transit: b"REGISTER" in transit.clear) as fault:
            lab.do(lab.ue, fx.Send(udp((UE4, UC), (PCSCF4, PS)), b"REGISTER"))
        assert fault.hits == 1
        assert all(b"REGISTER" not in packet.octets for packet in lab.recorder.packets)

    def test_every_one_and_only_one_way(self) -> None:
        lab = self.lab()
        with lab.net.drop(lab.p >> lab.u, nth=None) as fault:
            self.send(lab, b"a", b"b")
            lab.do(lab.pcscf, *[fx.Send(CLEAR.reversed, b"c")] * 3)
        assert lab.pcscf.octets == b"ab"
        assert lab.ue.octets == b""
        assert fault.hits == 3
        lab.do(lab.pcscf, fx.Send(CLEAR.reversed, b"d"))
        assert lab.ue.octets == b"d"

    def test_two_faults_the_first_that_concerns_it_treats_it(self) -> None:
        lab = self.lab()
        with lab.net.duplicate(None, nth=2), lab.net.drop(None, nth=2) as drop:
            self.send(lab, b"a", b"b", b"c")
        assert lab.pcscf.octets == b"abb"
        assert drop.hits == 1

    def test_hold_duplicate_replay(self) -> None:
        lab = self.lab()
        lab.net.hold(lab.u >> lab.p, 0.1)
        self.send(lab, b"a", b"b")
        lab.net.duplicate(lab.u >> lab.p)
        self.send(lab, b"c")
        lab.net.replay(lab.u >> lab.p, 0.5)
        self.send(lab, b"d", b"e")
        assert lab.pcscf.octets == b"baccded"

    def test_corrupt(self) -> None:
        lab = self.lab()
        lab.net.corrupt(lab.u >> lab.p)
        self.send(lab, b"a")
        assert lab.p.counters == {"UdpInErrors": 1}
        lab.net.corrupt(lab.u >> lab.p, lambda octets: octets[:10])
        self.send(lab, b"b")
        assert lab.p.counters["IpInHdrErrors"] == 1

    def test_inject(self) -> None:
        lab = self.lab()
        src, dst = pack_host("10.0.0.9"), pack_host(PCSCF4)
        forged = build_ip(src, dst, 17, build_udp(src, dst, 9, 5060, b"forged"))
        lab.net.inject(forged, at=lab.p, after=2.0, point="Gm")
        lab.net.inject(forged, at=lab.p)
        lab.net.run()
        assert lab.recorder.packets == [RecordedPacket(lab.net.now, "Gm", forged)]
        (first, second) = lab.pcscf.of(ev.Arrival)
        assert first == second == ev.Arrival(udp((PCSCF4, 5060), ("10.0.0.9", 9)), b"forged")


def rebuilt(packet: Packet) -> bytes:
    """The packet as scapy builds it: lengths and checksums computed by scapy."""
    for layer in packet.layers():
        for name in ("chksum", "len", "plen", "dataofs"):
            if name in packet[layer].fields and layer in (IP, IPv6, TCP, UDP):
                delattr(packet[layer], name)
    return bytes(packet)


class TestCapture:
    """Others judge the packets."""

    def test_scapy_would_have_built_the_same(self) -> None:
        lab = lively(3)
        sas = {
            number: SecurityAssociation(
                ESP,
                spi=number,
                crypt_algo="AES-CBC",
                crypt_key=CK,
                auth_algo="HMAC-SHA1-96",
                auth_key=IK + bytes(4),
            )
            for number in (1001, 1002, 1003, 1004)
        }
        seen: Counter[str] = Counter()
        for packet in lab.recorder.packets:
            version = packet.octets[0] >> 4
            parsed = IP(packet.octets) if version == 4 else IPv6(packet.octets)
            kinds = "/".join(layer.__name__ for layer in parsed.layers() if layer is not Raw)
            fragment = parse_ip(packet.octets).is_fragment
            seen[kinds + (" fragment" if fragment else "")] += 1
            if fragment:
                continue
            if ESP in parsed:
                clear = sas[parsed[ESP].spi].decrypt(parsed)
                datagram = bytes(clear)
                assert rebuilt(IP(datagram)) == datagram
                seen["inside: " + clear.layers()[1].__name__] += 1
            else:
                assert rebuilt(parsed) == packet.octets
        assert {
            "IP/UDP",
            "IP/TCP",
            "IP/ESP",
            "IP fragment",
            "IPv6/UDP",
            "IPv6/TCP",
            "IPv6/IPv6ExtHdrFragment/UDP fragment",
            "inside: TCP",
            "inside: UDP",
        } <= set(seen)

    def test_tshark_marks_nothing(self, tmp_path: Path) -> None:
        tshark = require_program("tshark")
        lab = lively(4)
        path = tmp_path / "run.pcap"
        raw_ip = 101
        with RawPcapWriter(str(path), linktype=raw_ip) as writer:
            writer.write_header(None)
            for packet in lab.recorder.packets:
                writer.write_packet(packet.octets, sec=int(packet.time), usec=int(packet.time % 1 * 1_000_000))
        preferences = [
            "ip.check_checksum:TRUE",
            "tcp.check_checksum:TRUE",
            "udp.check_checksum:TRUE",
            "esp.enable_encryption_decode:TRUE",
            "esp.enable_authentication_check:TRUE",
            f'uat:esp_sa:"IPv4","*","*","*","AES-CBC [RFC3602]","0x{CK.hex()}",'
            f'"HMAC-SHA-1-96 [RFC2404]","0x{IK.hex()}00000000"',
        ]

        def frames(condition: str) -> int:
            command = [tshark, "-r", str(path), "-T", "fields", "-e", "frame.number", "-Y", condition]
            for preference in preferences:
                command += ["-o", preference]
            result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            return len(result.stdout.split())

        bad = (
            "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
            " || esp.icv_bad == 1"
        )
        assert frames(bad) == 0
        # And it has looked: checksums in clear and inside ESP are found good.
        assert frames("tcp.checksum.status == 1 && !esp") > 20
        assert frames("tcp.checksum.status == 1 && esp") > 5
        assert frames("udp.checksum.status == 1 && ip.version == 6 && ipv6.fragment.count >= 3") >= 1
        assert frames("esp.icv_good == 1 && udp") >= 2


class TestMany:
    """A thousand nodes: everything is counted, nothing is timed."""

    @staticmethod
    def run(count: int) -> tuple[int, int, int]:
        """Entries, calls and octets of memory for `count` UEs, each protected, each asking once and answered."""
        net = SimulatedNetwork()
        pcscf = Toy("pcscf", echo)
        p = net.host(pcscf, ["10.255.0.1"])
        net.link(None, p, "Gm", delay=0.01)
        net.command(pcscf, "do", effects=[listen(Transport.UDP, "10.255.0.1", PS)])
        ues = []
        for number in range(count):
            address = f"10.{number >> 8}.{number & 255}.1"
            ue = Toy(f"ue{number}", lambda event: [] if isinstance(event, ev.Timer) else None)
            net.host(ue, [address])
            ue.timer = number / count
            flow = udp((address, 5060), ("10.255.0.1", PS))
            net.command(ue, "do", effects=[listen(Transport.UDP, address, 5060), fx.Send(flow, b"REGISTER")])
            ues.append(ue)
        calls = 0

        def count_calls(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        entries = 0
        sys.setprofile(count_calls)
        try:
            while net.step():
                entries += 1
        finally:
            sys.setprofile(None)
        assert all(ue.octets == b"REGISTER" for ue in ues)
        return entries, calls, tracemalloc.get_traced_memory()[1] if tracemalloc.is_tracing() else 0

    def test_time_is_linear(self) -> None:
        small_entries, small_calls, _ = self.run(100)
        large_entries, large_calls, _ = self.run(1000)
        assert large_entries <= small_entries * 10
        assert large_calls < small_calls * 10.5

    def test_memory_is_linear(self) -> None:
        peaks = []
        for count in (100, 1000):
            tracemalloc.start()
            try:
                peaks.append(self.run(count)[2])
            finally:
                tracemalloc.stop()
        assert peaks[1] < peaks[0] * 10.5
        assert peaks[1] < 1000 * 20_000
