"""From the packets of a capture to a Trace.

Each frame is taken apart down to IP, through link layer, VLAN tags, fragments and GTP-U tunnels; the same packet at
another capture point becomes a copy of its first sighting. SIP is recognised by its start line on any port, Diameter
by its header in any TCP stream, ESP by its protocol number or on UDP port 4500.

The dissector learns while it reads: keys from 401 and MAA, SAs from security agreements. ESP packets whose keys have
not been seen yet are kept, and opened when they have been. What stays closed is opened at the end all the same where
it was not encrypted, with an ICV that nobody has checked.

Octets of a capture never raise anything here: what is damaged becomes a MalformedRecord where it is known to be ours,
and is passed over where it is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from imslab.aka.digest import split_nonce
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport, unpack_host
from imslab.diameter.message import DiameterMessage
from imslab.diameter.message import parse as parse_diameter
from imslab.ipsec.packet import (
    ESP,
    TCP,
    UDP,
    IpPacket,
    Reassembler,
    parse_ip,
)
from imslab.ipsec.replay import ReplayWindow
from imslab.ipsec.sa import NULL
from imslab.sip.message import Request
from imslab.sip.parser import parse as parse_sip
from imslab.trace.associations import WINDOW, Association, Associations, sides
from imslab.trace.blind import read_null
from imslab.trace.identity import impi_of, via_count
from imslab.trace.keys import ANYWHERE, KeyRing
from imslab.trace.layers import GTP_PORT, NAT_PORT, gtp, is_cooked, link, tunnel_point
from imslab.trace.model import (
    DiameterRecord,
    EspRecord,
    Icv,
    MalformedRecord,
    Record,
    SaView,
    SipRecord,
)
from imslab.trace.pcap import Packet
from imslab.trace.sightings import Sighting, Sightings
from imslab.trace.streams import DIAMETER, SIP, Cut, Streams, looks_like_sip
from imslab.trace.trace import Trace

#: IP in IP, and IPv6 in IP: what a tunnel-mode ESP packet holds.
_IPIP, _IPV6 = 4, 41
#: How many tunnels may lie in one another.
MAX_DEPTH = 8
#: How many octets of closed ESP packets are kept for the time when their keys turn up.
MAX_CLOSED = 64 << 20
#: How many capture points get a reassembler of their own.
MAX_POINTS = 256
#: How many fragmented packets' frames are remembered.
MAX_FRAGMENTED = 4096
#: How many security offers wait for their 401.
MAX_OFFERS = 1 << 17
#: How many addresses are remembered as text.
MAX_ENDPOINTS = 1 << 17

#: Where what is not SIP is called malformed, rather than not SIP (RFC 3261 18.1.1).
_SIP_PORT = 5060

_IPV4_FIELDS = Struct("!BxHHHxB2x4s4s").unpack_from
_UDP_FIELDS = Struct("!HHH2x").unpack_from
_TCP_FIELDS = Struct("!HHIIBB6x").unpack_from
_ESP_FIELDS = Struct("!II").unpack_from

_SYN_RST = 0x06

# AVPs of a SIP-Auth-Data-Item (29.229 6.3): the item, RAND ‖ AUTN, XRES, CK, IK
_MAA = 303
_3GPP = 10415
_AUTH_DATA_ITEM, _AUTHENTICATE, _AUTHORIZATION, _CK, _IK = 612, 609, 610, 625, 626


#: One direction of a TCP connection: source and destination host, both ports as in the header, inside ESP or not.
_Direction = tuple[bytes, bytes, bytes, bool]


class _Where(NamedTuple):
    """How a packet came to us."""

    time: float
    frames: tuple[int, ...]
    point: str
    cooked: bool
    #: The ESP packet around it, and what was made of that.
    sighting: Sighting | None = None
    esp: EspRecord | None = None


#: What a NamedTuple's own constructor does, in a third of the time.
_new = tuple.__new__


class _Closed(NamedTuple):
    """An ESP packet to be opened."""

    packet: bytes
    src: bytes
    dst: bytes
    sighting: Sighting
    record: EspRecord
    where: _Where
    depth: int


class Dissector:
    """Feed it the packets of one capture in order, then ask for the Trace.

    keys: whatever the user knows; what the capture shows is added to it.
    """

    def __init__(self, keys: KeyRing | None = None) -> None:
        self.keys = keys if keys is not None else KeyRing()
        self._records: list[Record] = []
        self._sighted: list[tuple[Record, tuple[Sighting, ...]]] = []
        self._packets = 0
        self._cut_off = 0
        self._sightings = Sightings()
        self._reassemblers: dict[str, Reassembler] = {}
        self._fragments: dict[tuple[object, ...], list[int]] = {}
        self._latest = 0.0
        self._streams: Streams[_Direction] = Streams()
        self._endpoints: dict[bytes, Endpoint] = {}
        self._points: dict[tuple[str, str], str] = {}
        self._associations = Associations(self.keys)
        self._offers: dict[tuple[str, str], SipRecord] = {}
        self._agreements: set[tuple[object, ...]] = set()
        self._closed: dict[tuple[str, int], deque[_Closed]] = {}
        self._closed_octets = 0
        self._owners: list[tuple[EspRecord, Sighting, Association | None]] = []

    # --- what comes in ---

    def feed(self, packet: Packet) -> None:
        """One more packet."""
        self._packets += 1
        number, time, point, linktype, octets, original_length, _, _ = packet
        if len(octets) < original_length:
            self._cut_off += 1
        found = link(linktype, octets)
        if found is None:
            return
        offset, label = found
        if label:
            known = self._points.get((point, label))
            if known is None:
                if len(self._points) >= MAX_FRAGMENTED:
                    self._points.clear()
                known = self._points[point, label] = f"{point}{label}".strip()
            point = known
        where: _Where = _new(_Where, (time, (number,), point, is_cooked(linktype), None, None))
        self._ip(octets, offset, where, 0)

    def add(self, record: Record) -> None:
        """A record that was not in a packet: what a simulated node did."""
        self._records.append(record)

    # --- IP ---

    def _ip(self, octets: bytes, at: int, where: _Where, depth: int) -> None:
        size = len(octets) - at
        if size >= 20 and octets[at] >> 4 == 4:
            first, total, ident, fragment, protocol, src, dst = _IPV4_FIELDS(octets, at)
            if not fragment & 0x3FFF:
                header = (first & 15) * 4
                # a length of 0 is that of a segment which the network card was to cut
                end = total or size
                if header < 20 or end < header or end > size:
                    return
                self._payload(protocol, octets[at + header : at + end], src, dst, ident, where, depth)
                return
        try:
            packet = parse_ip(octets[at:])
            if packet.is_fragment:
                whole, where = self._fragment(packet, where)
                if whole is None:
                    return
                packet = whole
        except PeerError:
            return
        self._payload(packet.protocol, packet.payload, packet.src, packet.dst, packet.ident, where, depth)

    def _fragment(self, packet: IpPacket, where: _Where) -> tuple[IpPacket | None, _Where]:
        """The whole packet, and all the frames it came in, once the last fragment is there."""
        reassembler = self._reassemblers.get(where.point)
        if reassembler is None:
            if len(self._reassemblers) >= MAX_POINTS:
                del self._reassemblers[next(iter(self._reassemblers))]
            reassembler = self._reassemblers[where.point] = Reassembler()
        key = (where.point, packet.src, packet.dst, packet.ident)
        frames = self._fragments.setdefault(key, [])
        if len(frames) < MAX_FRAGMENTED:
            frames.extend(where.frames)
        if len(self._fragments) > MAX_FRAGMENTED:
            del self._fragments[next(iter(self._fragments))]
        self._latest = max(self._latest, where.time)
        whole = reassembler.feed(packet, self._latest)
        if whole is not None:
            self._fragments.pop(key, None)
            where = where._replace(frames=tuple(frames))
        return whole, where

    def _payload(
        self, protocol: int, payload: bytes, src: bytes, dst: bytes, ident: int, where: _Where, depth: int
    ) -> None:
        if protocol == UDP:
            self._udp(payload, src, dst, ident, where, depth)
        elif protocol == TCP:
            self._tcp(payload, src, dst, ident, where)
        elif protocol == ESP:
            self._esp_packet(payload, src, dst, ident, where, depth)
        elif protocol in (_IPIP, _IPV6) and depth < MAX_DEPTH:
            self._ip(payload, 0, where, depth + 1)

    def _see(self, src: bytes, dst: bytes, ident: int, content: tuple[object, ...], where: _Where) -> Sighting | None:
        """The packet, or None when it is a copy. Inside ESP the packet around it has been looked at."""
        if where.sighting is not None:
            return where.sighting
        key = (src, dst, ident, *content)
        return self._sightings.see(key, where.frames, where.time, where.point, where.cooked)

    def _endpoint(self, host: bytes, port: int) -> Endpoint:
        key = host + port.to_bytes(2, "big")
        known = self._endpoints.get(key)
        if known is None:
            if len(self._endpoints) >= MAX_ENDPOINTS:
                self._endpoints.clear()
            known = self._endpoints[key] = Endpoint(unpack_host(host), port)
        return known

    # --- UDP ---

    def _udp(self, payload: bytes, src: bytes, dst: bytes, ident: int, where: _Where, depth: int) -> None:
        if len(payload) < 8:
            return
        src_port, dst_port, length = _UDP_FIELDS(payload)
        if where.esp is not None:
            where.esp.inner_src_port, where.esp.inner_dst_port = src_port, dst_port
        data = payload[8 : length or None]
        if dst_port == GTP_PORT or src_port == GTP_PORT:
            tunnel = gtp(data)
            if tunnel is not None and depth < MAX_DEPTH:
                teid, start = tunnel
                time, frames, point, cooked, sighting, esp = where
                point = tunnel_point(point, src, dst, teid)
                self._ip(data, start, _new(_Where, (time, frames, point, cooked, sighting, esp)), depth + 1)
            return
        # RFC 3948 2.2: four zero octets mark IKE, a single 0xff octet a keep-alive
        if NAT_PORT in (src_port, dst_port) and len(data) > 8 and data[:4] != b"\0\0\0\0":
            self._esp_packet(data, src, dst, ident, where, depth)
            return
        if not looks_like_sip(data) and (dst_port != _SIP_PORT or not _is_broken_sip(data, src_port)):
            return
        sighting = self._see(src, dst, ident, (payload[:6], data), where)
        if sighting is None:
            return
        ends = self._endpoint(src, src_port), self._endpoint(dst, dst_port)
        self._sip(data, *ends, Transport.UDP, (sighting,))

    # --- TCP ---

    def _tcp(self, payload: bytes, src: bytes, dst: bytes, ident: int, where: _Where) -> None:
        if len(payload) < 20:
            return
        src_port, dst_port, sequence, _, offset, flags = _TCP_FIELDS(payload)
        if where.esp is not None:
            where.esp.inner_src_port, where.esp.inner_dst_port = src_port, dst_port
        start = (offset >> 4) * 4
        data = payload[start:] if start >= 20 else b""
        if not data and not flags & _SYN_RST:
            return
        key: _Direction = (src, dst, payload[:4], where.esp is not None)
        if not self._streams.wants(key, flags, data):
            return
        sighting = self._see(src, dst, ident, (payload[:16], data), where)
        if sighting is not None:
            for cut in self._streams.segment(key, sequence, flags, data, sighting, where.time):
                self._cut(cut, key)

    def _cut(self, cut: Cut, key: _Direction) -> None:
        """What a stream gave."""
        src = self._endpoint(key[0], int.from_bytes(key[2][:2], "big"))
        dst = self._endpoint(key[1], int.from_bytes(key[2][2:], "big"))
        if cut.error is not None:
            self._malformed(cut.protocol, cut.error, src, dst, cut.sightings)
        elif cut.protocol == SIP:
            self._sip(cut.octets, src, dst, Transport.TCP, cut.sightings)
        else:
            self._diameter(cut.octets, src, dst, cut.sightings)

    # --- records ---

    def _keep(self, record: Record, sightings: tuple[Sighting, ...]) -> None:
        self._records.append(record)
        self._sighted.append((record, sightings))

    def _malformed(
        self, protocol: str, error: PeerError, src: Endpoint, dst: Endpoint, sightings: tuple[Sighting, ...]
    ) -> None:
        last = sightings[-1]
        self._keep(
            MalformedRecord(
                time=last.time, point=last.point, src=src, dst=dst, protocol=protocol, error=error, spi=last.spi
            ),
            sightings,
        )

    def _sip(
        self, octets: bytes, src: Endpoint, dst: Endpoint, transport: Transport, sightings: tuple[Sighting, ...]
    ) -> None:
        try:
            message = parse_sip(octets)
        except PeerError as error:
            self._malformed(SIP, error, src, dst, sightings)
            return
        last = sightings[-1]
        record = SipRecord(
            time=last.time, point=last.point, src=src, dst=dst, transport=transport, message=message, spi=last.spi
        )
        self._keep(record, sightings)
        if isinstance(message, Request):
            if message.method == "REGISTER" and message.has("Security-Client"):
                self._offer(record)
        elif message.has("WWW-Authenticate"):
            self._challenge(record)

    def _diameter(self, octets: bytes, src: Endpoint, dst: Endpoint, sightings: tuple[Sighting, ...]) -> None:
        try:
            message = parse_diameter(octets)
        except PeerError as error:
            self._malformed(DIAMETER, error, src, dst, sightings)
            return
        last = sightings[-1]
        self._keep(
            DiameterRecord(
                time=last.time, point=last.point, src=src, dst=dst, transport=Transport.TCP, message=message
            ),
            sightings,
        )
        if message.command == _MAA and not message.request:
            self._vectors(message)

    # --- keys and agreements ---

    def _vectors(self, message: DiameterMessage) -> None:
        """The keys that an MAA shows."""
        for item in message.find_all(_AUTH_DATA_ITEM, _3GPP):
            try:
                inner = {avp.code: avp.data for avp in item.children if avp.vendor == _3GPP}
            except PeerError:
                continue
            authenticate = inner.get(_AUTHENTICATE, b"")
            if len(authenticate) >= 16 and _CK in inner and _IK in inner:
                self._learn(authenticate[:16], inner[_CK], inner[_IK], inner.get(_AUTHORIZATION), "MAA")

    def _learn(self, rand: bytes, ck: bytes, ik: bytes, res: bytes | None, source: str) -> None:
        if self.keys.learn(rand, ck, ik, res, source):
            for association in self._associations.learned(rand, self.keys):
                self._reopen(association)

    def _offer(self, record: SipRecord) -> None:
        """A REGISTER with Security-Client: only the UE's own counts, a careless P-CSCF passes the header on."""
        message = record.message
        if via_count(message) == 1:
            if len(self._offers) >= MAX_OFFERS:
                del self._offers[next(iter(self._offers))]
            self._offers[message.get("Call-ID") or "", record.src.host] = record

    def _challenge(self, record: SipRecord) -> None:
        """A 401: its keys, and the set of SAs that it makes with the offer of the REGISTER."""
        message = record.message
        rand = b""
        try:
            for challenge in message.www_authenticate:
                nonce = challenge.nonce
                if nonce is None or not (challenge.algorithm or "").lower().startswith("aka"):
                    continue
                rand = split_nonce(nonce)[0]
                ck, ik = challenge.ck, challenge.ik
                if ck is not None and ik is not None:
                    self._learn(rand, bytes.fromhex(ck), bytes.fromhex(ik), None, "401")
                break
        except (PeerError, ValueError):  # whoever judges the message will say so
            pass
        offer = self._offers.get((message.get("Call-ID") or "", record.dst.host))
        if offer is not None and message.has("Security-Server"):
            self._agree(offer, record, rand)

    def _agree(self, offer: SipRecord, answer: SipRecord, rand: bytes) -> None:
        try:
            client, server = sides(offer.message.security_client), sides(answer.message.security_server)
        except PeerError:
            return
        if not client or not server:
            return
        transaction = offer.message.get("Call-ID"), offer.message.get("CSeq")
        key = (offer.src.host, answer.src.host, rand, transaction, tuple(client), tuple(server))
        if key in self._agreements:  # sent again
            return
        self._agreements.add(key)
        association = Association.agreed(offer.src.host, offer.dst.host, client, server, rand, impi_of(offer.message))
        self._associations.add(association, self.keys)
        if association.has_keys:
            self._reopen(association)

    # --- ESP ---

    def _esp_packet(self, packet: bytes, src: bytes, dst: bytes, ident: int, where: _Where, depth: int) -> None:
        if len(packet) < 8 or where.esp is not None:
            return
        sighting = self._see(src, dst, ident, (packet,), where)
        if sighting is None:
            return
        spi, sequence = _ESP_FIELDS(packet)
        sighting.spi = spi
        record = EspRecord(
            time=where.time,
            point=where.point,
            src=unpack_host(src),
            dst=unpack_host(dst),
            spi=spi,
            sequence=sequence,
        )
        self._keep(record, (sighting,))
        time, frames, point, cooked, _, _ = where
        inside: _Where = _new(_Where, (time, frames, point, cooked, sighting, record))
        closed: _Closed = _new(_Closed, (packet, src, dst, sighting, record, inside, depth))
        if not self._open(closed):
            self._close(closed)

    def _open(self, closed: _Closed) -> bool:
        """False when there is nothing yet to open it with."""
        record = closed.record
        owner: Association | None = None
        for association in self._associations.find(record.dst, record.spi):
            if not association.has_keys:
                return False  # the newest set of that SPI waits for its keys
            result = association.inspect(record.dst, closed.packet)
            if result is None or (owner is not None and not result.icv_ok):
                continue
            owner = association
            record.icv = Icv.UNCHECKED if result.icv_ok is None else Icv.OK if result.icv_ok else Icv.BAD
            if not result.icv_ok:
                continue
            record.replayed = result.replayed
            record.next_header = result.next_header
            if result.payload is not None:
                self._inside(closed, result.next_header or 0, result.payload)
            elif result.error is not None:
                ends = Endpoint(record.src, 0), Endpoint(record.dst, 0)
                self._malformed("ESP", result.error, *ends, (closed.sighting,))
            break
        if owner is None:
            return False
        self._owners.append((record, closed.sighting, owner))
        return True

    def _inside(self, closed: _Closed, next_header: int, payload: bytes) -> None:
        """What an ESP packet held. A replayed one is dropped by its receiver, and so it is here."""
        if not closed.record.replayed:
            self._payload(next_header, payload, closed.src, closed.dst, 0, closed.where, closed.depth + 1)

    def _close(self, closed: _Closed) -> None:
        """Keep an ESP packet for later; when there are too many, the oldest of one SA stay closed for good."""
        self._closed.setdefault((closed.record.dst, closed.record.spi), deque()).append(closed)
        self._closed_octets += len(closed.packet)
        while self._closed_octets > MAX_CLOSED:
            address, waiting = next(iter(self._closed.items()))
            given_up = waiting.popleft()
            if not waiting:
                del self._closed[address]
            self._closed_octets -= len(given_up.packet)
            self._owners.append((given_up.record, given_up.sighting, self._newest(address)))

    def _take_closed(self, address: tuple[str, int]) -> Iterable[_Closed]:
        taken = self._closed.pop(address, ())
        self._closed_octets -= sum(len(closed.packet) for closed in taken)
        return taken

    def _newest(self, address: tuple[str, int]) -> Association | None:
        return next(iter(self._associations.find(*address)), None)

    def _reopen(self, association: Association) -> None:
        """Open what waited for the keys of a set."""
        for address in association.addresses():
            newest = self._newest(address)
            if newest is None or not newest.has_keys:
                continue  # they belong to that one: see `_open`
            for closed in self._take_closed(address):
                if not self._open(closed):
                    self._close(closed)

    def _open_blindly(self, address: tuple[str, int]) -> None:
        """ESP packets whose keys never came: what was only integrity-protected can be read all the same."""
        window = ReplayWindow(WINDOW)
        for closed in self._take_closed(address):
            if self._open(closed):
                continue
            record = closed.record
            owner = self._newest(address)
            self._owners.append((record, closed.sighting, owner))
            view = None if owner is None else owner.view(*address)
            content = (
                None if view is not None and view.ealg != NULL else read_null(closed.packet, closed.src, closed.dst)
            )
            if content is None:
                continue
            record.next_header = content[0]
            record.replayed = not window.check(record.sequence)
            if not record.replayed:
                window.update(record.sequence)
            self._inside(closed, *content)

    # --- the end ---

    def finish(self) -> Trace:
        """The Trace of all that was fed."""
        while self._closed:
            self._open_blindly(next(iter(self._closed)))
        for key, cut in self._streams.finish():
            self._cut(cut, key)
        for record, sightings in self._sighted:
            if len(sightings) == 1:
                record.frames = sightings[0].frames
                if sightings[0].copies is not None:
                    record.copies = tuple(sorted(sightings[0].copies))
            else:
                record.frames = tuple(sorted({frame for each in sightings for frame in each.frames}))
                record.copies = tuple(sorted({frame for each in sightings for frame in each.copies or ()}))
        problems = []
        if self._cut_off:
            problems.append(
                PeerError(f"{self._cut_off} of {self._packets} frames were captured only in part (snap length)")
            )
        return Trace(
            self._records,
            self._views(),
            sets=[each for each in (association.shown() for association in self._associations.all) if each is not None],
            keyed_sas=self._associations.proved(),
            keys=self.keys,
            problems=problems,
            packets=self._packets,
        )

    def _views(self) -> list[SaView]:
        """All SAs with what was counted: a packet counts once for every point that shows it."""
        views = [view for association in self._associations.all if association.agreed_on for view in association.views]
        strangers: dict[tuple[str, str, int], SaView] = {}
        for record, sighting, owner in self._owners:
            view = None if owner is None else owner.view(record.dst, record.spi)
            if view is None:
                key = (record.src, record.dst, record.spi)
                view = strangers.get(key)
                if view is None:
                    view = strangers[key] = SaView(
                        spi=record.spi, src=Endpoint(record.src, 0), dst=Endpoint(record.dst, 0), alg="", ealg=""
                    )
                    views.append(view)
            elif view.dst.host == ANYWHERE:
                view.src, view.dst = Endpoint(record.src, 0), Endpoint(record.dst, 0)
            if owner is not None and not owner.agreed_on and not view.packets:
                views.append(view)  # an SA of a key file shows itself with its first packet
            times = sighting.times_seen
            view.packets += times
            view.icv_ok += times * (record.icv is Icv.OK)
            view.icv_bad += times * (record.icv is Icv.BAD)
            view.replayed += times * record.replayed
        return views


def _is_broken_sip(data: bytes, src_port: int) -> bool:
    """True for a datagram to the SIP port that is neither SIP nor a keep-alive (CRLF, zeros, STUN)."""
    if src_port in (53, 123):
        return False
    if not data.strip(b"\r\n\0 ") or len(data) < 8:
        return False
    return data[0] > 3 and b"\n" in data  # STUN begins with two zero bits; and a text has lines


def dissect(packets: Iterable[Packet], keys: KeyRing | None = None) -> Trace:
    """The Trace of a capture.

    A capture that breaks off gives what there was before, and the reason in `problems`; PeerError when that is nothing.
    """
    dissector = Dissector(keys)
    broken: PeerError | None = None
    count = 0
    try:
        for packet in packets:
            dissector.feed(packet)
            count += 1
    except PeerError as error:
        if not count:
            raise
        broken = error
    trace = dissector.finish()
    if broken is not None:
        trace.problems.insert(0, broken)
    return trace
