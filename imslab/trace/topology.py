"""Who is who: roles of endpoints, read out of what they send.

A capture names nobody, but a registration gives everybody away. Each SIP proxy adds a Via (RFC 3261 16.6), so the
number of Vias in a REGISTER says how far it has come:

    1  UE → P-CSCF        2  P-CSCF → I-CSCF (or straight → S-CSCF)        3  I-CSCF → S-CSCF

and on Cx the command says who asks (29.228 6): UAR and LIR the I-CSCF, MAR and SAR the S-CSCF; RTR and PPR come from
the HSS. Where one host plays several roles, its ports tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.sip.message import Message
from imslab.trace.identity import is_third_party, via_count
from imslab.trace.model import DiameterRecord, Hop, Record, Role, SipRecord

_UAR, _SAR, _LIR, _MAR, _RTR, _PPR = 300, 301, 302, 303, 304, 305
_FROM_ICSCF = frozenset((_UAR, _LIR))
_FROM_SCSCF = frozenset((_MAR, _SAR))
_FROM_HSS = frozenset((_RTR, _PPR))
#: Of a Via: protocol, white space, sent-by (RFC 3261 20.42).
_SENT_BY = re.compile(r"SIP\s*/\s*2\.0\s*/\s*\w+\s+([^\s;,]+)", re.IGNORECASE)
_CSCFS = frozenset((Role.PCSCF, Role.ICSCF, Role.SCSCF))


class Topology:
    """The roles of endpoints and hosts in one trace.

    endpoints: what is known of an address with a port. hosts: the roles seen at an address.
    """

    __slots__ = ("_announced", "_sent_by", "_ways", "diameter", "endpoints", "hosts")

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.endpoints: dict[Endpoint, Role] = {}
        self.diameter: dict[Endpoint, Role] = {}
        self.hosts: dict[str, set[Role]] = {}
        self._sent_by: dict[str, Role] = {}
        self._announced: set[tuple[str, ...]] = set()
        self._ways: dict[tuple[Endpoint, Endpoint], tuple[Role, Role, Hop]] = {}
        self._learn(list(records))

    def role(self, endpoint: Endpoint) -> Role:
        """Who speaks SIP there; UNKNOWN when nothing gave it away."""
        known = self.endpoints.get(endpoint)
        if known is not None:
            return known
        roles = self.hosts.get(endpoint.host)
        return next(iter(roles)) if roles is not None and len(roles) == 1 else Role.UNKNOWN

    def of(self, role: Role) -> list[Endpoint]:
        """The endpoints of a role, in the order in which they were met."""
        return [endpoint for endpoint, known in self.endpoints.items() if known is role]

    def assign(self, record: Record) -> None:
        """Fill in sender, receiver and, for SIP, the hop."""
        if isinstance(record, SipRecord):
            way = record.src, record.dst
            known = self._ways.get(way)
            if known is None:
                sender, receiver = self._sip_roles(record)
                known = sender, receiver, _hop(sender, receiver)
                if sender is not Role.UNKNOWN:  # else the next message's Via may tell
                    self._ways[way] = known
            record.sender, record.receiver, record.hop = known
        elif isinstance(record, DiameterRecord):
            record.sender, record.receiver = self._diameter_roles(record)

    def _sip_roles(self, record: SipRecord) -> tuple[Role, Role]:
        sender, receiver = self.role(record.src), self.role(record.dst)
        if sender is Role.UNKNOWN and record.message.is_request:
            sender = self._sent_by.get(sent_by(record.message), sender)
        # a UE talks to its P-CSCF only (24.229 5.1.1.2): an unknown port of a host with several roles is that one
        if sender is Role.UE and receiver is Role.UNKNOWN and Role.PCSCF in self.hosts.get(record.dst.host, ()):
            receiver = Role.PCSCF
        elif receiver is Role.UE and sender is Role.UNKNOWN and Role.PCSCF in self.hosts.get(record.src.host, ()):
            sender = Role.PCSCF
        return sender, receiver

    def _diameter_roles(self, record: DiameterRecord) -> tuple[Role, Role]:
        command, request = record.message.command, record.message.request
        client = _client(command)
        if client is not None:
            return (client, _server(command)) if request else (_server(command), client)
        return self.diameter.get(record.src, Role.UNKNOWN), self.diameter.get(record.dst, Role.UNKNOWN)

    # --- learning ---

    def _learn(self, records: list[Record]) -> None:
        askers: dict[str, set[Role]] = {}
        for record in records:
            if isinstance(record, DiameterRecord) and record.message.request:
                client = _client(record.message.command)
                if client is not None:
                    self.diameter.setdefault(record.src, client)
                    self.diameter.setdefault(record.dst, _server(record.message.command))
                    askers.setdefault(record.src.host, set()).add(client)
        chains: dict[tuple[str, str], list[tuple[int, SipRecord]]] = {}
        for record in records:
            if not isinstance(record, SipRecord):
                continue
            message = record.message
            if not message.is_request:
                if record.message.has("Security-Server"):
                    self._protected_ports(record.src.host, message, "Security-Server", Role.PCSCF)
            elif message.method == "REGISTER" and not is_third_party(message):
                vias = via_count(message)
                if vias == 1:
                    self._meet(record.src, Role.UE)
                    self._meet(record.dst, Role.PCSCF)
                    self._protected_ports(record.src.host, message, "Security-Client", Role.UE)
                elif vias > 1:
                    self._meet(record.src, Role.PCSCF if vias == 2 else Role.ICSCF)
                    self._sent_by.setdefault(sent_by(message), Role.PCSCF if vias == 2 else Role.ICSCF)
                    key = (message.get("Call-ID") or "", message.get("CSeq") or "")
                    chains.setdefault(key, []).append((vias, record))
        self._ends_of_chains(chains, askers)
        for endpoint, role in self.diameter.items():
            self.hosts.setdefault(endpoint.host, set()).add(role)

    def _ends_of_chains(
        self, chains: dict[tuple[str, str], list[tuple[int, SipRecord]]], askers: dict[str, set[Role]]
    ) -> None:
        """Whoever received a REGISTER and did not pass it on: the S-CSCF, or an I-CSCF that went no further."""
        undecided: list[Endpoint] = []
        for chain in chains.values():
            vias, last = max(chain, key=lambda each: each[0])
            for come, record in chain:
                if come < vias:
                    self._meet(record.dst, Role.ICSCF)
            if vias >= 3:
                self._meet(last.dst, Role.SCSCF)
            elif last.dst not in self.endpoints:
                undecided.append(last.dst)
        for endpoint in undecided:
            if endpoint not in self.endpoints:
                asks = askers.get(endpoint.host, set())
                self._meet(endpoint, Role.SCSCF if Role.SCSCF in asks and Role.ICSCF not in asks else Role.ICSCF)

    def _meet(self, endpoint: Endpoint, role: Role) -> None:
        self.endpoints.setdefault(endpoint, role)
        self.hosts.setdefault(endpoint.host, set()).add(role)

    def _protected_ports(self, host: str, message: Message, header: str, role: Role) -> None:
        written = (host, *message.rows(header))
        if written in self._announced:
            return
        self._announced.add(written)
        try:
            mechanisms = message.security_client if role is Role.UE else message.security_server
            ports = [port for each in mechanisms for port in (each.port_c, each.port_s)]
        except PeerError:
            return
        for port in ports:
            if port:
                self._meet(Endpoint(host, port), role)


def sent_by(message: Message) -> str:
    """Host and port of the top Via as written, "" if it cannot be read."""
    found = _SENT_BY.match(message.get("Via") or "")
    return "" if found is None else found[1]


def _client(command: int) -> Role | None:
    if command in _FROM_ICSCF:
        return Role.ICSCF
    if command in _FROM_SCSCF:
        return Role.SCSCF
    return Role.HSS if command in _FROM_HSS else None


def _server(command: int) -> Role:
    return Role.SCSCF if command in _FROM_HSS else Role.HSS


def _hop(sender: Role, receiver: Role) -> Hop:
    if sender is Role.UE or receiver is Role.UE:
        return Hop.UNKNOWN if sender is receiver else Hop.GM
    if sender in _CSCFS and receiver in _CSCFS:
        return Hop.MW
    return Hop.UNKNOWN
