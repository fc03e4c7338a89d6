"""What a kernel's IPsec does for one host, in user space: SAs, policies, and the drops that nobody is told of.

SAs are found by (destination, SPI), as RFC 4301 4.1 has it; policies by addresses and ports, any transport
(33.203 7.1). A packet that may not pass is dropped in silence and counted under the name that Linux has for it in
/proc/net/xfrm_stat:

    XfrmInNoStates         no SA of that destination and SPI
    XfrmInStateProtoError  a wrong ICV, or nothing that ESP can have made
    XfrmInStateSeqError    a sequence number seen before, or left of the window
    XfrmInStateMismatch    it came through an SA whose selectors are others
    XfrmInTmplMismatch     it came in clear where an inbound policy wants ESP
    XfrmInNoPols           it came in clear, from elsewhere, to a protected port
    XfrmOutNoStates        it would have left a protected port without an SA
    XfrmOutStateSeqError   the SA has used up its sequence numbers
"""

from __future__ import annotations

from collections import Counter

from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, pack_host
from imslab.core.sa import Sa, SaSet
from imslab.ipsec.esp import EspError, EspTransform, Opener, ReplayError, Sealer, SequenceExhausted
from imslab.ipsec.packet import TCP, UDP
from imslab.ipsec.sa import FIRST_SPI, LAST_SPI

#: Source address (packed) and port, destination address and port: what a policy selects by.
Selector = tuple[bytes, int, bytes, int]
#: A packed address and a port.
Place = tuple[bytes, int]


class OutboundSa:
    """An SA that leaves this host. number: of its set."""

    __slots__ = ("_sealer", "number", "sa")

    def __init__(self, sa: Sa, number: int) -> None:
        self.sa = sa
        self.number = number
        self._sealer: Sealer | None = None

    def sealer(self, entropy: Entropy) -> Sealer:
        """Made at first use: two of the four SAs carry nothing unless TCP is spoken."""
        if self._sealer is None:
            self._sealer = Sealer(self.sa, entropy)
        return self._sealer


class InboundSa:
    """An SA that ends at this host. number: of its set. selector: what its packets must show inside."""

    __slots__ = ("_opener", "number", "sa", "selector")

    def __init__(self, sa: Sa, number: int, selector: Selector) -> None:
        self.sa = sa
        self.number = number
        self.selector = selector
        self._opener: Opener | None = None

    @property
    def opener(self) -> Opener:
        """Made at first use."""
        if self._opener is None:
            self._opener = Opener(self.sa)
        return self._opener


