"""What the rules about Cx know of a trace: each question with its answer, by the users they are about.

Messages are read as they come: what is missing is None. What cannot be decoded at all is None as a whole, and then
there is nothing to say about its contents.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.vector import open_autn
from imslab.core.errors import PeerError
from imslab.diameter.avp import DiameterError
from imslab.diameter.cx import (
    COMMANDS,
    PPR,
    RTR,
    SAR,
    CxAnswer,
    CxRequest,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.diameter.dictionary import APPLICATION_CX
from imslab.diameter.userdata import UserProfile, parse_userdata
from imslab.rules.reading import order
from imslab.sip.uri import Uri
from imslab.trace.model import DiameterRecord, Record
from imslab.trace.trace import Trace

#: How many exchanges about one user are looked at, from the newest.
NEWEST = 32


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One Cx question and its answer.

    asked, answered: the two read, None where they cannot be, or where there is no answer. impi: of the question, "" if
    it names none. impus: the addresses-of-record that it names. fault: what is wrong with the question by its grammar.
    """

    request: DiameterRecord
    answer: DiameterRecord | None
    asked: CxRequest | None
    answered: CxAnswer | None
    impi: str
    impus: list[str]
    fault: DiameterError | None

    @property
    def command(self) -> int:
        """MAR, SAR, …"""
        return self.request.message.command

    @property
    def succeeded(self) -> bool:
        """True for an answer of the 2xxx class."""
        return self.answered is not None and self.answered.is_success

    @property
    def done(self) -> DiameterRecord:
        """The answer, or the question where there is none."""
        return self.answer or self.request

    # each command's own view; None for any other command

    @property
    def mar(self) -> MultimediaAuthRequest | None:
        """The question of an MAR."""
        return self.asked if isinstance(self.asked, MultimediaAuthRequest) else None

    @property
    def maa(self) -> MultimediaAuthAnswer | None:
        """The answer to an MAR."""
        return self.answered if isinstance(self.answered, MultimediaAuthAnswer) else None

    @property
    def sar(self) -> ServerAssignmentRequest | None:
        """The question of an SAR."""
        return self.asked if isinstance(self.asked, ServerAssignmentRequest) else None

    @property
    def saa(self) -> ServerAssignmentAnswer | None:
        """The answer to an SAR."""
        return self.answered if isinstance(self.answered, ServerAssignmentAnswer) else None

    @property
    def uar(self) -> UserAuthorizationRequest | None:
        """The question of a UAR."""
        return self.asked if isinstance(self.asked, UserAuthorizationRequest) else None

    @property
    def uaa(self) -> UserAuthorizationAnswer | None:
        """The answer to a UAR."""
        return self.answered if isinstance(self.answered, UserAuthorizationAnswer) else None


class KnownVector(NamedTuple):
    """One item of an MAA. place: among the items by their numbers, from 0. sqn: None while nobody knows the key."""

    exchange: Exchange
    place: int
    authenticate: bytes
    xres: bytes | None
    ck: bytes | None
    ik: bytes | None
    sqn: int | None

    def __repr__(self) -> str:
        return f"KnownVector({self.exchange.impi}, item {self.place}, <keys not shown>)"


