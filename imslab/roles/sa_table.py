"""The P-CSCF's SA_table (33.203 7.1 rule 1, 7.4): which security associations a UE has, and in what stage of life.

Every authentication makes a set of four SAs. A set is temporary from the 401 until the answer is judged. The 200 makes
it the established one. If the authentication began inside an older set, the UE may not have heard of the 200 yet: that
older set is kept, and carries what goes to the UE until the UE uses the new one. Then it is old, and stays only for
transactions that have begun on it. When nothing is registered any more, or when an answer that refuses the UE must
travel inside the set, it closes: what has been said must still reach the UE, so the SAs outlive the words a little.

    stage          happening                                               next
    TEMPORARY      200 to the answer                                       ESTABLISHED   lifetime registration + 30 s
    TEMPORARY      refused, the refusal leaves inside this set             CLOSING
    TEMPORARY      refused elsewhere; failure report; newer challenge      GONE
    ESTABLISHED    200 for a newer set whose first REGISTER came in this   KEPT          watch its end
    ESTABLISHED    200 for any other newer set                             GONE
    KEPT           the UE has used the newer set, or our end is near       OLD           at most 64·T1
    KEPT, OLD      200 for a yet newer set                                 GONE          (unless it began here)
    OLD            nothing pending any more, or 64·T1 have passed          GONE
    ESTABLISHED …  nothing is registered any more                          CLOSING       at most 64·T1
    CLOSING        that time is over; a newer challenge, a newer set       GONE
    any            lifetime over; the carrier has lost it                  GONE

`LIFE` is this table for the machine. `SaTable` finds records by number and by ports, hands out ports and SPIs, and
holds rule 3. Nothing here sends, installs or waits: what a step wants done is returned as Deeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from imslab.core.effects import Listen, Unlisten
from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.sa import SaSet
from imslab.ipsec.sa import Offer, allocate_spis, check_offer
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.transaction import RFC_TIMERS, State, Timers, Transaction

#: 33.203 7.1 rule 3: at most six SAs per direction for an IMPI and contact; each set has two.
MOST_SETS = 3


class Stage(StrEnum):
    """How far a set is in its life."""

    TEMPORARY = "temporary"
    ESTABLISHED = "established"
    KEPT = "kept"
    OLD = "old"
    CLOSING = "closing"
    GONE = "gone"


class Happening(StrEnum):
    """What can happen to a set."""

    SUCCESS = "200 to the answer"
    REFUSED_INSIDE = "refused, and the refusal leaves inside this set"
    REFUSED = "refused, and the refusal leaves elsewhere"
    CHALLENGED = "a newer challenge"
    OUTDATED = "200 for a newer set"
    RENEWED = "200 for a newer set whose first REGISTER came in this one"
    SWITCHED = "the UE has used the newer set, or the end is near"
    FINISHED = "nothing pending any more, or 64·T1 have passed"
    DEREGISTERED = "nothing is registered any more"
    CLOSED = "the last words have had their time"
    LOST = "the carrier does not have it, or not any more"
    LIFETIME = "lifetime over"


class Deed(StrEnum):
    """What a step in a set's life wants done."""

    PROLONG = "live as long as the registration, plus a grace"
    WATCH = "move traffic away before the end"
    LINGER = "go when nothing is pending, at latest after 64·T1"
    CLOSE = "go after 64·T1"
    REMOVE = "take the SAs away"
    FORGET = "strike it out; there are no SAs to take away"


_T, _E, _K, _O, _C, _G = Stage
_H, _D = Happening, Deed