class SaDatabase:
    """The SAs and policies of one host.

    counters: where drops are counted. entropy: for IVs.
    A local endpoint of a set is protected from then on, also when the set is gone, until `release`: what is late on
    an old port must not leave in clear (33.203 7.1).
    """

    __slots__ = ("_by_spi", "_counters", "_entropy", "_inbound", "_outbound", "_protected", "_released", "sets")

    def __init__(self, entropy: Entropy, counters: Counter[str]) -> None:
        self.sets: dict[int, SaSet] = {}
        self._by_spi: dict[tuple[bytes, int], InboundSa | OutboundSa] = {}
        # Where two sets have the same selectors, the newest speaks: the last of the list.
        self._outbound: dict[Selector, list[OutboundSa]] = {}
        self._inbound: dict[Selector, int] = {}
        # How many live SAs end here; 0: none does any more, but the place stays protected.
        self._protected: dict[Place, int] = {}
        self._released: set[Place] = set()
        self._entropy = entropy
        self._counters = counters

    # -- sets --------------------------------------------------------------------------------------------------------

    def install(self, sas: SaSet) -> None:
        """Put the four SAs in place: whole or, with a LocalError that says why, not at all."""
        if sas.number in self.sets:
            raise LocalError(f"SA set {sas.number} is installed already")
        made: list[tuple[tuple[bytes, int], InboundSa | OutboundSa]] = []
        transforms: set[tuple[str, str, bytes, bytes]] = set()
        for sa in sas.sas:
            algorithms = (sa.alg, sa.ealg, sa.ik, sa.ck)
            if algorithms not in transforms:
                EspTransform(*algorithms)
                transforms.add(algorithms)
            if not FIRST_SPI <= sa.spi <= LAST_SPI:
                raise LocalError(f"SPI {sa.spi} is none (256 to 4294967295, RFC 4303 2.1)")
            if sas.local not in (sa.src.host, sa.dst.host):
                raise LocalError(f"the SA of SPI {sa.spi} neither leaves nor reaches {sas.local}")
            key = (pack_host(sa.dst.host), sa.spi)
            if key in self._by_spi or any(key == other for other, _ in made):
                # RFC 4301 4.1: destination and SPI name an SA
                raise LocalError(f"an SA to {sa.dst.host} with SPI {sa.spi} exists already")
            selector = selector_of(sa)
            made.append(
                (key, InboundSa(sa, sas.number, selector) if sa.dst.host == sas.local else OutboundSa(sa, sas.number))
            )
        self.sets[sas.number] = sas
        for key, state in made:
            self._by_spi[key] = state
            selector = selector_of(state.sa)
            if isinstance(state, InboundSa):
                self._inbound[selector] = self._inbound.get(selector, 0) + 1
            else:
                self._outbound.setdefault(selector, []).append(state)
            place = _local_place(state)
            self._protected[place] = self._protected.get(place, 0) + 1
            self._released.discard(place)

    def remove(self, number: int) -> SaSet | None:
        """Take a set away and give it back; None when there is none of that number."""
        sas = self.sets.pop(number, None)
        if sas is None:
            return None
        for sa in sas.sas:
            state = self._by_spi.pop((pack_host(sa.dst.host), sa.spi))
            selector = selector_of(sa)
            if isinstance(state, InboundSa):
                self._inbound[selector] -= 1
                if not self._inbound[selector]:
                    del self._inbound[selector]
            else:
                same = self._outbound[selector]
                same.remove(state)
                if not same:
                    del self._outbound[selector]
            place = _local_place(state)
            self._protected[place] -= 1
            if not self._protected[place] and place in self._released:
                self._released.discard(place)
                del self._protected[place]
        return sas

    def protects(self, place: Place) -> bool:
        """True for a local endpoint that has been in a set and was not released since."""
        return place in self._protected

    def release(self, place: Place) -> None:
        """The node is done with this endpoint: it is an ordinary one again, once its last SA is gone."""
        count = self._protected.get(place)
        if count == 0:
            del self._protected[place]
        elif count:
            self._released.add(place)

    # -- packets -----------------------------------------------------------------------------------------------------

    def outbound(self, selector: Selector) -> OutboundSa | None:
        """The SA that protects what leaves with these addresses and ports; None where no policy selects it."""
        same = self._outbound.get(selector)
        return same[-1] if same else None

    def seal(self, outbound: OutboundSa, protocol: int, payload: bytes) -> bytes | None:
        """The ESP packet around a UDP or TCP payload; None, counted, when the SA cannot send any more."""
        try:
            return outbound.sealer(self._entropy).seal(protocol, payload)
        except SequenceExhausted:
            self._counters["XfrmOutStateSeqError"] += 1
            return None

    def open(self, src: bytes, dst: bytes, packet: bytes) -> tuple[int, bytes, int] | None:
        """Protocol and payload of an ESP packet, and the number of the set that it came through.

        None, counted, for whatever a receiver drops.
        """
        inbound = self._by_spi.get((dst, int.from_bytes(packet[:4], "big")))
        if not isinstance(inbound, InboundSa):
            self._counters["XfrmInNoStates"] += 1
            return None
        try:
            protocol, payload, _ = inbound.opener.open(packet)
        except ReplayError:
            self._counters["XfrmInStateSeqError"] += 1
            return None
        except EspError:
            self._counters["XfrmInStateProtoError"] += 1
            return None
        # RFC 4301 5.2, step 4: what is inside must match the selectors of the SA it came through.
        if protocol not in (UDP, TCP) or _selector(src, dst, payload) != inbound.selector:
            self._counters["XfrmInStateMismatch"] += 1
            return None
        return protocol, payload, inbound.number

    def admits_clear(self, src: bytes, dst: bytes, payload: bytes) -> bool:
        """True when a UDP or TCP payload may come in without ESP; otherwise it is counted."""
        selector = _selector(src, dst, payload)
        if selector in self._inbound:
            self._counters["XfrmInTmplMismatch"] += 1
            return False
        if selector[2:] in self._protected:
            self._counters["XfrmInNoPols"] += 1
            return False
        return True

    def most_data(self, selector: Selector, room: int) -> int:
        """The octets of TCP data that a packet with `room` octets behind its IP header can hold, ESP counted in."""
        outbound = self.outbound(selector)
        segment = room
        if outbound is not None:
            transform = outbound.sealer(self._entropy).transform
            while segment + transform.overhead(segment) > room:
                segment -= 1
        return segment - 20


def selector_of(sa: Sa) -> Selector:
    """The addresses and ports of an SA, packed."""
    return (pack_host(sa.src.host), sa.src.port, pack_host(sa.dst.host), sa.dst.port)


def packed(endpoint: Endpoint) -> Place:
    """An endpoint with its address packed. Raises ValueError when that is no address."""
    return (pack_host(endpoint.host), endpoint.port)


def _local_place(state: InboundSa | OutboundSa) -> Place:
    return packed(state.sa.dst if isinstance(state, InboundSa) else state.sa.src)


def _selector(src: bytes, dst: bytes, payload: bytes) -> Selector:
    """UDP and TCP begin alike: source port, destination port. A payload too short for them has port 0."""
    return (src, int.from_bytes(payload[:2], "big"), dst, int.from_bytes(payload[2:4], "big"))
