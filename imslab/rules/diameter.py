"""Rules about Diameter itself on Cx: the ids that every message bears, answers to questions, the life of a connection.

A connection is known by its two endpoints. What was said on it before the capture began nobody knows: a CER that was
not seen may have come, and nothing is concluded from its absence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from imslab.core.flow import Endpoint
from imslab.diameter.avp import FLAG_MANDATORY, Avp
from imslab.diameter.codes import AuthSessionState, ResultCode
from imslab.diameter.dictionary import APPLICATION_BASE, APPLICATION_CX, APPLICATION_RELAY, VENDOR_3GPP, by_code
from imslab.diameter.message import DiameterMessage
from imslab.diameter.types import GROUPED
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter, on_trace
from imslab.rules.cx import fault_of
from imslab.rules.reading import order, quiet, shown
from imslab.trace.model import DiameterRecord, Role
from imslab.trace.trace import Trace

#: All messages of Cx.
MESSAGES_OF_CX = ("UAR", "UAA", "SAR", "SAA", "LIR", "LIA", "MAR", "MAA", "RTR", "RTA", "PPR", "PPA")
#: How long a question waits before its silence is told, when the peer has spoken since, seconds.
PATIENCE = 10.0
#: How long a question may be asked again; afterwards its identifier may be another's, seconds (RFC 6733 3).
LONG = 240.0
#: Messages that crossed a farewell on their way come within this time, seconds.
CROSSING = 0.5
#: How long before a CER a question surely belongs to the same connection, and not to an older one with its ports.
YOUNG = 5.0

_CER, _DWR, _DPR = 257, 280, 282
_CODES_OF_CX = range(300, 306)
#: The AVPs of 29.229 stand in this range; where vendor 0 has none of that code, its vendor was left out.
_AVPS_OF_CX = range(600, 667)

_Connection = frozenset[Endpoint]


def _connection(record: DiameterRecord) -> _Connection:
    return frozenset((record.src, record.dst))


def _who(end: Endpoint, trace: Trace) -> Role:
    """Who is at an end of a connection: by its endpoint, or by what its host is where that is one thing only."""
    known = trace.topology.diameter.get(end)
    if known is not None:
        return known
    roles = trace.derived(_roles).get(end.host, set())
    return next(iter(roles)) if len(roles) == 1 else Role.UNKNOWN


def _roles(trace: Trace) -> dict[str, set[Role]]:
    """What each host is on Cx."""
    found: dict[str, set[Role]] = {}
    for end, role in trace.topology.diameter.items():
        found.setdefault(end.host, set()).add(role)
    return found


# --- every message ---------------------------------------------------------------------------------------------------


@on_diameter("HSS-30", "29.229 6.1, 6.4.4", role=Role.UNKNOWN, name=MESSAGES_OF_CX)
def ids_are_those_of_cx(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A Cx message says application 16777216, vendor 10415, NO_STATE_MAINTAINED; an answer has one result."""
    message = record.message
    if message.application != APPLICATION_CX:
        yield Wrong(
            f"{message.name} with application {message.application}: expected {APPLICATION_CX}",
            record,
            role=record.sender,
        )
        return
    if not message.request:
        yield from _one_result(record)
        if not _is_ordinary(message):
            return  # RFC 6733 7.2: an error answer has its own grammar
    session = message.get("Auth-Session-State")
    if session != AuthSessionState.NO_STATE_MAINTAINED:
        told = "without Auth-Session-State" if session is None else f"with Auth-Session-State {session}"
        yield Wrong(f"{message.name} {told}: expected 1, NO_STATE_MAINTAINED", record, role=record.sender)
    group = message.find(260)
    if group is None:
        yield Wrong(f"{message.name} without Vendor-Specific-Application-Id", record, role=record.sender)
        return
    vendor, application = _number(group.find(266)), _number(group.find(258))
    if (vendor, application) != (str(VENDOR_3GPP), str(APPLICATION_CX)):
        yield Wrong(
            f"{message.name} with Vendor-Specific-Application-Id {vendor}, {application}: expected {VENDOR_3GPP}, "
            f"{APPLICATION_CX}",
            record,
            role=record.sender,
        )


