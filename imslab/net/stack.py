"""The kernel's part of a simulated host: IP with fragments, UDP, TCP and ESP, from the octets of a link to events.

What a node asks for comes in as plain calls, which answer with the reason why it cannot be done ("" when it could);
what happens later is told as events. What is wrong with a packet is counted and never answered, as a kernel does it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy, random_int
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport, pack_host, unpack_host
from imslab.ipsec.packet import (
    ACK,
    ESP,
    FIN,
    RST,
    SYN,
    TCP,
    UDP,
    IpPacket,
    Reassembler,
    TcpSegment,
    build_ip,
    build_tcp,
    build_udp,
    fragment_ip,
    parse_ip,
    parse_tcp,
    parse_udp,
)
from imslab.net.link import Link, Way
from imslab.net.sadb import OutboundSa, Place, SaDatabase, Selector, packed
from imslab.net.tcp import Ended, Opened, Over, Received, TcpConnection, TcpState, Transmit

if TYPE_CHECKING:
    from imslab.net.host import Host
    from imslab.net.simulated import Entry, SimulatedNetwork

#: Ports that are chosen for `Endpoint(host, 0)` (RFC 6335 6).
FIRST_EPHEMERAL, LAST_EPHEMERAL = 49152, 65535

#: Octets of UDP data, with room for ESP around them in the longest IPv4 packet.
MOST_DATAGRAM = 65_400

#: How far beyond the numbers of an old connection a new one on the same ports begins: more than any window.
_REUSE_STEP = 65537

_ANYWHERE = {4: bytes(4), 16: bytes(16)}


class Stream:
    """A TCP connection of a host, and how its node knows it.

    key: the one given to Connect. sas: the set that its last segment came through. protected: it began on a protected
    port, and nothing of it may ever be in clear. known: the node has heard of it, or asked for it; told: it has its
    Closed.
    """

    __slots__ = ("entry", "flow", "key", "known", "protected", "sas", "selector", "tcp", "told")

    def __init__(self, flow: Flow, selector: Selector, tcp: TcpConnection, *, protected: bool) -> None:
        self.flow = flow
        self.selector = selector
        self.tcp = tcp
        self.protected = protected
        self.key: object = None
        self.known = False
        self.sas: int | None = None
        self.told = False
        self.entry: Entry | None = None


class Stack:
    """IP, UDP, TCP and ESP of one host.

    counters: what was dropped and why, under the names of /proc/net/xfrm_stat (see sadb) and of SNMP.
    """

    __slots__ = (
        "_host",
        "_ident",
        "_listeners",
        "_network",
        "_next_port",
        "_own",
        "_reassembler",
        "_secret",
        "_streams",
        "counters",
        "sadb",
    )

    def __init__(
        self,
        network: SimulatedNetwork,
        host: Host,
        addresses: Sequence[str],
        entropy: SeededEntropy,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._network = network
        self._host = host
        self._own = frozenset(pack_host(address) for address in addresses)
        self._secret = entropy.octets(16)
        self._ident = random_int(entropy, 0, 0x10000)
        self._next_port = random_int(entropy, FIRST_EPHEMERAL, LAST_EPHEMERAL + 1)
        self.sadb = SaDatabase(entropy, self.counters)
        self._listeners: set[tuple[Transport, bytes, int]] = set()
        self._streams: dict[Selector, Stream] = {}
        self._reassembler: Reassembler | None = None

    # -- sockets -----------------------------------------------------------------------------------------------------

    def listen(self, transport: Transport, local: Endpoint) -> str:
        """Accept what comes to a local endpoint; 0.0.0.0 and :: stand for every address of their family.

        Listening twice is listening: all sockets of a host are its one node's.
        """
        if transport not in (Transport.UDP, Transport.TCP):
            return f"the simulated network carries no {transport}"
        place = self._place(local)
        if place is None or not local.port:
            return f"cannot listen on {local}: not an address of this host, or no port"
        self._listeners.add((transport, *place))
        return ""

    def unlisten(self, transport: Transport, local: Endpoint) -> None:
        """Accept no more there. When no transport is left, the endpoint need no longer be protected."""
        place = self._place(local)
        if place is None:
            return
        self._listeners.discard((transport, *place))
        if not any((each, *place) in self._listeners for each in (Transport.UDP, Transport.TCP)):
            self.sadb.release(place)

    def owns(self, host: str) -> bool:
        """True for an address of this host."""
        try:
            return pack_host(host) in self._own
        except ValueError:
            return False

    def _place(self, local: Endpoint) -> Place | None:
        """A local endpoint, packed; all zeros stand for every address. None when it is not here."""
        try:
            place = packed(local)
        except ValueError:
            return None
        address = place[0]
        return place if address in self._own or not any(address) else None

    def _listens(self, transport: Transport, address: bytes, port: int) -> bool:
        listeners = self._listeners
        return (transport, address, port) in listeners or (transport, _ANYWHERE[len(address)], port) in listeners

    def _selector(self, flow: Flow) -> Selector | str:
        """The flow, packed; or why nothing can be sent on it."""
        if not self.owns(flow.local.host):
            return f"{flow.local.host} is not an address of this host"
        local = packed(flow.local)
        try:
            remote = packed(flow.remote)
        except ValueError:
            return f"{flow.remote.host} is no IP address"
        if len(remote[0]) != len(local[0]):
            return f"{flow.remote.host} cannot be reached from {flow.local.host}"
        return local + remote

    def send_datagram(self, flow: Flow, octets: bytes) -> str:
        """Send a UDP datagram."""
        selector = self._selector(flow)
        if isinstance(selector, str):
            return selector
        src, src_port, dst, dst_port = selector
        if not src_port:
            return "a datagram needs a port to be sent from"
        if len(octets) > MOST_DATAGRAM:
            return f"{len(octets)} octets are too many for a datagram"
        return self._emit_packet(selector, UDP, build_udp(src, dst, src_port, dst_port, octets), protected=False)

    # -- streams -----------------------------------------------------------------------------------------------------

    def connect(self, flow: Flow, key: object) -> str:
        """Open a connection; Connected or Closed will tell."""
        if flow.transport is not Transport.TCP:
            return f"the simulated network connects no {flow.transport}"
        selector = self._selector(flow)
        if isinstance(selector, str):
            return selector
        if not flow.local.port:
            port = self._ephemeral(selector[0], selector[2:])
            if not port:
                return "no free port"
            flow = flow._replace(local=Endpoint(flow.local.host, port))
            selector = (selector[0], port, *selector[2:])
        isn = self._isn(selector)
        old = self._streams.get(selector)
        if old is not None:
            if old.tcp.state is not TcpState.TIME_WAIT:
                return "address already in use"
            # RFC 6191: the pair of ports may be used again where nothing old can be taken for new.
            isn = old.tcp.snd_nxt + _REUSE_STEP
            self._forget(old)
        protected = self.sadb.protects(selector[:2])
        way_out = self._way_out(selector, protected)
        if isinstance(way_out, str):
            return way_out
        tcp = TcpConnection.connect(isn & 0xFFFFFFFF, self._most_data(selector), self._network.now)
        stream = self._add(flow, selector, tcp)
        stream.key = key
        stream.known = True
        self._settle(stream)
        return ""

    def stream(self, flow: Flow) -> Stream | None:
        """The connection of that flow, as long as anything of it is left."""
        if flow.transport is not Transport.TCP or not self._streams:
            return None
        selector = self._selector(flow)
        return None if isinstance(selector, str) else self._streams.get(selector)

    def send(self, flow: Flow, octets: bytes) -> str:
        """Send octets of a connection's stream."""
        stream = self.stream(flow)
        if stream is None:
            return "no such connection"
        stream.tcp.send(octets, self._network.now)
        self._settle(stream)
        return ""

    def close(self, stream: Stream) -> None:
        """End our side of a connection in order."""
        stream.tcp.close(self._network.now)
        self._settle(stream)

    def abort(self, flow: Flow) -> None:
        """Reset a connection at once. LocalError when there is none."""
        stream = self.stream(flow)
        if stream is None:
            raise LocalError(f"{self._host.name} has no connection {flow}")
        stream.tcp.abort(self._network.now)
        self._settle(stream)

    # -- packets out -------------------------------------------------------------------------------------------------

    def _way_out(self, selector: Selector, protected: bool) -> tuple[OutboundSa | None, Link, Host] | str:
        """SA (None: in clear), link and destination for what leaves with these addresses and ports; or why it cannot.

        protected: it must not leave in clear, whatever has become of its port since.
        """
        outbound = self.sadb.outbound(selector)
        if outbound is None and (protected or self.sadb.protects(selector[:2])):
            self.counters["XfrmOutNoStates"] += 1
            return f"no SA protects port {selector[1]}"
        route = self._network.route(self._host, selector[2])
        if route is None:
            self.counters["IpOutNoRoutes"] += 1
            return f"no route to host {unpack_host(selector[2])}"
        return outbound, *route

    def _emit_packet(self, selector: Selector, protocol: int, clear: bytes, *, protected: bool) -> str:
        """Send a UDP or TCP payload, in ESP where a policy says so. The reason why not, or ""."""
        way_out = self._way_out(selector, protected)
        if isinstance(way_out, str):
            return way_out
        outbound, link, destination = way_out
        payload = clear
        if outbound is not None:
            sealed = self.sadb.seal(outbound, protocol, clear)
            if sealed is None:
                return "the SA has used up its sequence numbers"
            protocol, payload = ESP, sealed
        self._ident = ident = self._ident + 1 & 0xFFFF
        packet = build_ip(selector[0], selector[2], protocol, payload, ident=ident)
        # RFC 4303 3.3.4: in transport mode ESP comes first, fragmentation after it.
        pieces = [packet] if len(packet) <= link.mtu else fragment_ip(packet, link.mtu, ident)
        for piece in pieces:
            self._network.transmit(link, Way(self._host, destination), piece, clear)
        return ""

    # -- packets in --------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes) -> None:
        """An IP packet or fragment has arrived. What is wrong with it is counted, nothing else."""
        try:
            packet = parse_ip(octets, check=True)
        except PeerError:
            self.counters["IpInHdrErrors"] += 1
            return
        if packet.dst not in self._own:
            self.counters["IpInAddrErrors"] += 1
            return
        if packet.is_fragment:
            whole = self._reassemble(packet)
            if whole is None:
                return
            packet = whole
        src, dst, protocol, payload = packet.src, packet.dst, packet.protocol, packet.payload
        number: int | None = None
        if protocol == ESP:
            opened = self.sadb.open(src, dst, payload)
            if opened is None:
                return
            protocol, payload, number = opened
        elif protocol in (UDP, TCP) and not self.sadb.admits_clear(src, dst, payload):
            return
        if protocol == UDP:
            self._receive_datagram(src, dst, payload, number)
        elif protocol == TCP:
            self._receive_segment(src, dst, payload, number)
        else:
            self.counters["IpInUnknownProtos"] += 1

    def _reassemble(self, packet: IpPacket) -> IpPacket | None:
        # RFC 4303 3.4.1: reassembly comes before ESP.
        if self._reassembler is None:
            self._reassembler = Reassembler()
        try:
            return self._reassembler.feed(packet, self._network.now)
        except PeerError:
            self.counters["IpReasmFails"] += 1
            return None

    def _receive_datagram(self, src: bytes, dst: bytes, payload: bytes, number: int | None) -> None:
        try:
            datagram = parse_udp(payload, src, dst)
        except PeerError:
            self.counters["UdpInErrors"] += 1
            return
        if not self._listens(Transport.UDP, dst, datagram.dst_port):
            self.counters["UdpNoPorts"] += 1
            return
        local = Endpoint(unpack_host(dst), datagram.dst_port)
        remote = Endpoint(unpack_host(src), datagram.src_port)
        self._host.tell(ev.Arrival(Flow(Transport.UDP, local, remote), datagram.data, number))
        self._host.work()

    # -- TCP ---------------------------------------------------------------------------------------------------------

    def _receive_segment(self, src: bytes, dst: bytes, payload: bytes, number: int | None) -> None:
        try:
            segment = parse_tcp(payload, src, dst)
        except PeerError:
            self.counters["TcpInErrs"] += 1
            return
        selector = (dst, segment.dst_port, src, segment.src_port)
        stream = self._streams.get(selector)
        opening = segment.flags & (SYN | ACK | RST) == SYN
        if stream is not None and opening and stream.tcp.state is TcpState.TIME_WAIT and stream.tcp.is_beyond(segment):
            # RFC 9293 3.6.1: a SYN beyond the old connection opens a new one.
            isn = stream.tcp.snd_nxt + _REUSE_STEP
            self._forget(stream)
            stream = None
        else:
            isn = self._isn(selector)
        if stream is not None:
            if stream.protected and number is None:
                self.counters["XfrmInTmplMismatch"] += 1
                return
            stream.sas = number
            stream.tcp.receive(segment, self._network.now)
        elif opening and self._listens(Transport.TCP, dst, segment.dst_port):
            flow = Flow(
                Transport.TCP,
                Endpoint(unpack_host(dst), segment.dst_port),
                Endpoint(unpack_host(src), segment.src_port),
            )
            tcp = TcpConnection.accept(isn & 0xFFFFFFFF, self._most_data(selector), segment, self._network.now)
            stream = self._add(flow, selector, tcp)
            stream.sas = number
        else:
            self._refuse(selector, segment)
            return
        self._settle(stream)

    def _refuse(self, selector: Selector, segment: TcpSegment) -> None:
        """RFC 9293 3.10.7.1: a segment for no connection is answered by a reset that its sender believes."""
        if segment.flags & RST:
            return
        self.counters["TcpOutRsts"] += 1
        if segment.flags & ACK:
            answer = Transmit(segment.ack, 0, RST, 0, b"", b"")
        else:
            length = len(segment.data) + bool(segment.flags & SYN) + bool(segment.flags & FIN)
            answer = Transmit(0, segment.seq + length & 0xFFFFFFFF, RST | ACK, 0, b"", b"")
        self._send_segment(selector, answer, protected=False)

    def _settle(self, stream: Stream) -> None:
        """Do what a connection wants done: first its segments, then the node's events."""
        output = stream.tcp.take()
        for step in output:
            if isinstance(step, Transmit):
                self._send_segment(stream.selector, step, protected=stream.protected)
        for step in output:
            if isinstance(step, Received):
                self._host.tell(ev.Arrival(stream.flow, step.octets, stream.sas))
            elif isinstance(step, Opened):
                stream.known = True
                self._host.tell(ev.Connected(stream.flow, stream.key, stream.sas))
            elif isinstance(step, Ended):
                self._tell_closed(stream, "")
            elif isinstance(step, Over):
                self._forget(stream)
                if stream.known:
                    self._tell_closed(stream, step.reason)
        self._arm_stream(stream)
        self._host.work()

    def _tell_closed(self, stream: Stream, reason: str) -> None:
        if not stream.told:
            stream.told = True
            self._host.tell(ev.Closed(stream.flow, reason, stream.key))

    def _arm_stream(self, stream: Stream) -> None:
        when = stream.tcp.deadline
        if when is None:
            return
        if stream.entry is not None:
            if stream.entry[0] <= when:
                return  # it comes early, sees that, and is scheduled again
            self._network.cancel(stream.entry)
        stream.entry = self._network.schedule(when, self._tick, stream)

    def _tick(self, stream: Stream) -> None:
        stream.entry = None
        stream.tcp.tick(self._network.now)
        self._settle(stream)

    def _add(self, flow: Flow, selector: Selector, tcp: TcpConnection) -> Stream:
        stream = Stream(flow, selector, tcp, protected=self.sadb.protects(selector[:2]))
        self._streams[selector] = stream
        return stream

    def _forget(self, stream: Stream) -> None:
        if self._streams.get(stream.selector) is stream:
            del self._streams[stream.selector]
        if stream.entry is not None:
            self._network.cancel(stream.entry)
            stream.entry = None

    def _send_segment(self, selector: Selector, step: Transmit, *, protected: bool) -> None:
        src, src_port, dst, dst_port = selector
        seq, ack, flags, window, options, data = step
        segment = build_tcp(
            src, dst, src_port, dst_port, seq=seq, ack=ack, flags=flags, window=window, options=options, data=data
        )
        self._emit_packet(selector, TCP, segment, protected=protected)

    def _most_data(self, selector: Selector) -> int:
        """The MSS: what a segment holds so that it need not be fragmented, ESP and all."""
        route = self._network.route(self._host, selector[2])
        mtu = 1500 if route is None else route[0].mtu
        return self.sadb.most_data(selector, mtu - (20 if len(selector[0]) == 4 else 40))

    def _isn(self, selector: Selector) -> int:
        """RFC 6528 3: a clock, here of 64 ns, for a quick link, and a secret function of the pair of endpoints."""
        src, src_port, dst, dst_port = selector
        text = src + src_port.to_bytes(2, "big") + dst + dst_port.to_bytes(2, "big")
        digest = hashlib.blake2b(text, digest_size=4, key=self._secret).digest()
        return (int(self._network.now * 15_625_000) + int.from_bytes(digest, "big")) & 0xFFFFFFFF

    def _ephemeral(self, address: bytes, remote: tuple[bytes, int]) -> int:
        """A port that nobody uses towards that remote endpoint, and that was never protected; 0 when there is none."""
        for _ in range(FIRST_EPHEMERAL, LAST_EPHEMERAL + 1):
            port = self._next_port
            self._next_port = port + 1 if port < LAST_EPHEMERAL else FIRST_EPHEMERAL
            place = (address, port)
            if place + remote in self._streams or self.sadb.protects(place):
                continue
            if not self._listens(Transport.TCP, address, port):
                return port
        return 0