@dataclass(slots=True, eq=False, repr=False)
class Exchanges:
    """All Cx exchanges of a trace, in the order of the questions. orphans: answers whose questions were not seen."""

    trace: Trace
    all: list[Exchange] = field(default_factory=list)
    vectors: dict[bytes, list[KnownVector]] = field(default_factory=dict)
    orphans: list[DiameterRecord] = field(default_factory=list)
    _by_record: dict[DiameterRecord, Exchange] = field(default_factory=dict)
    _by_user: dict[tuple[int, str], list[Exchange]] = field(default_factory=dict)
    _history: dict[str, list[Exchange]] = field(default_factory=dict)
    _profiles: dict[DiameterRecord, UserProfile | None] = field(default_factory=dict)
    _identities: dict[str, dict[str, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.trace.diameter_records:
            key = (record.message.command, True)
            if key not in COMMANDS or record.message.application != APPLICATION_CX:
                continue
            if record.message.request:
                self._add(record)
            elif self.trace.question_of(record) is None:
                self.orphans.append(record)
        for exchange in self.all:
            for impu in exchange.impus or list(self._identities.get(exchange.impi, {})):
                self._history.setdefault(impu, []).append(exchange)
        for history in self._history.values():
            history.sort(key=lambda each: order(each.done))
        for exchange in sorted(self.all, key=lambda each: order(each.done)):
            self._learn(exchange)

    def _add(self, record: DiameterRecord) -> None:
        answer = self.trace.answer_to(record)
        asked, fault = _read_question(record)
        answered = cast("CxAnswer | None", None if answer is None else _read(answer))
        impi = getattr(asked, "user_name", None) or ""
        found = getattr(asked, "public_identities", None)
        texts = [getattr(asked, "public_identity", None)] if found is None else found
        impus = [aor_of_text(text) for text in texts if text]
        exchange = Exchange(record, answer, asked, answered, impi, impus, fault)
        self.all.append(exchange)
        self._by_record[record] = exchange
        if answer is not None:
            self._by_record[answer] = exchange
        for user in dict.fromkeys((impi, *exchange.impus)):
            if user:
                self._by_user.setdefault((exchange.command, user), []).append(exchange)
        if impi and exchange.impus:
            self._identities.setdefault(impi, {}).update(dict.fromkeys(exchange.impus))

    def _learn(self, exchange: Exchange) -> None:
        maa = exchange.maa
        if maa is None or not exchange.succeeded:
            return
        items = sorted(maa.items, key=lambda item: item.number or 0)
        algorithm = self.trace.keys.algorithm(exchange.impi)
        for place, item in enumerate(items):
            data = item.authenticate or b""
            if len(data) == 32:
                sqn = None if algorithm is None else sqn_of(algorithm, data)
                vector = KnownVector(exchange, place, data, item.authorization, item.ck, item.ik, sqn)
                self.vectors.setdefault(data[:16], []).append(vector)

    # --- questions ---

    def of(self, record: DiameterRecord) -> Exchange | None:
        """The exchange that a question or an answer belongs to."""
        return self._by_record.get(record)

    def during(self, command: int, user: str, start: Record, end: Record) -> list[Exchange]:
        """The exchanges of a command about a user whose question came after `start` and before `end`."""
        found = self._by_user.get((command, user), [])
        first = bisect_left(found, order(start), key=lambda each: order(each.request))
        last = bisect_left(found, order(end), key=lambda each: order(each.request))
        return found[first:last][-NEWEST:]

    def following(self, command: int, user: str, start: Record, within: float) -> Exchange | None:
        """The first exchange of a command about a user that was asked after a record, within so many seconds."""
        found = self._by_user.get((command, user), [])
        place = bisect_left(found, order(start), key=lambda each: order(each.request))
        if place < len(found) and found[place].request.time - start.time <= within:
            return found[place]
        return None

    def lost(self, command: int, start: Record, end: Record) -> bool:
        """True when an answer of this command came in between whose question was not seen: the capture has holes."""
        first = bisect_left(self.orphans, order(start), key=order)
        last = bisect_left(self.orphans, order(end), key=order)
        return any(each.message.command == command for each in self.orphans[first:last])

    def last(self, command: int, user: str, before: Record) -> Exchange | None:
        """The newest successful exchange of a command about a user that was over before a record."""
        found = self._by_user.get((command, user), [])
        end = bisect_left(found, order(before), key=lambda each: order(each.request))
        for each in reversed(found[max(0, end - NEWEST) : end]):
            if each.succeeded and order(each.done) < order(before):
                return each
        return None

    def before(self, command: int, user: str, record: Record) -> list[Exchange]:
        """The exchanges of a command about a user that were asked before a record, the newest first."""
        found = self._by_user.get((command, user), [])
        end = bisect_left(found, order(record), key=lambda each: order(each.request))
        return found[max(0, end - NEWEST) : end][::-1]

    def last_asked(self, command: int, user: str, before: Record) -> Exchange | None:
        """The newest exchange of a command about a user that was asked before a record, whatever came of it."""
        found = self._by_user.get((command, user), [])
        end = bisect_left(found, order(before), key=lambda each: order(each.request))
        return found[end - 1] if end else None

    def past(self, exchange: Exchange, impu: str) -> list[Exchange]:
        """What was asked about an IMPU and was over before this question, the newest first."""
        found = self._history.get(impu, [])
        end = bisect_left(found, order(exchange.request), key=lambda each: order(each.done))
        return found[max(0, end - NEWEST) : end][::-1]

    def profile(self, exchange: Exchange) -> UserProfile | None:
        """The user data that an SAA or a PPR brought; None where there is none that can be read."""
        record = exchange.request if exchange.command == PPR else exchange.answer
        if record is None:
            return None
        if record not in self._profiles:
            source = exchange.asked if exchange.command == PPR else exchange.answered
            data = getattr(source, "user_data", None)
            try:
                self._profiles[record] = parse_userdata(data) if data else None
            except PeerError:
                self._profiles[record] = None
        return self._profiles[record]

    def profile_before(self, impu: str, record: Record) -> Exchange | None:
        """The exchange that brought the user data in force for an IMPU at the time of a record.

        None where that is not sure: after a PPR, which may have changed any part of it.
        """
        found = self._history.get(impu, [])
        end = bisect_left(found, order(record), key=lambda each: order(each.done))
        for each in reversed(found[max(0, end - NEWEST) : end]):
            if each.command == PPR or (each.command == RTR and each.succeeded):
                return None
            if each.command == SAR and each.succeeded and self.profile(each) is not None:
                return each
        return None

    def touched(self, command: int, user: str) -> bool:
        """True when the trace has any exchange of this command about this user."""
        return (command, user) in self._by_user

    def sequence_numbers(self, exchange: Exchange) -> Sequence[KnownVector]:
        """The vectors of an MAA."""
        maa = exchange.maa
        if maa is None:
            return ()
        rands = dict.fromkeys((item.authenticate or b"")[:16] for item in maa.items)
        return sorted(
            (each for rand in rands for each in self.vectors.get(rand, ()) if each.exchange is exchange),
            key=lambda each: each.place,
        )


def exchanges_of(trace: Trace) -> Exchanges:
    """The Cx exchanges of a trace; found once."""
    return trace.derived(Exchanges)


def sqn_of(algorithm: AkaAlgorithm, authenticate: bytes) -> int | None:
    """The SQN in RAND ‖ AUTN (32 octets) of a subscriber; None when its MAC was not made with this key."""
    rand, autn = authenticate[:16], authenticate[16:]
    opened = open_autn(algorithm, rand, autn, algorithm.f2345(rand)[3])
    return opened.sqn if opened.mac_ok else None


def aor_of_text(text: str) -> str:
    """The address-of-record of a URI; the text itself where it is none."""
    try:
        return Uri.parse(text).aor
    except PeerError:
        return text


def _read_question(record: DiameterRecord) -> tuple[CxRequest | None, DiameterError | None]:
    cls = COMMANDS[record.message.command, True]
    try:
        return cast("CxRequest", cls.from_message(record.message)), None
    except DiameterError as fault:
        return cast("CxRequest | None", _read(record)), fault


def _read(record: DiameterRecord) -> Any:
    cls = COMMANDS[record.message.command, record.message.request]
    try:
        return cls.from_avps(record.message.avps, strict=False)
    except PeerError:
        return None
