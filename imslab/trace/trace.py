"""The Trace: all records of a run or a capture, and the questions that rules and reports ask about them.

Every answer comes from an index that is built once, in time linear in the number of records, when it is first asked
for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.trace.identity import via_count
from imslab.trace.keys import KeyRing
from imslab.trace.model import (
    DiameterRecord,
    EspRecord,
    Hop,
    MalformedRecord,
    NodeRecord,
    Record,
    Role,
    SaSetView,
    SaView,
    SipRecord,
)
from imslab.trace.topology import Topology

if TYPE_CHECKING:
    from imslab.trace.registration import Registration

D = TypeVar("D")

#: For how long a server repeats its answer over UDP: timer J of RFC 3261, seconds. After that the request is a new one.
TIMER_J = 32.0

_BRANCH = re.compile(r"[^,]*?;\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE)


class Trace:
    """What was seen.

    records: in chronological order. sas: every SA that was agreed on or seen; sets: those that were agreed on, four by
    four; keyed_sas: those whose keys a packet has proved, for an esp_sa file. keys: whatever keys are known.
    problems: what kept the capture from being read to its end. packets: how many frames there were.
    Making one fills in sender, receiver and hop of the records.
    """

    def __init__(
        self,
        records: Iterable[Record],
        sas: Sequence[SaView] = (),
        *,
        sets: Sequence[SaSetView] = (),
        keyed_sas: Sequence[Sa] = (),
        keys: KeyRing | None = None,
        problems: Sequence[PeerError] = (),
        packets: int = 0,
    ) -> None:
        self.records: list[Record] = sorted(records, key=_when)
        self.sas: list[SaView] = list(sas)
        self.keyed_sas: list[Sa] = list(keyed_sas)
        self.sets: list[SaSetView] = list(sets)
        self.keys = keys if keys is not None else KeyRing()
        self.problems: list[PeerError] = list(problems)
        self.packets = packets
        self._derived: dict[object, Any] = {}
        self.topology = Topology(self.records)
        for record in self.records:
            self.topology.assign(record)

    def derived(self, make: Callable[[Trace], D]) -> D:
        """What `make` finds out about this trace; made once, when it is first asked for."""
        found: D
        try:
            found = self._derived[make]
        except KeyError:
            found = self._derived[make] = make(self)
        return found

    # --- records by kind ---

    @cached_property
    def sip_records(self) -> list[SipRecord]:
        """All SIP messages."""
        return [record for record in self.records if isinstance(record, SipRecord)]

    @cached_property
    def diameter_records(self) -> list[DiameterRecord]:
        """All Diameter messages, of any application."""
        return [record for record in self.records if isinstance(record, DiameterRecord)]

    @cached_property
    def esp_records(self) -> list[EspRecord]:
        """All ESP packets."""
        return [record for record in self.records if isinstance(record, EspRecord)]

    @cached_property
    def malformed_records(self) -> list[MalformedRecord]:
        """Everything that could not be read."""
        return [record for record in self.records if isinstance(record, MalformedRecord)]

    @cached_property
    def node_records(self) -> list[NodeRecord]:
        """What simulated nodes did; none in a capture."""
        return [record for record in self.records if isinstance(record, NodeRecord)]

    @cached_property
    def registrations(self) -> list[Registration]:
        """The registrations, in the order in which they began."""
        from imslab.trace.registration import find_registrations  # it needs this module

        return find_registrations(self)

    # --- SIP ---

    def sip(
        self,
        *,
        method: str | None = None,
        status: int | None = None,
        request: bool | None = None,
        hop: Hop | None = None,
        sender: Role | None = None,
        receiver: Role | None = None,
        call_id: str | None = None,
    ) -> list[SipRecord]:
        """The SIP messages for which all that is given holds, in order.

        method: of the request, or for a response that of its CSeq. status: responses with this status. request: True
        for requests only, False for responses only.
        """
        if call_id is not None:
            found = self._by_call_id.get(call_id, [])
        elif status is not None:
            found = self._by_status.get(status, [])
        elif method is not None:
            found = self._by_method.get(method, [])
        else:
            found = self.sip_records
        return [
            record
            for record in found
            if (hop is None or record.hop is hop)
            and (request is None or record.message.is_request is request)
            and (sender is None or record.sender is sender)
            and (receiver is None or record.receiver is receiver)
            and (method is None or method_of(record) == method)
            and (status is None or status_of(record) == status)
        ]

    def responses_to(self, record: SipRecord) -> list[SipRecord]:
        """The responses to a request on its own hop, in order: same top branch, same CSeq method (RFC 3261 17.1.3)."""
        if not record.message.is_request:
            return []
        return [each for each in self._transaction_of.get(record, ()) if not each.message.is_request]

    def final_response(self, record: SipRecord) -> SipRecord | None:
        """The first final response to a request on its own hop."""
        return next((each for each in self.responses_to(record) if (status_of(each) or 0) >= 200), None)

    def request_of(self, record: SipRecord) -> SipRecord | None:
        """The request that a response answers, on the same hop: the first one sent, not its retransmissions."""
        if not record.message.is_request:
            for each in self._transaction_of.get(record, ()):
                if each.message.is_request:
                    return each
        return None

    def transaction(self, record: SipRecord) -> list[SipRecord]:
        """All requests and responses of its transaction on its own hop, in order; none where there is no branch."""
        return list(self._transaction_of.get(record, ()))

    def is_retransmission(self, record: SipRecord) -> bool:
        """True when the same request or the same response went the same way before."""
        return record in self._retransmissions

    def original(self, record: SipRecord) -> SipRecord:
        """The first sending of a retransmission; any other message itself."""
        return self._retransmissions.get(record, record)

    def relayed(self, record: SipRecord) -> SipRecord | None:
        """The same message on the next hop: sent by the receiver of this one, with the same Call-ID, CSeq and kind."""
        return self._onward.get(record)

    def relayed_from(self, record: SipRecord) -> SipRecord | None:
        """The message of the previous hop that this one passes on: the opposite of `relayed`."""
        return self._backward.get(record)

    # --- Diameter ---

    def diameter(
        self, *, command: int | None = None, request: bool | None = None, application: int | None = None
    ) -> list[DiameterRecord]:
        """The Diameter messages for which all that is given holds, in order."""
        return [
            record
            for record in self.diameter_records
            if (command is None or record.message.command == command)
            and (request is None or record.message.request is request)
            and (application is None or record.message.application == application)
        ]

    def answer_to(self, record: DiameterRecord) -> DiameterRecord | None:
        """The answer to a Diameter request: same connection, same hop-by-hop identifier (RFC 6733 3)."""
        return self._diameter_pairs.get(record) if record.message.request else None

    def question_of(self, record: DiameterRecord) -> DiameterRecord | None:
        """The Diameter request that an answer belongs to."""
        return None if record.message.request else self._diameter_pairs.get(record)

    # --- SAs ---

    def sa(self, record: SipRecord | EspRecord) -> SaView | None:
        """The SA that a record came through; None in clear."""
        if isinstance(record, SipRecord):
            return None if record.spi is None else self._sa(record.dst.host, record.spi)
        return self._sa(record.dst, record.spi)

    def _sa(self, host: str, spi: int) -> SaView | None:
        found = self._sas.get((host, spi))
        return found[-1] if found else None

    def set_of(self, record: SipRecord | EspRecord) -> SaSetView | None:
        """The agreed set of the SA that a record came through; None in clear or when nobody agreed on it."""
        sa = self.sa(record)
        return None if sa is None else self._set_by_sa.get(id(sa))

    def set_of_challenge(self, rand: bytes, ue: str) -> SaSetView | None:
        """The set that a challenge to the UE at this address made; the last one, if it was sent with several."""
        return self._set_by_rand.get((rand, ue))

    @cached_property
    def _set_by_sa(self) -> dict[int, SaSetView]:
        return {id(sa): each for each in self.sets for sa in each.sas}

    @cached_property
    def _set_by_rand(self) -> dict[tuple[bytes, str], SaSetView]:
        return {(each.rand, each.ue): each for each in self.sets}

    # --- indices ---

    @cached_property
    def _sas(self) -> dict[tuple[str, int], list[SaView]]:
        index: dict[tuple[str, int], list[SaView]] = {}
        for sa in self.sas:
            index.setdefault((sa.dst.host, sa.spi), []).append(sa)
        return index

    @cached_property
    def _by_call_id(self) -> dict[str, list[SipRecord]]:
        index: dict[str, list[SipRecord]] = {}
        for record in self.sip_records:
            index.setdefault(record.message.get("Call-ID") or "", []).append(record)
        return index

    @cached_property
    def _by_method(self) -> dict[str, list[SipRecord]]:
        index: dict[str, list[SipRecord]] = {}
        for record in self.sip_records:
            index.setdefault(method_of(record), []).append(record)
        return index

    @cached_property
    def _by_status(self) -> dict[int, list[SipRecord]]:
        index: dict[int, list[SipRecord]] = {}
        for record in self.sip_records:
            status = status_of(record)
            if status is not None:
                index.setdefault(status, []).append(record)
        return index

    @cached_property
    def _transactions(self) -> dict[tuple[str, str], list[SipRecord]]:
        index: dict[tuple[str, str], list[SipRecord]] = {}
        for record in self.sip_records:
            key = _transaction(record)
            if key is not None:
                index.setdefault(key, []).append(record)
        return index

    @cached_property
    def _transaction_of(self) -> dict[SipRecord, list[SipRecord]]:
        return {record: records for records in self._transactions.values() for record in records}

    @cached_property
    def _retransmissions(self) -> dict[SipRecord, SipRecord]:
        found: dict[SipRecord, SipRecord] = {}
        for records in self._transactions.values():
            seen: dict[tuple[Endpoint, Endpoint, int | None], SipRecord] = {}
            for record in records:
                key = (record.src, record.dst, status_of(record))
                first = seen.setdefault(key, record)
                if first is record:
                    continue
                if _is_anew(record, first):
                    seen[key] = record
                else:
                    found[record] = first
        return found

    @cached_property
    def _onward(self) -> dict[SipRecord, SipRecord]:
        groups: dict[tuple[str, str, int | None], list[SipRecord]] = {}
        for record in self.sip_records:
            message = record.message
            key = (message.get("Call-ID") or "", message.get("CSeq") or "", status_of(record))
            groups.setdefault(key, []).append(record)
        onward: dict[SipRecord, SipRecord] = {}
        for records in groups.values():
            if len(records) == 1:
                continue
            # A message may pass a box twice, on its way to the other side's registrar and back: a proxy adds one Via
            # and takes one away (RFC 3261 16.6, 16.7), so that tells the passages apart. Not all boxes do.
            vias = {record: via_count(record.message) for record in records}
            sent = {(vias[record], record.sender) for record in records}
            first_after: dict[tuple[int | None, str, Role] | tuple[int | None, Role], SipRecord] = {}
            for record in reversed(records):
                count: int | None = vias[record] + (1 if record.message.is_request else -1)
                if (count, record.receiver) not in sent:
                    count = None
                found = first_after.get((count, record.dst.host, record.receiver))
                if found is None and record.receiver is not Role.UNKNOWN:
                    found = first_after.get((count, record.receiver))  # a box with one address per side
                if found is not None:
                    onward[record] = found
                for count in (vias[record], None):
                    first_after[count, record.src.host, record.sender] = record
                    first_after[count, record.sender] = record
        return onward

    @cached_property
    def _backward(self) -> dict[SipRecord, SipRecord]:
        backward: dict[SipRecord, SipRecord] = {}
        for record in self.sip_records:
            found = self._onward.get(record)
            if found is not None:
                backward.setdefault(found, record)
        return backward

    @cached_property
    def _diameter_pairs(self) -> dict[DiameterRecord, DiameterRecord]:
        pairs: dict[DiameterRecord, DiameterRecord] = {}
        waiting: dict[tuple[Endpoint, Endpoint, int, int], DiameterRecord] = {}
        for record in self.diameter_records:
            message = record.message
            if message.request:
                waiting.setdefault((record.src, record.dst, message.command, message.hop_by_hop), record)
            else:
                request = waiting.pop((record.dst, record.src, message.command, message.hop_by_hop), None)
                if request is not None:
                    pairs[request] = record
                    pairs[record] = request
        return pairs


def method_of(record: SipRecord) -> str:
    """The method of a request, or of the request that a response answers; "" where the CSeq cannot be read."""
    return record.method


def status_of(record: SipRecord) -> int | None:
    """The status of a response, None for a request."""
    return record.status


def _is_anew(record: SipRecord, first: SipRecord) -> bool:
    """True for another answer to the same request, by a server that has forgotten the first one."""
    late = record.status is not None and record.time - first.time > TIMER_J
    return late and record.message.octets != first.message.octets


def _transaction(record: SipRecord) -> tuple[str, str] | None:
    """Branch of the top Via and method of the CSeq; None where there is no branch."""
    via = record.message.get("Via")
    found = None if via is None else _BRANCH.match(via)
    return None if found is None else (found[1], method_of(record))


def _when(record: Record) -> tuple[float, float]:
    if record.frames:
        return record.time, record.frames[-1]
    return record.time, record.after + 0.5 if isinstance(record, NodeRecord) else 0
