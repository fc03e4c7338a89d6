"""What the UE sends by which way, and what it lets in by which way (33.203 7.1, 7.4.1a).

Out: a request takes the transport that RFC 3261 18.1.1 chooses by its size, from the unprotected port or from port_uc
of a set; an answer over UDP leaves from port_uc of the set that the request came through, an answer over TCP goes back
on its connection.

In: what is legal under which protection is the table LEGAL; everything else is discarded without an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.base import SipNode, Then
from imslab.roles.ue_config import UeConfig
from imslab.roles.ue_sas import SaTable, Standing, UeSet
from imslab.sip.message import Message, Request, Response
from imslab.sip.transaction import Timers, Transaction


class Asked(StrEnum):
    """What kind of request an answer belongs to."""

    CLEAR = "REGISTER in clear"
    INSIDE = "REGISTER on the established set"
    FIRST_ANSWER = "challenge answered on the temporary set, the first REGISTER having been clear"
    NEXT_ANSWER = "challenge answered on the temporary set, the first REGISTER having been protected"
    OTHER = "any other request"


class Way(StrEnum):
    """How a message came, seen from the request that it answers."""

    CLEAR = "clear"
    OWN = "the set that the request went through"
    LIVE = "another set that is established, old or ending"
    TEMPORARY = "a temporary set that is not the request's"
    FORBIDDEN = "clear on a protected port, or a set that is not ours"


class Outcome(StrEnum):
    """Which answers are told apart here."""

    SUCCESS = "2xx"
    CHALLENGE = "401"
    REFUSED = "403"
    ANY = "any other"


#: 33.203 7.4.1a, the table of what travels on which SA. A row without its outcome falls back to ANY.
#: Where the table asks for clear (failures of a first registration) the request's own set is taken too, and where it
#: asks for the old set (failures of a re-registration) the new one: both prove more than what is asked for, and
#: Kamailio answers so.
LEGAL: dict[tuple[Asked, Outcome], frozenset[Way]] = {
    (Asked.CLEAR, Outcome.ANY): frozenset({Way.CLEAR}),
    (Asked.INSIDE, Outcome.ANY): frozenset({Way.OWN, Way.LIVE}),
    (Asked.FIRST_ANSWER, Outcome.SUCCESS): frozenset({Way.OWN}),
    (Asked.FIRST_ANSWER, Outcome.CHALLENGE): frozenset({Way.OWN, Way.CLEAR}),
    # "4xx for wrong RES: new SA". Whoever forges a clear 403 would otherwise end a registration.
    (Asked.FIRST_ANSWER, Outcome.REFUSED): frozenset({Way.OWN}),
    (Asked.FIRST_ANSWER, Outcome.ANY): frozenset({Way.OWN, Way.CLEAR}),
    (Asked.NEXT_ANSWER, Outcome.SUCCESS): frozenset({Way.OWN}),
    (Asked.NEXT_ANSWER, Outcome.ANY): frozenset({Way.OWN, Way.LIVE}),
    (Asked.OTHER, Outcome.ANY): frozenset({Way.OWN, Way.LIVE}),
}

#: 33.203 7.1: on unprotected ports the UE takes no request; before the 200 there is no other traffic (7.4.1a).
LEGAL_REQUESTS = frozenset({Way.LIVE})


def outcome(status: int) -> Outcome:
    """Which row of LEGAL an answer belongs to."""
    if 200 <= status < 300:
        return Outcome.SUCCESS
    return {401: Outcome.CHALLENGE, 403: Outcome.REFUSED}.get(status, Outcome.ANY)


def legal_ways(asked: Asked, status: int) -> frozenset[Way]:
    """Which ways an answer of this status may come."""
    return LEGAL.get((asked, outcome(status))) or LEGAL[asked, Outcome.ANY]


class Sent:
    """What hangs on a client transaction of the UE: what it was, and who wants the answer."""

    __slots__ = ("asked", "heard", "node", "original", "provisional", "sas", "then")

    def __init__(self, node: UeTraffic, asked: Asked, sas: UeSet | None, original: Request, then: Then) -> None:
        self.node = node
        self.asked = asked
        self.sas = sas
        self.original = original
        self.then = then
        self.heard = sas.heard if sas is not None else 0
        self.provisional = False

    def __call__(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        if response is None:
            if self.node.fell_back(self, txn):
                return
            # 33.203 7.4.0: a UE that gets no answer to what it protects may take its SAs for dead.
            heard = self.sas is None or self.sas.heard > self.heard
            self.then(txn, response, arrival)
            if not heard and self.asked is Asked.OTHER:
                self.node.on_silence()
            return
        self.provisional = True
        self.then(txn, response, arrival)


class UeTraffic(SipNode, ABC):
    """The UE's ways in and out."""

    role: ClassVar[str] = "UE"

    def __init__(self, name: str, config: UeConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, entropy, faults)
        self.config = config
        self.sas = SaTable()
        self.pcscf_index = 0

    @property
    def sets(self) -> dict[int, UeSet]:
        """The SA sets by number."""
        return self.sas.sets

    @property
    def host(self) -> str:
        """The address of the UE."""
        return self.config.host

    @property
    def offers(self) -> tuple[tuple[str, str], ...]:
        """(alg, ealg) pairs that the UE offers."""
        if "ue-no-cipher" in self.faults:
            return tuple(pair for pair in self.config.effective_offers if pair[1] == "null")
        return self.config.effective_offers

    @property
    def pcscf(self) -> Endpoint:
        """The P-CSCF of the moment, at its unprotected port (5060 where discovery gave none: 24.229 5.1.1.2.1)."""
        chosen = self.config.pcscf[self.pcscf_index % len(self.config.pcscf)]
        return chosen if chosen.port else Endpoint(chosen.host, 5060)

    @abstractmethod
    def on_silence(self) -> None:
        """A protected request was never answered, and nothing else came through its set meanwhile."""

    # ---- out

    def way_out(self, sas: UeSet | None, transport: Transport) -> Flow:
        """The flow for a request: from port_uc of a set, or from the unprotected port."""
        if sas is not None:
            return sas.flow(transport, self.host)
        return Flow(transport, Endpoint(self.host, 0 if transport.is_stream else self.config.port), self.pcscf)

    def sent_by(self, sas: UeSet | None) -> Endpoint:
        """What Via and Contact say: port_us with a set (24.229 5.1.1.2.2), the unprotected port without."""
        if sas is None or "ue-clear-port-in-via" in self.faults:
            return Endpoint(self.host, self.config.port)
        return Endpoint(self.host, sas.offer.port_s)

    def send(
        self, request: Request, then: Then, asked: Asked, sas: UeSet | None, transport: Transport | None = None
    ) -> Transaction | None:
        """Send a request through a set, or in clear. transport: None leaves it to the configuration and the size."""
        # 24.229 5.1.1.2.1 d): an empty rport in clear. Inside SAs answers go to port_us, whatever the source port was.
        rport = ";rport" if sas is None and "ue-no-rport" not in self.faults else ""
        if transport is None:
            transport = self.choose_transport(request, sas, rport)
        sent = Sent(self, asked, sas, request.copy(), then)
        return self.request(request, self.way_out(sas, transport), sent, sent_by=self.sent_by(sas), via_params=rport)

    def choose_transport(self, request: Request, sas: UeSet | None, rport: str) -> Transport:
        """By the configuration, and by size where that is automatic."""
        mode = self.config.effective_transport
        if mode != "auto":
            return Transport(mode)
        # RFC 3261 18.1.1: larger than 1300 octets goes over a congestion-controlled transport. What a fault makes of a
        # message counts as if it had been written so.
        altered = self.faults.alter(request.copy(), "Gm")
        request = altered if isinstance(altered, Request) else request
        small = self.suits_datagram(request, self.sent_by(sas), rport) or "ue-udp-always" in self.faults
        return Transport.UDP if small else Transport.TCP

    def fell_back(self, sent: Sent, txn: Transaction) -> bool:
        """True when TCP was refused and the same request goes on over UDP (RFC 3261 18.1.1)."""
        refused = txn.flow.transport is Transport.TCP and not self.has_stream(txn.flow) and not sent.provisional
        if not refused or self.config.effective_transport != "auto":
            return False
        self.emit("fallback", f"{txn.request.method}: {txn.flow.remote} takes no TCP, so it goes over UDP")
        return self.send(sent.original, sent.then, sent.asked, sent.sas, Transport.UDP) is not None

    def close_streams(self, sas: UeSet) -> None:
        """End the connections inside a set before it goes."""
        for flow in self.streams():
            if sas.carries(flow):
                self.close_stream(flow)

    def reply_flow(self, request: Request, arrival: ev.Arrival) -> Flow:
        """33.203 7.1: over UDP from port_uc to port_ps of the set of the request, over TCP on its connection."""
        sas = self.sets.get(arrival.sas) if arrival.sas is not None else None
        if sas is None or arrival.flow.transport.is_stream:
            return super().reply_flow(request, arrival)
        if "ue-answers-from-server-port" in self.faults:
            return arrival.flow  # back the way it came, as over TCP
        if self.config.profile.udp_answers == "server":
            port = request.via[0].port or 5060
            return Flow(Transport.UDP, Endpoint(self.host, sas.offer.port_s), Endpoint(sas.pcscf, port))
        return sas.flow(Transport.UDP, self.host)

    def detour(self, flow: Flow) -> Flow | None:
        """An answer whose connection is gone goes by a new one, from port_uc to port_ps (RFC 3261 18.2.2)."""
        sas = self.sas.find(flow)
        return sas.flow(Transport.TCP, self.host) if sas is not None else None

    def timers_for(self, flow: Flow) -> Timers:
        """Those of 24.229 7.7, unless the profile says otherwise."""
        return self.config.profile.timers

    def hop_of(self, flow: Flow) -> str:
        """All that a UE speaks is Gm."""
        return "Gm"

    # ---- in

    def way_in(self, arrival: ev.Arrival, own: UeSet | None) -> Way:
        """How a message came, compared with the set `own` of the request it answers."""
        if arrival.sas is None:
            return Way.FORBIDDEN if self.sas.is_protected_port(arrival.flow.local.port) else Way.CLEAR
        sas = self.sets.get(arrival.sas)
        if sas is None:
            return Way.FORBIDDEN
        if sas is own:
            return Way.OWN
        return Way.TEMPORARY if sas.standing is Standing.TEMPORARY else Way.LIVE

    def admit(self, message: Message, arrival: ev.Arrival) -> bool:
        """Whether the message came by a legal way; note that its set was heard."""
        allowed = (
            self._admit_answer(message, arrival) if isinstance(message, Response) else self._admit_request(arrival)
        )
        sas = self.sets.get(arrival.sas) if allowed and arrival.sas is not None else None
        if sas is not None:
            sas.heard += 1
            # 33.203 7.4.1a: a further message on the new set, after the 200, lets the old set go.
            sas.confirmed = sas.confirmed or sas.standing is Standing.ESTABLISHED
        return allowed

    def _admit_request(self, arrival: ev.Arrival) -> bool:
        way = self.way_in(arrival, None)
        if way in LEGAL_REQUESTS or not self.config.ipsec or "ue-answers-clear-requests" in self.faults:
            return True
        self._discard(f"a request: {way}", arrival)
        return False

    def _admit_answer(self, response: Response, arrival: ev.Arrival) -> bool:
        txn = self.transactions.find_client(response)
        sent = txn.context if txn is not None else None
        if not isinstance(sent, Sent) or not self.config.ipsec:
            return True  # an answer to nothing of ours is the base's affair
        way = self.way_in(arrival, sent.sas)
        if way in legal_ways(sent.asked, response.status) or "ue-takes-clear-answers" in self.faults:
            return True
        self._discard(f"{response.status} {way}, for: {sent.asked}", arrival)
        return False

    def _discard(self, what: str, arrival: ev.Arrival) -> None:
        # 33.203 7.4: a message on the wrong SA is discarded, not answered.
        self.emit("discarded", f"{what} (from {arrival.flow.remote})")