#: 33.203 7.3, 7.4.2a; 24.229 5.2.2.2.
LIFE: dict[tuple[Stage, Happening], tuple[tuple[Deed, ...], Stage]] = {
    (_T, _H.SUCCESS): ((_D.PROLONG,), _E),  # 7.4.2a: the 200 has come
    (_T, _H.REFUSED_INSIDE): ((_D.CLOSE,), _C),  # 7.3.1.1, 7.4.2a: deleted after processing the 4xx
    (_T, _H.REFUSED): ((_D.REMOVE,), _G),  # 7.3.1.2, 7.3.1.3, 7.4.2a
    (_T, _H.CHALLENGED): ((_D.REMOVE,), _G),  # 7.3.1.4: everything of the previous procedure
    (_E, _H.RENEWED): ((_D.WATCH,), _K),  # 7.4.2a: SM1 was protected by it
    (_E, _H.OUTDATED): ((_D.REMOVE,), _G),  # 7.4.2a: SM1 was clear, or protected by another
    (_E, _H.DEREGISTERED): ((_D.CLOSE,), _C),  # 24.229 5.2.5
    (_K, _H.SWITCHED): ((_D.LINGER,), _O),  # 7.4.2a
    (_K, _H.OUTDATED): ((_D.REMOVE,), _G),
    (_K, _H.DEREGISTERED): ((_D.CLOSE,), _C),
    (_O, _H.RENEWED): ((_D.WATCH,), _K),
    (_O, _H.OUTDATED): ((_D.REMOVE,), _G),
    (_O, _H.FINISHED): ((_D.REMOVE,), _G),  # 7.4.2a; 24.229 5.2.2.2: 64·T1
    (_O, _H.DEREGISTERED): ((_D.CLOSE,), _C),
    (_C, _H.CHALLENGED): ((_D.REMOVE,), _G),
    (_C, _H.OUTDATED): ((_D.REMOVE,), _G),
    (_C, _H.CLOSED): ((_D.REMOVE,), _G),
    **{(stage, _H.LIFETIME): ((_D.REMOVE,), _G) for stage in (_T, _E, _K, _O, _C)},
    **{(stage, _H.LOST): ((_D.FORGET,), _G) for stage in (_T, _E, _K, _O, _C)},
}


@dataclass(slots=True, eq=False)
class SaRecord:
    """One set, as rule 1 wants it remembered: addresses, ports, SPIs, the user, the lifetime.

    contact: what tells contacts of an IMPI apart (see `imslab.roles.pcscf_contact`). expires: on the clock of `now`.
    offered, told: the Security-Client and Security-Server of its making, to be compared with what the UE repeats.
    nonce: of the challenge that made it. way, under: how the REGISTER that began it came: where answers to it go, and
    the set it came through (None: in clear).
    timers: those of Gm, by the P-Access-Network-Info of its REGISTER (24.229 7.7).
    """

    sas: SaSet
    contact: object
    impi: str
    ue_host: str
    ue: Offer
    pcscf_host: str
    own: Offer
    expires: float
    offered: list[SecurityMechanism]
    told: list[SecurityMechanism]
    nonce: str
    way: Flow
    under: SaRecord | None = None
    stage: Stage = Stage.TEMPORARY
    timers: Timers = RFC_TIMERS
    streams: set[Flow] = field(default_factory=set)
    transactions: list[Transaction] = field(default_factory=list)

    @property
    def number(self) -> int:
        """As in InstallSas and RemoveSas."""
        return self.sas.number

    @property
    def uc(self) -> Endpoint:
        """The UE's protected client port."""
        return Endpoint(self.ue_host, self.ue.port_c)

    @property
    def us(self) -> Endpoint:
        """The UE's protected server port."""
        return Endpoint(self.ue_host, self.ue.port_s)

    @property
    def pc(self) -> Endpoint:
        """Our protected client port."""
        return Endpoint(self.pcscf_host, self.own.port_c)

    @property
    def ps(self) -> Endpoint:
        """Our protected server port."""
        return Endpoint(self.pcscf_host, self.own.port_s)

    def flow(self, transport: Transport) -> Flow:
        """How requests, and answers over UDP, travel to the UE: from port_pc to port_us (33.203 7.1)."""
        return Flow(transport, self.pc, self.us)

    def covers(self, flow: Flow) -> bool:
        """True when the set's selectors match this flow."""
        return (flow.local, flow.remote) in ((self.ps, self.uc), (self.pc, self.us))

    def note(self, txn: Transaction) -> None:
        """A transaction has begun on this set."""
        if len(self.transactions) >= 16:
            self.transactions = [each for each in self.transactions if is_pending(each)]
        self.transactions.append(txn)

    @property
    def busy(self) -> bool:
        """True while a transaction that began here waits for an answer or an ACK."""
        self.transactions = [each for each in self.transactions if is_pending(each)]
        return bool(self.transactions)

    def step(self, happening: Happening) -> tuple[Deed, ...]:
        """Make one step in the set's life; what the table does not list changes nothing."""
        deeds, self.stage = LIFE.get((self.stage, happening), ((), self.stage))
        return deeds