def _number(avp: Avp | None) -> str:
    return "-" if avp is None else str(int.from_bytes(avp.data, "big"))


def _one_result(record: DiameterRecord) -> Iterator[Wrong]:
    message = record.message
    base, group = message.find(268), message.find(297)
    if base is None and group is None:
        yield Wrong(f"{message.name} without Result-Code or Experimental-Result", record, role=record.sender)
    elif base is not None and group is not None:
        yield Wrong(f"{message.name} with both Result-Code and Experimental-Result", record, role=record.sender)
    vendor = None if group is None else group.find(266)
    if group is not None and _number(vendor) != str(VENDOR_3GPP):
        yield Wrong(
            f"{message.name} with Experimental-Result of vendor {_number(vendor)}: expected {VENDOR_3GPP}",
            record,
            role=record.sender,
        )


def _is_ordinary(message: DiameterMessage) -> bool:
    """True for an answer that follows the grammar of its command."""
    result = quiet(lambda: message.result_code)
    return not message.error and (message.find(297) is not None or (result is not None and 2000 <= result < 3000))


@on_diameter("DIA-01", "RFC 6733 3, 6.2, 8.8", role=Role.UNKNOWN, basis=Basis.UNREAD)
def answer_belongs_to_its_question(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An answer bears the Session-Id and the End-to-End Identifier of its question."""
    question = trace.question_of(record)
    if question is None or not _is_ours(record.message):
        return
    one, other = question.message.find(263), record.message.find(263)
    if one is not None and (other is None or other.data != one.data):
        told = "no Session-Id" if other is None else f"Session-Id {shown(other.data.decode('utf-8', 'replace'))}"
        yield Wrong(
            f"{record.message.name} with {told}: expected {shown(one.data.decode('utf-8', 'replace'))}",
            record,
            question,
            role=_who(record.src, trace),
        )
    if question.message.end_to_end != record.message.end_to_end:
        yield Wrong(
            f"{record.message.name} with End-to-End Identifier {record.message.end_to_end:#010x}: expected "
            f"{question.message.end_to_end:#010x}",
            record,
            question,
            role=_who(record.src, trace),
        )


def _is_ours(message: DiameterMessage) -> bool:
    """True for the base protocol and for Cx; other applications are nobody's business here."""
    return message.application in (APPLICATION_BASE, APPLICATION_CX)


@on_diameter("DIA-02", "29.229 6.3; RFC 6733 4.1", role=Role.UNKNOWN, level=Level.WARNING, name=MESSAGES_OF_CX)
def avps_have_their_flags(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The AVPs of Cx bear vendor 10415, and the M bit where 29.229 has it."""
    bare, soft = [], []
    for avp in _all_avps(record.message.avps):
        known = by_code(avp.code, avp.vendor)
        if known is None:
            other = by_code(avp.code, VENDOR_3GPP)
            if avp.vendor == 0 and avp.code in _AVPS_OF_CX and other is not None:
                bare.append(other.name)
        elif known.mandatory and not avp.flags & FLAG_MANDATORY:
            soft.append(known.name)
    for names, what in ((bare, f"without vendor {VENDOR_3GPP}"), (soft, "without the M bit")):
        if names:
            yield Wrong(f"{record.message.name}: {', '.join(dict.fromkeys(names))} {what}", record, role=record.sender)


def _all_avps(avps: Iterable[Avp], depth: int = 0) -> Iterator[Avp]:
    for avp in avps:
        yield avp
        known = by_code(avp.code, avp.vendor)
        # Failed-AVP shows what others wrote
        if known is not None and known.type is GROUPED and avp.code != 279 and depth < 4:
            yield from _all_avps(quiet(lambda a=avp: a.children) or (), depth + 1)  # type: ignore[misc]


@on_diameter("DIA-03", "RFC 6733 7.1.3, 7.2", role=Role.UNKNOWN, level=Level.WARNING, basis=Basis.UNREAD)
def error_bit_is_for_protocol_errors(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The E bit is set in answers with a result of the 3xxx class, and in nothing that succeeded."""
    message = record.message
    if not _is_ours(message):
        return
    if message.request:
        if message.error:
            yield Wrong(
                f"{message.name} with the E bit: a question cannot be an error", record, role=_who(record.src, trace)
            )
        return
    result = quiet(lambda: message.result_code)
    if result is None:
        return
    if 3000 <= result < 4000 and not message.error:
        yield Wrong(f"{message.name} {result} without the E bit", record, role=_who(record.src, trace))
    elif message.error and 2000 <= result < 3000:
        yield Wrong(f"{message.name} {result} with the E bit", record, role=_who(record.src, trace))


# --- questions without an answer -------------------------------------------------------------------------------------


@on_diameter("DIA-04", "RFC 6733 6.2; RFC 3539 3.4", role=Role.UNKNOWN, level=Level.WARNING, basis=Basis.UNREAD)
def questions_are_answered(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Every question gets an answer, one that is malformed or comes in pieces too (RFC 6733 7.1.5), and a watchdog.

    An answer that is missing in the trace may be missing in the capture only. So it is told where something else shows
    that it never came: the question was asked again; it was of a kind that boxes are known to lose; or, for a
    watchdog, the peer said nothing at all until the next one.
    """
    message = record.message
    if not message.request or not _is_ours(message) or trace.answer_to(record) is not None:
        return
    spoken = trace.derived(_spoken).get((record.dst, record.src), [])
    if not spoken:
        return  # a capture of one direction
    again = [each for each in trace.derived(_sendings).get(_sending(record), ()) if each is not record]
    if any(trace.answer_to(each) is not None for each in again) or (again and order(again[0]) < order(record)):
        return
    place = bisect_left(spoken, record.time + PATIENCE)
    later = f"though the peer spoke {spoken[place] - record.time:.0f} s later" if place < len(spoken) else ""
    fault = fault_of(record, trace)
    if again:
        why = f"asked again {again[0].time - record.time:.0f} s later"
    elif message.command == _DWR and (following := trace.derived(_watchdogs).get(record)) is not None:
        if bisect_left(spoken, record.time) != bisect_left(spoken, following.time):
            return
        why = f"nor anything else for {following.time - record.time:.0f} s"
        again = [following]
    elif fault is not None and later:
        why = f"{later}; {shown(fault.reason)}"
    elif len(record.frames) > 1 and later:
        why = (
            f"though the peer spoke {spoken[place] - record.time:.0f} s later; it came in {len(record.frames)} segments"
        )
    else:
        return
    yield Wrong(f"{message.name} without an answer, {why}", record, *again, role=_who(record.dst, trace))


def _sending(record: DiameterRecord) -> tuple[str, int, int]:
    """What stays the same when a question is sent again, on whatever connection (RFC 6733 3: End-to-End Identifier)."""
    return record.src.host, record.message.command, record.message.end_to_end


def _sendings(trace: Trace) -> dict[tuple[str, int, int], list[DiameterRecord]]:
    """The questions that were sent more than once."""
    found: dict[tuple[str, int, int], list[DiameterRecord]] = {}
    for record in trace.diameter_records:
        if record.message.request:
            found.setdefault(_sending(record), []).append(record)
    return {key: each for key, each in found.items() if len(each) > 1 and each[-1].time - each[0].time < LONG}


def _watchdogs(trace: Trace) -> dict[DiameterRecord, DiameterRecord]:
    """The next watchdog after each, on the same connection and the same way."""
    found: dict[DiameterRecord, DiameterRecord] = {}
    last: dict[tuple[Endpoint, Endpoint], DiameterRecord] = {}
    for record in trace.diameter(command=_DWR, request=True):
        if (record.src, record.dst) in last:
            found[last[record.src, record.dst]] = record
        last[record.src, record.dst] = record
    return found


def _spoken(trace: Trace) -> dict[tuple[Endpoint, Endpoint], list[float]]:
    """When each end of each connection said something."""
    found: dict[tuple[Endpoint, Endpoint], list[float]] = {}
    for record in trace.diameter_records:
        found.setdefault((record.src, record.dst), []).append(record.time)
    return found


# --- the connection --------------------------------------------------------------------------------------------------


def _meetings(trace: Trace) -> dict[_Connection, list[DiameterRecord]]:
    """The CERs of each connection."""
    found: dict[_Connection, list[DiameterRecord]] = {}
    for record in trace.diameter(command=_CER, request=True):
        found.setdefault(_connection(record), []).append(record)
    return found


@on_diameter("DIA-05", "RFC 6733 5.3, 5.6", role=Role.UNKNOWN, basis=Basis.UNREAD)
def capabilities_come_first(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Nothing is asked, and nothing answered, before CER and CEA."""
    message = record.message
    if not message.request or message.command == _CER or not _is_ours(message):
        return
    meetings = trace.derived(_meetings).get(_connection(record), [])
    if not meetings or order(meetings[0]) < order(record) or meetings[0].time - record.time > YOUNG:
        return
    yield Wrong(f"{message.name} before the CER of this connection", record, meetings[0], role=_who(record.src, trace))
    answer = trace.answer_to(record)
    if answer is not None and order(answer) < order(meetings[0]):
        result = quiet(lambda: answer.message.result_code)
        if answer.message.find(297) is not None or (result is not None and 2000 <= result < 3000):
            yield Wrong(
                f"{answer.message.name} with success before the CER of this connection",
                answer,
                record,
                meetings[0],
                role=_who(answer.src, trace),
            )


@on_diameter("DIA-06", "RFC 6733 5.3", role=Role.UNKNOWN, basis=Basis.UNREAD, name="CEA")
def common_application_is_needed(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A CER without a common application gets 5010 NO_COMMON_APPLICATION."""
    question = trace.question_of(record)
    if question is None or quiet(lambda: record.message.result_code) != ResultCode.SUCCESS:
        return
    mine, its = _applications(record.message), _applications(question.message)
    if not mine or not its or mine & its or APPLICATION_RELAY in mine | its:
        return
    yield Wrong(
        f"CEA 2001 with applications {_list(mine)} to a CER with {_list(its)}: expected result 5010",
        record,
        question,
        role=_who(record.src, trace),
    )


def _applications(message: DiameterMessage) -> set[int]:
    """What a CER or CEA says that its sender speaks."""
    groups = [message.avps, *(quiet(lambda a=each: a.children) or [] for each in message.find_all(260))]  # type: ignore[misc]
    return {
        int.from_bytes(avp.data, "big") for avps in groups for avp in avps if avp.vendor == 0 and avp.code in (258, 259)
    }


def _list(numbers: set[int]) -> str:
    return ", ".join(str(each) for each in sorted(numbers))


@on_diameter("DIA-07", "RFC 6733 5.4", role=Role.UNKNOWN, basis=Basis.UNREAD)
def farewell_is_the_end(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """After DPR and DPA nothing more is said on the connection."""
    gone = trace.derived(_farewells).get(record)
    if gone is not None:
        yield Wrong(
            f"{record.message.name} {record.time - gone.time:.3f} s after the DPA of this connection",
            record,
            gone,
            role=_who(record.src, trace),
        )


def _farewells(trace: Trace) -> dict[DiameterRecord, DiameterRecord]:
    """The first thing that each end says on a connection after its DPA, too late to have crossed it."""
    found: dict[DiameterRecord, DiameterRecord] = {}
    gone: dict[_Connection, DiameterRecord] = {}
    for record in trace.diameter_records:
        connection, command = _connection(record), record.message.command
        if command == _DPR and not record.message.request:
            gone[connection] = record
        elif command == _CER:
            gone.pop(connection, None)
        elif connection in gone and record.time - gone[connection].time > CROSSING:
            found[record] = gone[connection]
    first: dict[tuple[DiameterRecord, Endpoint], DiameterRecord] = {}
    for record, last in found.items():
        first.setdefault((last, record.src), record)
    return {record: last for (last, _), record in first.items()}


@on_trace("DIA-08", "RFC 6733 3, 4.1", role=Role.UNKNOWN, level=Level.WARNING)
def diameter_can_be_read(_: None, trace: Trace) -> Iterator[Wrong]:
    """Header and AVPs of every Diameter message fit together."""
    for record in trace.malformed_records:
        if record.protocol == "Diameter":
            yield Wrong(f"Diameter: {shown(record.error.reason)}", record, role=_who(record.src, trace))
