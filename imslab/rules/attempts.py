"""What the rules about Mw know of a trace: every REGISTER as its registrar saw it, and what became of it.

An Attempt is a REGISTER at its last sighting on Mw, the one nearest to the S-CSCF, with the first final answer that
came back on that hop. Retransmissions are the same attempt. Who asks about something that the trace does not show gets
None or an empty list, and then has nothing to say.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from imslab.core.errors import PeerError
from imslab.rules.reading import challenge, contacts, credentials, cseq_number, is_aka, leaves, order, param, quiet
from imslab.sip.fields.digest import DigestCredentials
from imslab.sip.message import Message
from imslab.trace.identity import is_third_party
from imslab.trace.model import Hop, Record, Role, SipRecord
from imslab.trace.trace import Trace, status_of

#: How long a REGISTER may be under way, seconds: 64*T1 of RFC 3261, and a little more.
UNDER_WAY = 34.0
#: How many attempts of one user are looked at, from the newest.
NEWEST = 16
#: How many CSeq numbers a chain of REGISTERs may have between a challenge and its answer.
LONGEST = 16


@dataclass(slots=True, eq=False, repr=False)
class Attempt:
    """One REGISTER at the registrar.

    call_id, cseq: cseq None where it cannot be read. impi: of the Authorization, "" without one. impu: the
    address-of-record of To. given: the Authorization, for AKA if there is one; nonce, response, auts: of it, "" where
    there is none. flags: the values of integrity-protected, lower case. leaving: it asks for no binding to stay.
    told: the nonce of the challenge that answered it, "" for any other answer. final: None where none was seen.
    """

    request: SipRecord
    final: SipRecord | None
    call_id: str
    cseq: int | None
    impi: str
    impu: str
    given: DigestCredentials | None
    nonce: str
    response: str
    auts: str
    flags: list[str]
    leaving: bool
    told: str

    @property
    def status(self) -> int | None:
        """Of the final answer."""
        return None if self.final is None else status_of(self.final)

    @property
    def accepted(self) -> bool:
        """True when the answer was a 2xx."""
        return self.final is not None and 200 <= (self.status or 0) < 300

    @property
    def answers(self) -> bool:
        """True when it has the response to a challenge, and does not report a failure."""
        return bool(self.nonce and self.response and not self.auts)

    @property
    def is_aka(self) -> bool:
        """True when its Authorization names an AKA algorithm."""
        return self.given is not None and is_aka(self.given)


@dataclass(slots=True, eq=False, repr=False)
class Attempts:
    """All attempts of a trace, in order."""

    trace: Trace
    all: list[Attempt] = field(default_factory=list)
    _by_final: dict[SipRecord, Attempt] = field(default_factory=dict)
    _by_call: dict[str, dict[int, Attempt]] = field(default_factory=dict)
    _by_user: dict[str, list[Attempt]] = field(default_factory=dict)
    _telling: dict[str, list[Attempt]] = field(default_factory=dict)
    _accepted: dict[str, list[Attempt]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.trace.sip(method="REGISTER", request=True, hop=Hop.MW):
            if (
                record.receiver in (Role.ICSCF, Role.SCSCF)
                and self.trace.relayed(record) is None
                and not self.trace.is_retransmission(record)
                and not is_third_party(record.message)
            ):
                self._add(_attempt(record, self.trace.final_response(record)))

    def _add(self, attempt: Attempt) -> None:
        self.all.append(attempt)
        if attempt.cseq is not None:
            self._by_call.setdefault(attempt.call_id, {})[attempt.cseq] = attempt
        for user in {attempt.impi, attempt.impu} - {""}:
            self._by_user.setdefault(user, []).append(attempt)
        if attempt.final is not None:
            self._by_final[attempt.final] = attempt
        if attempt.told:
            self._telling.setdefault(attempt.told, []).append(attempt)
        if attempt.accepted and attempt.nonce:
            self._accepted.setdefault(attempt.nonce, []).append(attempt)

    # --- questions ---

    def concluded(self, final: SipRecord) -> Attempt | None:
        """The attempt that this answer ended; None for an answer that is none, is relayed, or is sent again."""
        return self._by_final.get(final)

    def telling(self, nonce: str) -> list[Attempt]:
        """The attempts that were challenged with this nonce, in order."""
        return self._telling.get(nonce, [])

    def accepted_before(self, nonce: str, record: Record) -> Attempt | None:
        """The first attempt with this nonce that got a 2xx, if that was before this record."""
        found = self._accepted.get(nonce)
        if not found or found[0].final is None or order(found[0].final) >= order(record):
            return None
        return found[0]

    def challenge_before(self, attempt: Attempt) -> Attempt | None:
        """The attempt whose challenge this one names: the last one before it."""
        for each in reversed(self.telling(attempt.nonce)[-NEWEST:]) if attempt.nonce else ():
            if each.final is not None and order(each.final) < order(attempt.request):
                return each
        return None

    def answered_by(self, attempt: Attempt) -> Attempt | None:
        """The attempt whose challenge this one reacts to, when nothing can have come between.

        Same Call-ID, and every REGISTER with a CSeq in between is in the trace and was not accepted. None for a refresh
        too, which repeats the response of an authentication that is over.
        """
        first = self.challenge_before(attempt)
        if self.accepted_before(attempt.nonce, attempt.request) is not None:
            return None
        if first is None or first.call_id != attempt.call_id or first.cseq is None or attempt.cseq is None:
            return None
        if not 0 < attempt.cseq - first.cseq <= LONGEST:
            return None
        call = self._by_call[attempt.call_id]
        between = [call.get(number) for number in range(first.cseq + 1, attempt.cseq)]
        if any(each is None or each.final is None or each.accepted for each in between):
            return None
        return first

    def pending(self, user: str, record: Record) -> list[Attempt]:
        """The attempts of a user that were under way at the time of a record, the newest first."""
        found = self._by_user.get(user, [])
        end = bisect_left(found, order(record), key=lambda each: order(each.request))
        return [
            each
            for each in reversed(found[max(0, end - NEWEST) : end])
            if record.time - each.request.time < UNDER_WAY and (each.final is None or order(each.final) > order(record))
        ]

    def before(self, user: str, record: Record) -> list[Attempt]:
        """The attempts of a user that began before a record, the newest first; so many as are looked at."""
        found = self._by_user.get(user, [])
        end = bisect_left(found, order(record), key=lambda each: order(each.request))
        return found[max(0, end - NEWEST) : end][::-1]


def attempts_of(trace: Trace) -> Attempts:
    """The attempts of a trace; found once."""
    return trace.derived(Attempts)


def _attempt(record: SipRecord, final: SipRecord | None) -> Attempt:
    message = record.message
    given = credentials(message)
    told = ""
    if final is not None and status_of(final) == 401:
        offered = challenge(final.message)
        told = "" if offered is None else param(offered, "nonce") or ""
    return Attempt(
        record,
        final,
        message.get("Call-ID") or "",
        cseq_number(message),
        _get(given, "username"),
        aor_of(message),
        given,
        _get(given, "nonce"),
        _get(given, "response"),
        _get(given, "auts"),
        [] if given is None else [each.lower() for each in given.get_all("integrity-protected")],
        leaves(message),
        told,
    )


def _get(given: DigestCredentials | None, name: str) -> str:
    return "" if given is None else param(given, name) or ""


def aor_of(message: Message) -> str:
    """The address-of-record of To; "" where it cannot be read."""
    return quiet(lambda: message.to.uri.aor) or ""


def tag_of(message: Message, header: str) -> str:
    """The tag of From or To; "" without."""
    found = quiet(lambda: message.from_ if header == "From" else message.to)
    return "" if found is None else found.tag or ""


def lifetime(message: Message) -> int | None:
    """The longest time that a 2xx to REGISTER grants to any contact, seconds; None where it does not say."""
    default = quiet(lambda: message.expires)
    times: list[int] = []
    for each in contacts(message):
        try:
            seconds = each.expires if each.expires is not None else default
        except PeerError:
            return None
        if seconds is not None:
            times.append(seconds)
    return max(times, default=None)