def is_pending(txn: Transaction) -> bool:
    """True while somebody must still speak: what only lingers for repetitions does not count."""
    if txn.state in (State.CALLING, State.TRYING, State.PROCEEDING):
        return True
    return txn.state is State.COMPLETED and txn.is_invite


class SaTable:
    """All sets of a P-CSCF, and its ports and SPIs."""

    __slots__ = (
        "_by_contact",
        "_by_host",
        "_by_number",
        "_by_ports",
        "_client_ports",
        "_listening",
        "_next",
        "_server_ports",
        "_spis",
    )

    def __init__(self, client_ports: Sequence[int], server_ports: Sequence[int]) -> None:
        """The pools of port_pc and port_ps. Raises LocalError when a pool is empty or holds 5060 or 5061."""
        for name, pool in (("client", client_ports), ("server", server_ports)):
            if not pool or 5060 in pool or 5061 in pool or min(pool) < 1 or max(pool) > 65535:
                raise LocalError(f"{name} ports: one at least, and neither 5060 nor 5061 (33.203 7.1)")
        if set(client_ports) & set(server_ports):
            raise LocalError("client and server ports must differ")
        self._client_ports = client_ports
        self._server_ports = server_ports
        self._next = [0, 0]  # where the search in each pool goes on
        self._by_number: dict[int, SaRecord] = {}
        self._by_ports: dict[tuple[Endpoint, Endpoint], SaRecord] = {}
        self._by_contact: dict[object, list[SaRecord]] = {}
        self._by_host: dict[str, list[SaRecord]] = {}
        self._spis: set[int] = set()
        self._listening: dict[Endpoint, int] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[SaRecord]:
        return iter(list(self._by_number.values()))

    # ---- finding

    def get(self, number: int | None) -> SaRecord | None:
        """The record of this number."""
        return None if number is None else self._by_number.get(number)

    def covering(self, flow: Flow) -> SaRecord | None:
        """The record whose selectors match a flow of ours."""
        return self._by_ports.get((flow.local, flow.remote))

    def of(self, contact: object) -> list[SaRecord]:
        """All records of a contact, oldest first."""
        return list(self._by_contact.get(contact, ()))

    def at(self, contact: object, stage: Stage) -> SaRecord | None:
        """The newest record of a contact in this stage."""
        return next((record for record in reversed(self._by_contact.get(contact, [])) if record.stage is stage), None)

    def is_protected(self, local: Endpoint) -> bool:
        """True for an endpoint on which nothing may pass in clear: any port of our pools (33.203 7.1)."""
        return local.port in self._client_ports or local.port in self._server_ports

    # ---- rule 3

    def check(self, contact: object, host: str, offer: Offer, inside: SaRecord | None) -> None:
        """Raises PeerError when a REGISTER with this offer must be refused (33.203 7.1 rule 3; SPIs and ports).

        inside: the set that the REGISTER came through. Sets that the coming challenge will remove do not count.
        """
        own = [record for record in self.of(contact) if record.stage is not Stage.CLOSING]
        if len(own) >= MOST_SETS:
            # Rule 3: at most six SAs per direction.
            raise PeerError(f"{len(own)} sets of SAs are alive already", clause="33.203 7.1 rule 3")
        taken: set[int] = set()
        for record in self._by_host.get(host, ()):
            if record.contact == contact and record is not inside and _ends_soon(record):
                continue
            if record.ue.port_c == offer.port_c:
                raise PeerError(f"port-c={offer.port_c} is in use", clause="33.203 7.1 rule 3")
            taken |= {record.ue.spi_c, record.ue.spi_s}
        check_offer(offer, taken)

    # ---- making and removing

    def allocate(self, contact: object, host: str, ue: Offer, entropy: Entropy) -> Offer | None:
        """Our SPIs and ports for a new set; alg and ealg are the UE's. None when the ports are used up.

        33.203 7.1: SPIs differ from all of ours and from the UE's. 7.4.0: port_ps stays while the contact has SAs,
        port_pc is new.
        """
        mine = self.of(contact)
        # Selectors are address and both ports: only contacts with the same port_us keep each other from a port.
        near = [record for record in self._by_host.get(host, ()) if record.ue.port_s == ue.port_s]
        used = {record.own.port_c for record in (*near, *mine)}
        port_c = self._find(0, self._client_ports, used)
        port_s = mine[-1].own.port_s if mine else self._find(1, self._server_ports, ())
        if port_c is None or port_s is None:
            return None
        theirs = {ue.spi_c, ue.spi_s} - self._spis
        self._spis |= theirs  # for a moment, so that the large set need not be copied
        spi_c, spi_s = allocate_spis(entropy, self._spis)
        self._spis -= theirs
        return Offer(spi_c, spi_s, port_c, port_s, ue.alg, ue.ealg)

    def _find(self, pool: int, ports: Sequence[int], used: Iterable[int]) -> int | None:
        taken = set(used)
        for step in range(len(ports)):
            place = (self._next[pool] + step) % len(ports)
            if ports[place] not in taken:
                self._next[pool] = (place + 1) % len(ports)
                return ports[place]
        return None

    def add(self, record: SaRecord) -> list[Listen]:
        """Take a record in. What must be listened on from now."""
        self._by_number[record.number] = record
        self._by_ports[record.ps, record.uc] = record
        self._by_ports[record.pc, record.us] = record
        self._by_contact.setdefault(record.contact, []).append(record)
        self._by_host.setdefault(record.ue_host, []).append(record)
        self._spis |= {record.own.spi_c, record.own.spi_s}
        opened = []
        for local in (record.ps, record.pc):
            self._listening[local] = self._listening.get(local, 0) + 1
            if self._listening[local] == 1:
                opened += [Listen(Transport.UDP, local), Listen(Transport.TCP, local)]
        return opened

    def remove(self, record: SaRecord) -> list[Unlisten]:
        """Forget a record. What need not be listened on any more."""
        if self._by_number.pop(record.number, None) is None:
            return []
        for ports in ((record.ps, record.uc), (record.pc, record.us)):
            if self._by_ports.get(ports) is record:
                del self._by_ports[ports]
        _drop(self._by_contact, record.contact, record)
        _drop(self._by_host, record.ue_host, record)
        self._spis -= {record.own.spi_c, record.own.spi_s}
        closed = []
        for local in (record.ps, record.pc):
            self._listening[local] -= 1
            if not self._listening[local]:
                del self._listening[local]
                closed += [Unlisten(Transport.UDP, local), Unlisten(Transport.TCP, local)]
        return closed


K = TypeVar("K")


def _drop(index: dict[K, list[SaRecord]], key: K, record: SaRecord) -> None:
    index[key].remove(record)
    if not index[key]:
        del index[key]


def _ends_soon(record: SaRecord) -> bool:
    """The challenge that answers a new REGISTER removes these (33.203 7.3.1.4)."""
    return record.stage in (Stage.TEMPORARY, Stage.CLOSING)
