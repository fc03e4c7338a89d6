"""The P-CSCF's side towards the UEs: what may come in under which protection, and the life of the SAs on the wire.

33.203 7.1 and 7.4 in two tables:

    protection       REGISTER       REGISTER with    REGISTER that       other      answer
    of the message   w/o answer     an answer        reports a failure   request
    none             no             no               no                  –          –
    temporary set    no             yes              no                  –          –
    established      yes            no               yes                 in         in
    kept, old        no             no               no                  in         in
    closing          no             no               no                  in         in

"yes" and "no" are what the S-CSCF is told by integrity-protected (33.203 6.1.5); "–" is discarded without a word.
An answer is one to the challenge that is waiting; a refresh that repeats the last credentials answers nothing.

    answer to                 REGISTER was clear at first      REGISTER was protected at first
    401                       clear                            the set it came in
    200                       the set of the REGISTER          the set of the REGISTER
    403 for a wrong answer    the new set                      the set the first came in
    any other failure         clear                            the set the first came in
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable
from enum import StrEnum
from typing import ClassVar

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.pcscf_config import PcscfConfig
from imslab.roles.pcscf_contact import ContactKey, ContactState, contact_key
from imslab.roles.proxy import Proxy
from imslab.roles.sa_table import Deed, Happening, SaRecord, SaTable, Stage
from imslab.sip.message import Message, Request
from imslab.sip.transaction import GM_TIMERS, RFC_TIMERS, Timers, Transaction
from imslab.sip.uri import Uri

#: 24.229 7.7 Table 7.7.1: access types (or how they begin) whose round trips are long.
SLOW_ACCESS = ("3gpp-geran", "3gpp-utran", "3gpp-e-utran", "3gpp2", "ieee-802.11", "dvb-rcs2")

#: Headers of the network that a UE has no business to see, or to send (24.229 4.4, RFC 7315).
OF_THE_NETWORK = ("P-Charging-Vector", "P-Charging-Function-Addresses", "P-Visited-Network-ID", "P-User-Database")
#: What belongs to the security agreement between UE and P-CSCF alone (RFC 3329).
OF_THE_AGREEMENT = ("Security-Client", "Security-Server", "Security-Verify")


class What(StrEnum):
    """What a message from a UE is to the security agreement."""

    FIRST = "REGISTER without an answer"
    ANSWER = "REGISTER with an answer to the waiting challenge"
    REPORT = "REGISTER that reports a failure of the waiting challenge"
    REQUEST = "another request"
    RESPONSE = "an answer"


#: None: no protection.
Protection = Stage | None

_T, _E, _K, _O, _C = Stage.TEMPORARY, Stage.ESTABLISHED, Stage.KEPT, Stage.OLD, Stage.CLOSING
_W = What

#: What is admitted, and for a REGISTER the value of integrity-protected. What is not listed is discarded.
ADMITTED: dict[tuple[Protection, What], str] = {
    (None, _W.FIRST): "no",
    (None, _W.ANSWER): "no",
    (None, _W.REPORT): "no",
    (_T, _W.FIRST): "no",
    (_T, _W.ANSWER): "yes",  # 6.1.5 case 1
    (_T, _W.REPORT): "no",
    (_E, _W.FIRST): "yes",  # 6.1.5 case 2
    (_E, _W.ANSWER): "no",
    (_E, _W.REPORT): "yes",
    **{(stage, what): "no" for stage in (_K, _O, _C) for what in (_W.FIRST, _W.ANSWER, _W.REPORT)},
    **{(stage, what): "" for stage in (_E, _K, _O, _C) for what in (_W.REQUEST, _W.RESPONSE)},
}


def push(message: Message, name: str, value: str) -> None:
    """Put a value on top of a list of routes, without putting the row before Via."""
    if message.has(name):
        message.prepend(name, value)
    else:
        message.add(name, value)


class GmSide(Proxy):
    """The Gm half of the P-CSCF: protection, flows and timers of the UEs, and the SAs' life."""

    role: ClassVar[str] = "P-CSCF"

    def __init__(self, name: str, config: PcscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config.mw, entropy, faults)
        self.config = config
        self.table = SaTable(config.client_ports, config.server_ports)
        self.contacts: dict[ContactKey, ContactState] = {}
        self.tokens: dict[str, ContactState] = {}
        self._contacts_of: dict[str, list[ContactState]] = {}  # by IMPI: a user among thousands is found at once
        self.last_number = 0

    def on_started(self) -> None:
        for local in (self.config.gm, self.config.mw):
            self.effect(fx.Listen(Transport.UDP, local))
            self.effect(fx.Listen(Transport.TCP, local))

    # ---- what comes in, and how

    def is_gm(self, flow: Flow) -> bool:
        """True for a flow towards a UE: of our Gm port, or of a protected one."""
        local = flow.local
        return local == self.config.gm or (local.host == self.config.gm.host and self.table.is_protected(local))

    def hop_of(self, flow: Flow) -> str:
        return "Gm" if self.is_gm(flow) else "Mw"

    def inside(self, arrival: ev.Arrival) -> SaRecord | None:
        """The set that a message came through; None in clear."""
        return self.table.get(arrival.sas)

    def admit(self, message: Message, arrival: ev.Arrival) -> bool:
        if not self.is_gm(arrival.flow):
            return True
        record = self.inside(arrival)
        if not self._on_its_ports(arrival, record):
            self._discard(message, arrival, "it came in clear, or not by the ports of its SAs")
            return False
        stage = record.stage if record else None
        repeated = None
        if isinstance(message, Request) and (record is not None or message.method == "REGISTER"):
            repeated = self.transactions.find_server(message)
        if repeated is None:
            what = self._what_if_readable(message, arrival)
            if (stage, what) not in ADMITTED and not self._admits_wrongly(stage, what):
                self._discard(message, arrival, f"{what} under {f'a {stage} set' if stage else 'no protection'}")
                return False
            if record is not None:
                self._used(record)
        elif "pcscf-fickle-401" in self.faults:
            self._change_answer(repeated)
        if record is not None and repeated is None and isinstance(message, Request) and message.method == "REGISTER":
            with contextlib.suppress(PeerError):
                record.timers = self._timers_of(message)
        return True

    def _admits_wrongly(self, stage: Protection, what: What) -> bool:
        """What a faulty P-CSCF lets in."""
        if what is not What.REQUEST:
            return False
        return ("pcscf-admits-all" if stage is None else "pcscf-serves-temporary") in self.faults

    def _change_answer(self, txn: Transaction) -> None:
        """A faulty P-CSCF does not know its own 401 any more."""
        txn.last = txn.last.replace(b"spi-s=", b"spi-s=1")

    def _on_its_ports(self, arrival: ev.Arrival, record: SaRecord | None) -> bool:
        """33.203 7.1: in clear on the clear port only; protected by the SA of these ports, UDP from port_uc only."""
        if arrival.flow.local == self.config.gm:
            return arrival.sas is None
        if record is None or not record.covers(arrival.flow):
            return False
        return arrival.flow.transport.is_stream or arrival.flow.local == record.ps

    def _discard(self, message: Message, arrival: ev.Arrival, why: str) -> None:
        name = message.method if isinstance(message, Request) else str(getattr(message, "status", ""))
        self.emit("discarded", f"{name} from {arrival.flow.remote}: {why}")

    def _what_if_readable(self, message: Message, arrival: ev.Arrival) -> What:
        if not isinstance(message, Request):
            return What.RESPONSE
        if message.method != "REGISTER":
            return What.REQUEST
        try:
            return self.what(message, arrival)
        except PeerError:
            return What.FIRST  # whoever looks into it next answers 400

    def what(self, message: Request, arrival: ev.Arrival) -> What:
        """What a REGISTER from a UE is. Raises PeerError."""
        record = self.inside(arrival)
        key = record.contact if record else contact_key(message, arrival.flow.remote.host)
        waiting = self.table.at(key, Stage.TEMPORARY)
        if waiting is not None:
            for each in message.authorization:
                if each.nonce == waiting.nonce:
                    # 24.229 5.1.1.5.3: a wrong MAC is reported by an empty response, a wrong SQN by auts.
                    return What.ANSWER if each.response and not each.auts else What.REPORT
        return What.FIRST

    def _used(self, record: SaRecord) -> None:
        """33.203 7.4.2a: a message on the new set moves what goes to the UE there."""
        if record.stage is not Stage.ESTABLISHED or "pcscf-never-switches" in self.faults:
            return
        for other in self.table.of(record.contact):
            if other.stage is Stage.KEPT:
                self.switch(other, f"{record.ue_host} uses set {record.number}")

    def _timers_of(self, register: Request) -> Timers:
        if not self.config.access_timers:
            return RFC_TIMERS
        access = [each.access_type.lower() for each in register.p_access_network_info]
        # 24.229 7.7: the values belong to the SA whose REGISTER said so.
        return GM_TIMERS if any(each.startswith(SLOW_ACCESS) for each in access) else RFC_TIMERS

    def timers_for(self, flow: Flow) -> Timers:
        record = self.table.covering(flow)
        return record.timers if record else RFC_TIMERS

    # ---- what goes out, and how

    def reply_flow(self, request: Request, arrival: ev.Arrival) -> Flow:
        record = self.inside(arrival)
        if "pcscf-ignores-rport" in self.faults and arrival.flow[:2] == (Transport.UDP, self.config.gm):
            return arrival.flow._replace(remote=Endpoint(arrival.flow.remote.host, request.via[0].port or 5060))
        if record is not None and "pcscf-answers-tcp-anew" in self.faults:
            return record.flow(arrival.flow.transport)
        if record is None or arrival.flow.transport.is_stream or not self.is_gm(arrival.flow):
            return super().reply_flow(request, arrival)
        if "pcscf-answers-to-uc" in self.faults:
            return arrival.flow
        return record.flow(Transport.UDP)  # 33.203 7.1: over UDP answers too go from port_pc to port_us

    def detour(self, flow: Flow) -> Flow | None:
        if not self.is_gm(flow) or flow.local == self.config.gm:
            return None
        record = self.table.covering(flow)
        # 33.203 7.1: a new connection towards the UE begins at port_pc and ends at port_us.
        return record.flow(Transport.TCP) if record else None

    def transmit(self, flow: Flow, octets: bytes) -> None:
        if self.is_gm(flow) and flow.local != self.config.gm and self.table.covering(flow) is None:
            self.emit("withheld", f"{flow}: no SA protects this any more")  # nothing in clear on a protected port
            return
        if flow.transport.is_stream and self.is_gm(flow) and not self._ours_to_open(flow) and not self.has_stream(flow):
            self.emit("withheld", f"{flow} is closed, and only the UE could open it again")
            return
        super().transmit(flow, octets)

    def _ours_to_open(self, flow: Flow) -> bool:
        """True for a connection that begins at port_pc."""
        record = self.table.covering(flow)
        return record is not None and flow.local == record.pc

    def outbound(self, contact: ContactState) -> SaRecord | None:
        """The set for what goes to this UE now (33.203 7.4.2a)."""
        for stage in (Stage.KEPT, Stage.ESTABLISHED, Stage.CLOSING):
            record = self.table.at(contact.key, stage)
            if record is not None:
                return record
        return None

    def flow_to_ue(self, record: SaRecord, request: Request, uri: Uri | None) -> Flow:
        """How this request travels to the UE: UDP if it is small and the Contact does not say TCP (RFC 3261 18.1.1)."""
        if "pcscf-udp-always" in self.faults:
            return record.flow(Transport.UDP)
        wants = (uri.params.get("transport") or "").lower() if uri else ""
        udp = wants != "tcp" and self.suits_datagram(request, record.ps)
        return record.flow(Transport.UDP if udp else Transport.TCP)

    # ---- streams

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        if not self.is_gm(flow) or flow.local == self.config.gm:
            return
        record = self.table.covering(flow)
        if record is None:
            self.close_stream(flow)
        else:
            record.streams.add(flow)

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        record = self.table.covering(flow)
        if record is not None:
            record.streams.discard(flow)

    # ---- contacts

    def contact_state(self, key: ContactKey) -> ContactState:
        """What is remembered of a contact, from now on if not yet."""
        contact = self.contacts.get(key)
        if contact is None:
            contact = self.contacts[key] = ContactState(key, self.token(6))
            self.tokens[contact.token] = contact
            self._contacts_of.setdefault(key.impi, []).append(contact)
        return contact

    def contacts_of(self, impi: str) -> list[ContactState]:
        """All contacts of a private identity."""
        return list(self._contacts_of.get(impi, ()))

    def forget_if_idle(self, contact: ContactState) -> None:
        """A contact without registration, SAs and REGISTERs under way is nothing any more."""
        if contact.bindings or contact.under_way or self.table.of(contact.key):
            return
        del self.contacts[contact.key]
        del self.tokens[contact.token]
        others = self._contacts_of[contact.key.impi]
        others.remove(contact)
        if not others:
            del self._contacts_of[contact.key.impi]
        self.clear_alarm(("expiry", contact.token))

    def watch_expiry(self, contact: ContactState) -> None:
        """Have the registration end when it ends."""
        if contact.bindings:
            first = min(binding.expires for binding in contact.bindings)
            self.set_alarm(("expiry", contact.token), max(0.0, first - self.now))
        else:
            self.clear_alarm(("expiry", contact.token))

    def _expired(self, contact: ContactState) -> None:
        gone = [binding for binding in contact.bindings if binding.expires <= self.now]
        contact.bindings = [binding for binding in contact.bindings if binding.expires > self.now]
        for binding in gone:
            self.emit("deregistered", f"{binding.aor}: the registration expired", impi=contact.key.impi)
        self.watch_expiry(contact)
        self.forget_if_idle(contact)

    # ---- the life of sets

    def happen(self, record: SaRecord, happening: Happening, until: float = 0.0) -> None:
        """Let something happen to a set. until: the end of life that PROLONG gives it, on the clock of `now`."""
        for deed in record.step(happening):
            for kind in ("watch", "linger", "idle", "close"):  # a new stage has its own timers
                self.clear_alarm((kind, record.number))
            match deed:
                case Deed.PROLONG:
                    record.expires = until
                    self.prolong(record, until)
                case Deed.WATCH:
                    margin = record.expires - self.config.switch_margin - self.now
                    self.set_alarm(("watch", record.number), max(0.0, margin))
                case Deed.LINGER:
                    self.set_alarm(("linger", record.number), record.timers.timeout)
                    self.set_alarm(("idle", record.number), record.timers.t4)
                case Deed.CLOSE:
                    self.set_alarm(("close", record.number), record.timers.timeout)
                case Deed.REMOVE:
                    self.remove_set(record)
                case _:  # Deed.FORGET
                    self.forget_set(record)

    def switch(self, old: SaRecord, why: str) -> None:
        """What goes to the UE leaves the kept set."""
        self.emit("sas-switched", f"set {old.number} is old: {why}", set=old.number)
        self.happen(old, Happening.SWITCHED)

    def prolong(self, record: SaRecord, until: float) -> None:
        """Raise a set's lifetime. It is never lowered (33.203 7.4.2a)."""
        record.expires = until if "pcscf-shortens-lifetime" in self.faults else max(record.expires, until)
        self.set_alarm(("lifetime", record.number), record.expires - self.now)
        self.effect(fx.UpdateSas(record.number, record.expires - self.now))

    def remove_set(self, record: SaRecord) -> None:
        """Take a set away, with the connections that cannot go on without it."""
        for flow in list(record.streams):
            self.close_stream(flow)
        self.effect(fx.RemoveSas(record.number))
        self.forget_set(record)

    def forget_set(self, record: SaRecord) -> None:
        """Strike a set out."""
        for effect in self.table.remove(record):
            self.effect(effect)
        for kind in ("lifetime", "watch", "linger", "idle", "close"):
            self.clear_alarm((kind, record.number))
        self.forget_if_idle(self.contact_of(record))

    def contact_of(self, record: SaRecord) -> ContactState:
        """The contact that a set in the table belongs to; it lives as long as the set."""
        assert isinstance(record.contact, ContactKey)
        return self.contacts[record.contact]

    def on_alarm(self, key: Hashable) -> None:
        assert isinstance(key, tuple)
        kind, which = key
        if kind == "expiry":
            self._expired(self.tokens[which])
            return
        record = self.table.get(which)
        assert record is not None, "alarms go with their set"
        match kind:
            case "lifetime":
                self.emit("sas-expired", f"set {record.number} ({record.stage}) has reached its end", set=record.number)
                self.happen(record, Happening.LIFETIME)
            case "watch":
                self.switch(record, "its end is near")
            case "linger":
                self.happen(record, Happening.FINISHED)
            case "idle" if record.busy:
                self.set_alarm(key, record.timers.t4)
            case "idle":
                self.happen(record, Happening.FINISHED)
            case _:  # close
                self.happen(record, Happening.CLOSED)

    def on_event(self, event: ev.Event) -> None:
        record = self.table.get(event.number) if isinstance(event, ev.SaExpired) else None
        if record is not None:
            self.emit("sas-expired", f"set {record.number} was ended by the carrier", set=record.number)
            self.happen(record, Happening.LOST)
