"""What the rules about Gm know of a trace: challenges, security agreements, and how long each set of SAs stood.

All of it is read out of the messages between UE and P-CSCF, once for each trace. A rule that asks about something the
trace does not show gets None or an empty list, and then has nothing to say.

A set stands from the 200 that established it to the end of the registration as far as the trace shows it: the granted
time, prolonged by each 200, cut short by a de-registration, by a reg-event document that says "terminated", or by a
newer set that began with a REGISTER in clear (33.203 7.4.2a). That is never longer than the real life of the SAs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imslab.core.flow import Endpoint
from imslab.ipsec.sa import CLEAR_PORTS
from imslab.rules.reading import (
    challenge,
    contacts,
    credentials,
    cseq_number,
    is_aka,
    leaves,
    mechanisms,
    order,
    param,
    quiet,
)
from imslab.sip.fields.digest import DigestChallenge
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.message import Message
from imslab.trace.associations import Side, sides
from imslab.trace.model import EspRecord, Hop, Record, Role, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace, status_of

#: 24.229 7.8: how long a challenge waits for its answer, seconds; so long lives a temporary set.
REG_AWAIT_AUTH = 240.0

#: How many sets of one UE, or of one SPI, are looked at.
NEWEST = 16

#: The places of the four SAs in a set, as in `imslab.core.sa`.
UC_PS, PS_UC, PC_US, US_PC = range(4)


@dataclass(slots=True, eq=False, repr=False)
class Challenge:
    """A 401 to the UE with a nonce.

    request: the REGISTER that it answers. answer: the REGISTER with which the UE reacted. protected_by: the agreement
    in whose SAs the request came, None in clear or when that agreement is not in the trace.
    """

    request: SipRecord
    response: SipRecord
    params: DigestChallenge
    nonce: str
    registration: Registration
    agreement: Agreement | None = None
    answer: SipRecord | None = None
    protected_by: Agreement | None = None


@dataclass(slots=True, eq=False, repr=False)
class Agreement:
    """One set of SAs, made by the Security-Client of a REGISTER and the Security-Server of its 401.

    offered, listed: the ipsec-3gpp entries of the two headers. client, server: SPIs and ports of the two sides, all
    there. accepted: the 2xx that established the set. ends: until when it surely stood, seconds.
    bare: the trace shows its protected ports at work in both directions, and no ESP at all between the two hosts:
    then it is a decrypted copy, and says nothing about protection.
    """

    challenge: Challenge
    offered: list[SecurityMechanism]
    listed: list[SecurityMechanism]
    client: Side
    server: Side
    ue: str
    pcscf: str
    accepted: SipRecord | None = None
    ends: float = 0.0
    bare: bool = False

    #: What stays the same over all sets of one UE: its protected server port (33.203 7.1).
    key: Endpoint = field(init=False)
    #: SPI, source and destination of the four SAs, in the order of `imslab.core.sa`.
    flows: tuple[tuple[int, Endpoint, Endpoint], ...] = field(init=False)

    def __post_init__(self) -> None:
        uc, us = Endpoint(self.ue, self.client.port_c), Endpoint(self.ue, self.client.port_s)
        pc, ps = Endpoint(self.pcscf, self.server.port_c), Endpoint(self.pcscf, self.server.port_s)
        self.key = us
        self.flows = (
            (self.server.spi_s, uc, ps),
            (self.client.spi_c, ps, uc),
            (self.client.spi_s, pc, us),
            (self.server.spi_c, us, pc),
        )

    @property
    def made(self) -> float:
        """When it came into being, seconds."""
        return self.challenge.response.time

    def stands(self, record: SipRecord) -> bool:
        """True when the set was established before this record and had surely not ended."""
        return self.accepted is not None and order(self.accepted) < order(record) and record.time <= self.ends

    def lives(self, record: SipRecord) -> bool:
        """True when the set stands, or is temporary and young enough."""
        if order(self.challenge.response) >= order(record):
            return False
        if self.accepted is not None and order(self.accepted) < order(record):
            return record.time <= self.ends
        return record.time - self.made < REG_AWAIT_AUTH and not self._failed_before(record)

    def _failed_before(self, record: SipRecord) -> bool:
        """True when the attempt had ended otherwise by then."""
        final = self.challenge.registration.final
        own = self.accepted, self.challenge.response
        return final is not None and final not in own and order(final) < order(record)


@dataclass(slots=True, eq=False, repr=False)
class Accepted:
    """A 2xx to a REGISTER of a UE that has SAs."""

    request: SipRecord
    response: SipRecord
    agreement: Agreement


@dataclass(slots=True, eq=False, repr=False)
class Gm:
    """All of it, for one trace. See the module's page."""

    trace: Trace
    challenges: list[Challenge] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    accepted: dict[Endpoint, list[Accepted]] = field(default_factory=dict)
    _registration: dict[SipRecord, Registration] = field(default_factory=dict)
    _by_response: dict[SipRecord, Challenge] = field(default_factory=dict)
    _by_answer: dict[SipRecord, Challenge] = field(default_factory=dict)
    _by_spi: dict[tuple[str, int], list[Agreement]] = field(default_factory=dict)
    _by_ue: dict[str, list[Agreement]] = field(default_factory=dict)
    _by_hosts: dict[tuple[str, str], list[Agreement]] = field(default_factory=dict)
    _bare_flows: dict[tuple[Endpoint, Endpoint], list[Agreement]] = field(default_factory=dict)
    _bare_ports: set[Endpoint] = field(default_factory=set)
    _outcomes: list[tuple[SipRecord, SipRecord]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._read()

    # --- questions about a REGISTER ---

    def registration(self, record: SipRecord) -> Registration | None:
        """The registration that a REGISTER of the UE, or a final answer to it, belongs to."""
        return self._registration.get(self.trace.original(record))

    def starts(self, record: SipRecord) -> bool:
        """True for the first REGISTER of a procedure, as far as the trace shows it."""
        registration = self.registration(record)
        return registration is not None and registration.requests[0] is self.trace.original(record)

    def is_initial(self, record: SipRecord) -> bool:
        """True for a REGISTER in clear that begins a registration, and not one that reacts to an unseen challenge."""
        if not self.starts(record) or not self.is_clear(record):
            return False
        given = credentials(record.message)
        return given is None or not param(given, "nonce")

    def wants_aka(self, record: SipRecord) -> bool:
        """True for a REGISTER that is part of IMS AKA: it says so, or was challenged so."""
        message = record.message
        if message.has("Security-Client"):
            return True
        given = credentials(message)
        registration = self.registration(record)
        return (given is not None and is_aka(given)) or (
            registration is not None and registration.algorithm.lower().startswith("aka")
        )

    def challenge_in(self, record: SipRecord) -> Challenge | None:
        """The challenge that a 401 to the UE carries."""
        return self._by_response.get(self.trace.original(record))

    def answers(self, record: SipRecord) -> Challenge | None:
        """The challenge that a REGISTER reacts to."""
        return self._by_answer.get(self.trace.original(record))

    # --- questions about any message ---

    def agreement_of(self, record: SipRecord) -> Agreement | None:
        """The agreement in whose SAs a message travelled; None in clear, or when the trace does not show it."""
        found = self.sa_of(record)
        return None if found is None else found[0]

    def sa_of(self, record: SipRecord) -> tuple[Agreement, int] | None:
        """The agreement in whose SAs a message travelled, and which of the four."""
        if record.spi is not None:
            return self._sa(record.src.host, record.dst.host, record.spi, record, (record.src.port, record.dst.port))
        for agreement in _latest(self._bare_flows.get((record.src, record.dst), ()), order(record)):
            index = next(i for i, flow in enumerate(agreement.flows) if flow[1:] == (record.src, record.dst))
            return agreement, index
        return None

    def sa_of_packet(self, record: EspRecord) -> tuple[Agreement, int] | None:
        """The agreement that an ESP packet belongs to, and which of the four SAs."""
        ports = record.inner_src_port, record.inner_dst_port
        return self._sa(record.src, record.dst, record.spi, record, ports)

    def _sa(
        self, src: str, dst: str, spi: int, record: Record, ports: tuple[int | None, int | None]
    ) -> tuple[Agreement, int] | None:
        """The SA of this SPI between two hosts: of several the newest for these ports, else the newest of all."""
        newest: tuple[Agreement, int] | None = None
        for agreement in _latest(self._by_spi.get((dst, spi), ()), order(record)):
            for index, (number, source, target) in enumerate(agreement.flows):
                if number != spi or (source.host, target.host) != (src, dst):
                    continue
                if ports == (source.port, target.port):
                    return agreement, index
                newest = newest or (agreement, index)
        return newest

    def is_clear(self, record: SipRecord) -> bool:
        """True when a message surely was not protected."""
        return record.spi is None and record.src not in self._bare_ports and record.dst not in self._bare_ports

    def on_port(self, end: Endpoint, record: SipRecord) -> Agreement | None:
        """The living agreement between the hosts of a record of which an endpoint is a protected port.

        None for 5060 and 5061: where somebody agreed on them by mistake, clear traffic on them is right all the same.
        """
        if end.port in CLEAR_PORTS:
            return None
        for ends in ((record.src.host, record.dst.host), (record.dst.host, record.src.host)):
            for agreement in _latest(self._by_hosts.get(ends, ()), order(record)):
                if agreement.lives(record) and any(end in flow[1:] for flow in agreement.flows):
                    return agreement
        return None

    def standing(self, ue: str, record: SipRecord) -> Agreement | None:
        """The newest established set of the UE at this address at the time of a record."""
        return next((each for each in _latest(self._by_ue.get(ue, ()), order(record)) if each.stands(record)), None)

    def before(self, agreement: Agreement) -> list[Agreement]:
        """The sets of the same UE that lived when this one was made, the newest first."""
        made = agreement.challenge.response
        impi = agreement.challenge.registration.impi
        return [
            each
            for each in _latest(self._by_ue.get(agreement.ue, ()), order(made))
            if each is not agreement and each.challenge.registration.impi == impi and each.lives(made)
        ]

    def latest_agreements(self, record: SipRecord) -> list[Agreement]:
        """The last sets of the UE that sends a record, the newest first; a repetition counts as its first sending."""
        return list(_latest(self._by_ue.get(record.src.host, ()), order(self.trace.original(record))))

    def owner(self, host: str, spi: int, record: SipRecord) -> Agreement | None:
        """The newest set that stood at the time of a record, and in which this SPI is inbound at this host."""
        found = _latest(self._by_spi.get((host, spi), ()), order(record))
        return next((each for each in found if each.stands(record)), None)

    def accepted_before(self, agreement: Agreement, record: SipRecord) -> list[Accepted]:
        """The 2xx that the UE of an agreement had got for its REGISTERs, oldest first."""
        found = self.accepted.get(agreement.key, [])
        return found[: bisect_left(found, order(record), key=lambda each: order(each.response))]

    # --- reading the trace ---

    def _read(self) -> None:
        for registration in self.trace.registrations:
            if registration.requests[0].hop is not Hop.GM:
                continue
            for request, final in zip(registration.requests, registration.finals, strict=True):
                self._registration[request] = registration
                if final is None or final.hop is not Hop.GM:
                    continue
                self._registration[final] = registration
                status = status_of(final) or 0
                if status == 401:
                    self._challenge(request, final, registration)
                elif 200 <= status < 300:
                    self._outcomes.append((request, final))
        self.challenges.sort(key=lambda each: order(each.response))
        self._find_answers()
        for each in self.challenges:
            self._agree(each)
        self._find_bare()
        for each in self.challenges:
            each.protected_by = self.agreement_of(each.request)
        self._follow()

    def _challenge(self, request: SipRecord, response: SipRecord, registration: Registration) -> None:
        params = challenge(response.message)
        nonce = None if params is None else param(params, "nonce")
        if params is None or not nonce:
            return
        made = Challenge(request, response, params, nonce, registration)
        self.challenges.append(made)
        self._by_response[response] = made

    def _find_answers(self) -> None:
        """The REGISTER with which the UE reacted to each challenge: it names the nonce, or at least answers."""
        by_nonce: dict[str, list[SipRecord]] = {}
        by_call: dict[str, list[SipRecord]] = {}
        for record in self.trace.sip(method="REGISTER", request=True, hop=Hop.GM, sender=Role.UE):
            given = credentials(record.message)
            if given is None or self.trace.is_retransmission(record):
                continue
            by_nonce.setdefault(param(given, "nonce") or "", []).append(record)
            if param(given, "response"):
                by_call.setdefault(record.message.get("Call-ID") or "", []).append(record)
        for each in reversed(self.challenges):
            named = self._first_after(each, by_nonce.get(each.nonce, []))
            if named is None:
                named = self._first_after(
                    each, by_call.get(each.response.message.get("Call-ID") or "", []), next_only=True
                )
            if named is not None:
                each.answer = named
                self._by_answer[named] = each

    def _first_after(self, each: Challenge, records: list[SipRecord], *, next_only: bool = False) -> SipRecord | None:
        start = bisect_left(records, order(each.response), key=order)
        asked = cseq_number(each.request.message)
        for record in records[start : start + 2]:
            number = cseq_number(record.message)
            late = record.time - each.response.time > REG_AWAIT_AUTH
            if late or record in self._by_answer or record.src.host != each.request.src.host:
                continue
            same_call = record.message.get("Call-ID") == each.request.message.get("Call-ID")
            # a larger step: the reaction itself was missed, and this is a refresh that repeats it (24.229 5.1.1.4.2)
            if (next_only or same_call) and (asked is None or number is None or number > asked + 1):
                continue
            if next_only and number == asked:
                continue
            return record
        return None

    def _agree(self, each: Challenge) -> None:
        offered = mechanisms(each.request.message, "Security-Client")
        listed = mechanisms(each.response.message, "Security-Server")
        if not offered or not listed:
            return
        client, server = sides(offered)[0], sides(listed)[0]
        if 0 in (*client[:4], *server[:4]):
            return
        ue, pcscf = each.request.src.host, each.request.dst.host
        agreement = each.agreement = Agreement(each, offered, listed, client, server, ue, pcscf)
        self.agreements.append(agreement)
        self._by_ue.setdefault(ue, []).append(agreement)
        self._by_hosts.setdefault((ue, pcscf), []).append(agreement)
        for spi, _, dst in agreement.flows:
            self._by_spi.setdefault((dst.host, spi), []).append(agreement)

    def _find_bare(self) -> None:
        esp = {frozenset((record.src, record.dst)) for record in self.trace.esp_records}
        doubtful = [each for each in self.agreements if frozenset((each.ue, each.pcscf)) not in esp]
        if not doubtful:
            return
        seen: set[tuple[Endpoint, Endpoint]] = set()
        for record in self.trace.sip_records:
            if record.hop is Hop.GM:
                seen.add((record.src, record.dst))
        for each in doubtful:
            at_work = [(src, dst) in seen for _, src, dst in each.flows]
            each.bare = (at_work[UC_PS] or at_work[US_PC]) and (at_work[PS_UC] or at_work[PC_US])
            if each.bare:
                for _, src, dst in each.flows:
                    self._bare_flows.setdefault((src, dst), []).append(each)
                    self._bare_ports.add(src)

    def _follow(self) -> None:
        """The life of each set: what established it, prolonged it, ended it."""
        news: list[tuple[SipRecord, SipRecord | None]] = [(final, request) for request, final in self._outcomes]
        for record in self.trace.sip(method="NOTIFY", request=True, hop=Hop.GM, receiver=Role.UE):
            state = record.message.get("Subscription-State") or ""
            if b'"terminated"' in record.message.body or "terminated" in state:
                news.append((record, None))
        news.sort(key=lambda each: order(each[0]))
        for record, request in news:
            if request is None:
                self._end(self._by_ue.get(record.dst.host, ()), record)
            else:
                self._accept(request, record)

    def _accept(self, request: SipRecord, response: SipRecord) -> None:
        reacted = self._by_answer.get(request)
        agreement = reacted.agreement if reacted is not None else None
        if agreement is None:
            agreement = self.agreement_of(request)
        if agreement is None:
            return
        self.accepted.setdefault(agreement.key, []).append(Accepted(request, response, agreement))
        mine = [each for each in self._by_ue.get(agreement.ue, ()) if each.key == agreement.key or each is agreement]
        if leaves(request.message):
            self._end(mine, response)
            return
        until = response.time + (granted(request.message, response.message) or 0)
        if agreement.accepted is None:
            agreement.accepted = response
            agreement.ends = until
            if agreement.challenge.request.spi is None and not agreement.bare:
                impi = agreement.challenge.registration.impi
                same = (each for each in self._by_ue[agreement.ue] if each.challenge.registration.impi == impi)
                self._end((each for each in same if each is not agreement), response)
        else:
            agreement.ends = max(agreement.ends, until)

    @staticmethod
    def _end(agreements: Iterable[Agreement], record: SipRecord) -> None:
        for each in agreements:
            if each.accepted is not None:
                each.ends = min(each.ends, record.time)


def granted(request: Message, response: Message) -> int | None:
    """The lifetime that a 2xx grants to the contact of its REGISTER, seconds; None where it does not say."""
    asked = contacts(request)
    given = contacts(response)
    if not asked or not given or asked[0].is_star or given[0].is_star:
        return None
    wanted = asked[0].uri
    mine = [each for each in given if (each.uri.user, each.uri.hostport) == (wanted.user, wanted.hostport)]
    if not mine and len(given) == 1:
        mine = given
    if not mine:
        return None
    expires = quiet(lambda: mine[0].expires)
    return expires if expires is not None else quiet(lambda: response.expires)


def gm_of(trace: Trace) -> Gm:
    """What the rules know of a trace; read once."""
    return trace.derived(Gm)


def _latest(agreements: Sequence[Agreement], when: tuple[float, int]) -> Iterator[Agreement]:
    """Those made before a moment, the newest first; no more than NEWEST, since SAs of old do not matter."""
    end = bisect_left(agreements, when, key=lambda each: order(each.challenge.response))
    return reversed(agreements[max(0, end - NEWEST) : end])
