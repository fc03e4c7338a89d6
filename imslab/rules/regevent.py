"""Rules about the S-CSCF as notifier of the reg event package (RFC 3680, RFC 6665, 24.229 5.4.2.1).

A subscription is known from the SUBSCRIBE that began it, as it reached the S-CSCF: its Contact, Record-Route and tags
are what every NOTIFY is held against. Without that SUBSCRIBE only one NOTIFY is held against the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from imslab.core.errors import PeerError
from imslab.diameter.codes import CxResult, ReasonCode, ServerAssignmentType
from imslab.diameter.cx import PPR, RTR, SAR, UAR, RegistrationTerminationRequest
from imslab.rules.attempts import NEWEST, Attempt, attempts_of, lifetime, tag_of
from imslab.rules.clauses import Basis, Level, Wrong, on_sip
from imslab.rules.exchanges import aor_of_text, exchanges_of
from imslab.rules.reading import contacts, cseq_number, order, quiet, shown
from imslab.sip.message import Message
from imslab.sip.reginfo import CONTENT_TYPE, RegInfo, parse_reginfo
from imslab.sip.uri import Uri
from imslab.trace.model import Hop, Record, Role, SipRecord
from imslab.trace.trace import Trace, method_of, status_of

#: A NOTIFY so soon after its SUBSCRIBE is the first one: an earlier one would still be waiting for its answer, seconds.
FIRST = 0.5
#: Packets overtake one another by less than this, seconds.
OVERTAKING = 0.1
#: For how long after an RTR a NOTIFY surely is about it, seconds.
AFTER_RTR = 10.0
#: How long a NOTIFY may be awaited, seconds: 64*T1 of RFC 3261.
PATIENCE = 32.0
#: How many proxies a SUBSCRIBE may have passed on its way from the UE.
HOPS = 4


@dataclass(slots=True, eq=False, repr=False)
class Subscription:
    """One subscription at the S-CSCF. asked: its SUBSCRIBEs, the one that began it first."""

    asked: list[SipRecord]
    notices: list[Notice] = field(default_factory=list)

    @property
    def first(self) -> SipRecord:
        """The SUBSCRIBE that began it."""
        return self.asked[0]


@dataclass(slots=True, eq=False, repr=False)
class Notice:
    """One NOTIFY as it left the S-CSCF.

    info: its document; None where there is none, or `error` says why it cannot be read. before: the NOTIFY before it.
    """

    record: SipRecord
    subscription: Subscription | None
    before: Notice | None
    cseq: int | None
    info: RegInfo | None
    error: PeerError | None

    @property
    def answered(self) -> SipRecord | None:
        """The last SUBSCRIBE of its subscription before it."""
        asked = () if self.subscription is None else self.subscription.asked
        return next((each for each in reversed(asked) if order(each) < order(self.record)), None)


@dataclass(slots=True, eq=False, repr=False)
class Notices:
    """All reg-event NOTIFYs of a trace."""

    trace: Trace
    subscriptions: dict[str, list[Subscription]] = field(default_factory=dict)
    _by_record: dict[SipRecord, Notice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.trace.sip(method="SUBSCRIBE", request=True, hop=Hop.MW, receiver=Role.SCSCF):
            if not self.trace.is_retransmission(record) and self.trace.relayed(record) is None and _is_reg(record):
                self._subscribe(record)
        last: dict[tuple[str, str], Notice] = {}
        for record in self.trace.sip(method="NOTIFY", request=True, hop=Hop.MW, sender=Role.SCSCF):
            if self.trace.is_retransmission(record) or self.trace.relayed_from(record) or not _is_reg(record):
                continue
            key = (record.message.get("Call-ID") or "", tag_of(record.message, "To"))
            subscription = self._of(record)
            info, error = _document(record.message)
            notice = Notice(record, subscription, last.get(key), cseq_number(record.message), info, error)
            self._by_record[record] = last[key] = notice
            if subscription is not None:
                subscription.notices.append(notice)

    def _subscribe(self, record: SipRecord) -> None:
        found = self.subscriptions.setdefault(record.message.get("Call-ID") or "", [])
        if not tag_of(record.message, "To"):
            found.append(Subscription([record]))
            return
        tag = tag_of(record.message, "From")
        for each in found:
            if tag_of(each.first.message, "From") == tag:
                each.asked.append(record)

    def _of(self, record: SipRecord) -> Subscription | None:
        """Whose NOTIFY it is: by the subscriber's tag; by Call-ID alone where that has one subscription only."""
        found = self.subscriptions.get(record.message.get("Call-ID") or "", [])
        found = [each for each in found if order(each.first) < order(record)]
        tag = tag_of(record.message, "To")
        named = [each for each in found if tag_of(each.first.message, "From") == tag]
        if named:
            return named[-1]
        return found[0] if len(found) == 1 else None

    def of(self, record: SipRecord) -> Notice | None:
        """The NOTIFY; None for one that is relayed, or sent again."""
        return self._by_record.get(record)


def notices_of(trace: Trace) -> Notices:
    """The NOTIFYs of a trace; found once."""
    return trace.derived(Notices)


def _is_reg(record: SipRecord) -> bool:
    event = quiet(lambda: record.message.event)
    return event is not None and event.package.lower() == "reg"


def _document(message: Message) -> tuple[RegInfo | None, PeerError | None]:
    if not message.body:
        return None, None
    try:
        return parse_reginfo(message.body), None
    except PeerError as error:
        return None, error


# --- the dialog ------------------------------------------------------------------------------------------------------


@on_sip("EVT-11", "RFC 3261 12.2.1.1", role=Role.SCSCF, hop=Hop.MW, method="NOTIFY", request=True)
def notify_is_in_its_dialog(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A NOTIFY has the identities and tags of its SUBSCRIBE turned round, goes to its Contact, along its routes."""
    notice = notices_of(trace).of(record)
    if notice is None:
        return
    before = notice.before
    if before is not None and notice.cseq is not None and before.cseq is not None:
        overtaken = record.time - before.record.time < OVERTAKING
        if notice.cseq <= before.cseq and not overtaken:
            yield Wrong(f"CSeq {notice.cseq} after {before.cseq}: expected a higher one", record, before.record)
    if notice.subscription is None:
        return
    asked = notice.subscription.first
    granted = trace.final_response(asked)
    yield from _turned_round(record, asked, granted)
    latest = notice.answered or asked
    target = contacts(latest.message)
    uri: Uri = record.message.request_uri  # type: ignore[attr-defined]
    if target and not target[0].is_star and uri != target[0].uri:
        yield Wrong(
            f"Request-URI {shown(str(uri))}: expected the subscriber's Contact {shown(str(target[0].uri))}",
            record,
            latest,
        )
    recorded = [str(each.uri) for each in quiet(lambda: asked.message.record_route) or ()]
    routes = [str(each.uri) for each in record.message.route]
    if recorded and routes != recorded:
        told = f"Route is {shown(', '.join(routes))}" if routes else "no Route"
        yield Wrong(f"{told}: expected the Record-Route {shown(', '.join(recorded))}", record, asked)


def _turned_round(record: SipRecord, asked: SipRecord, granted: SipRecord | None) -> Iterator[Wrong]:
    message, subscriber = record.message, tag_of(asked.message, "From")
    if message.to.tag != subscriber:
        if message.from_.tag == subscriber:
            yield Wrong(
                f"From and To are not turned round: the subscriber's tag {shown(subscriber)} is in From", record
            )
            return
        yield Wrong(f"tag {shown(message.to.tag or '-')} in To: expected {shown(subscriber)}", record, asked)
    own = "" if granted is None or (status_of(granted) or 0) >= 300 else tag_of(granted.message, "To")
    if granted is not None and own and message.from_.tag != own:
        yield Wrong(f"tag {shown(message.from_.tag or '-')} in From: expected {shown(own)}", record, granted)
    for name, uri, expected in (
        ("From", message.from_.uri, quiet(lambda: asked.message.to.uri)),
        ("To", message.to.uri, quiet(lambda: asked.message.from_.uri)),
    ):
        if expected is not None and uri != expected:
            yield Wrong(f"{name} is {shown(str(uri))}: expected {shown(str(expected))}", record, asked)


@on_sip(
    "EVT-10",
    "24.229 5.4.2.1.1; RFC 6665 4.2.1",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method=("SUBSCRIBE", "NOTIFY"),
)
def subscription_is_granted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 2xx to a SUBSCRIBE says in Expires how long it is granted; the first NOTIFY has the full state."""
    if record.message.is_request:
        notice = notices_of(trace).of(record)
        if notice is not None and record.message.subscription_state is None:
            yield Wrong("NOTIFY without Subscription-State", record)
        if notice is not None and notice.info is not None and notice.info.state != "full" and _is_first(notice):
            yield Wrong(f'the first NOTIFY has state="{notice.info.state}": expected full', record)
        return
    asked = trace.request_of(record)
    if asked is None or not _is_grant(record, asked, trace):
        return
    if _is_silent(asked, record, trace):
        yield Wrong("SUBSCRIBE granted, and no NOTIFY follows", record, asked, level=Level.WARNING)
    granted, wanted = record.message.expires, quiet(lambda: asked.message.expires)
    if granted is None:
        yield Wrong(f"{status_of(record)} to SUBSCRIBE without Expires", record)
    elif wanted is not None and granted > wanted:
        yield Wrong(f"{granted} s granted to SUBSCRIBE: {wanted} s were asked for", record, asked)


def _is_silent(asked: SipRecord, granted: SipRecord, trace: Trace) -> bool:
    """True when nothing of a NOTIFY of a new subscription was seen on any hop, though the S-CSCF has spoken since."""
    if tag_of(asked.message, "To") or trace.relayed(asked) is not None:
        return False
    if any(method_of(each) == "NOTIFY" for each in trace.sip(call_id=asked.message.get("Call-ID") or "")):
        return False
    last = trace.derived(_last_words)
    return last is not None and last - granted.time > PATIENCE


def _last_words(trace: Trace) -> float | None:
    """When an S-CSCF said something last, on Mw or on Cx."""
    words = [record.time for record in trace.sip(hop=Hop.MW, sender=Role.SCSCF)]
    words += [record.time for record in trace.diameter_records if record.sender is Role.SCSCF]
    return max(words, default=None)


def _is_grant(record: SipRecord, asked: SipRecord, trace: Trace) -> bool:
    """True for a 2xx to a reg-event SUBSCRIBE as it left the S-CSCF."""
    return (
        200 <= (status_of(record) or 0) < 300
        and asked.message.is_request
        and record.sender is Role.SCSCF
        and _is_reg(asked)
        and trace.relayed_from(record) is None
    )


def _is_first(notice: Notice) -> bool:
    """True for the first NOTIFY of a subscription that the trace shows from its beginning."""
    subscription = notice.subscription
    return (
        subscription is not None
        and notice.before is None
        and subscription.notices[0] is notice
        and notice.record.time - subscription.first.time < FIRST
    )


@on_sip("EVT-18", "RFC 6665 8.3.2", role=Role.SCSCF, basis=Basis.UNREAD, hop=Hop.MW, method="SUBSCRIBE", status=489)
def unknown_event_is_explained(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """489 lists in Allow-Events what there is."""
    if record.sender is Role.SCSCF and not record.message.has("Allow-Events"):
        yield Wrong("489 without Allow-Events", record)


@on_sip(
    "EVT-17",
    "24.229 5.4.2.1.1",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="SUBSCRIBE",
    status=range(200, 300),
)
def strangers_do_not_subscribe(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE may subscribe to the registrations of its own identities only."""
    asked = trace.request_of(record)
    if asked is None or not _is_grant(record, asked, trace):
        return
    if trace.relayed(asked) is not None or tag_of(asked.message, "To") or not _from_ue(asked, trace):
        return
    uri = quiet(lambda: asked.message.request_uri)  # type: ignore[attr-defined]
    who = [each.uri.aor for each in quiet(lambda: asked.message.p_asserted_identity) or ()]
    known = None if uri is None else _told_set(uri.aor, record, trace)
    if uri is None or known is None or not who or any(each in known[1] or each == known[0].impu for each in who):
        return
    yield Wrong(
        f"{status_of(record)} to a SUBSCRIBE of {shown(who[0])} to {shown(str(uri))}: expected 403",
        record,
        asked,
        *(each for each in (known[0].final,) if each is not None),
    )


def _from_ue(record: SipRecord, trace: Trace) -> bool:
    """True when a request came from a UE, as the trace shows."""
    at: SipRecord | None = record
    for _ in range(HOPS):
        if at is None:
            return False
        if at.hop is Hop.GM:
            return at.sender is Role.UE
        at = trace.relayed_from(at)
    return False


@on_sip("EVT-19", "RFC 6665 4.4.1", role=Role.SCSCF, basis=Basis.UNREAD, hop=Hop.MW, method="NOTIFY", request=True)
def fetch_ends_at_once(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After a SUBSCRIBE with Expires 0 the NOTIFY says that the subscription is terminated."""
    notice = notices_of(trace).of(record)
    asked = None if notice is None else notice.answered
    if asked is None or quiet(lambda: asked.message.expires) != 0:
        return
    granted = trace.final_response(asked)
    if granted is None or not 200 <= (status_of(granted) or 0) < 300 or order(granted) > order(record):
        return
    state = record.message.subscription_state
    if state is not None and state.state != "terminated":
        yield Wrong(f"Subscription-State {shown(state.state)} after a SUBSCRIBE with Expires 0", record, asked)


# --- the document ----------------------------------------------------------------------------------------------------


@on_sip("EVT-12", "RFC 3680 5", role=Role.SCSCF, basis=Basis.UNREAD, hop=Hop.MW, method="NOTIFY", request=True)
def document_is_sound(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The body is a reginfo document; its version begins at 0 and rises by one; ids stay what they are."""
    notice = notices_of(trace).of(record)
    if notice is None:
        return
    if notice.error is not None:
        yield Wrong(shown(notice.error.reason), record)
        return
    info = notice.info
    if info is None:
        return
    if record.message.content_type != CONTENT_TYPE:
        told = shown(record.message.content_type) or "missing"
        yield Wrong(f"Content-Type is {told}: expected {CONTENT_TYPE}", record)
    before = notice.before
    if _is_first(notice) and info.version != 0:
        yield Wrong(f"the first document has version {info.version}: expected 0", record)
    if before is None or before.info is None or notice.cseq is None or before.cseq is None:
        return
    if notice.cseq > before.cseq:
        last = before.info.version
        if notice.cseq == before.cseq + 1 and info.version != last + 1:
            yield Wrong(f"version {info.version} after {last}: expected {last + 1}", record, before.record)
        elif info.version <= last:
            yield Wrong(f"version {info.version} after {last}: expected a higher one", record, before.record)
    known = {each.aor: each.id for each in before.info.registrations}
    for each in info.registrations:
        if known.get(each.aor, each.id) != each.id:
            yield Wrong(
                f"registration {shown(each.aor)} has id {shown(each.id)}: it had {shown(known[each.aor])}",
                record,
                before.record,
            )


def _told_set(aor: str, record: Record, trace: Trace) -> tuple[Attempt, frozenset[str]] | None:
    """The implicit registration set of an identity, as the last 200 before a record has told it.

    None where none has, or where the HSS has had its say since.
    """
    found = trace.derived(_told_sets).get(aor, [])
    last = next((each for each in reversed(found[-64:]) if order(_final(each[0])) < order(record)), None)
    if last is None:
        return None
    exchanges = exchanges_of(trace)
    for user in (last[0].impi, aor):
        for command in (PPR, RTR):
            if exchanges.during(command, user, _final(last[0]), record):
                return None
    return last


def _told_sets(trace: Trace) -> dict[str, list[tuple[Attempt, frozenset[str]]]]:
    found: dict[str, list[tuple[Attempt, frozenset[str]]]] = {}
    for attempt in attempts_of(trace).all:
        if not attempt.accepted or attempt.leaving or attempt.final is None:
            continue
        message = attempt.final.message
        told = frozenset(each.uri.aor for each in quiet(lambda m=message: m.p_associated_uri) or ())  # type: ignore[misc]
        for aor in told | {attempt.impu}:
            found.setdefault(aor, []).append((attempt, told))
    return found


def _final(attempt: Attempt) -> SipRecord:
    assert attempt.final is not None
    return attempt.final


def _set_of(notice: Notice, trace: Trace) -> tuple[Attempt, frozenset[str]] | None:
    """The set that a NOTIFY is about."""
    if notice.info is None:
        return None
    for each in notice.info.registrations:
        found = _told_set(aor_of_text(each.aor), notice.record, trace)
        if found is not None:
            return found
    return None


@on_sip("EVT-13", "24.229 5.4.2.1.2", role=Role.SCSCF, basis=Basis.UNREAD, hop=Hop.MW, method="NOTIFY", request=True)
def whole_set_is_listed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A full document lists every identity of the set, and with each the contact that is registered."""
    notice = notices_of(trace).of(record)
    found = None if notice is None else _set_of(notice, trace)
    if notice is None or notice.info is None or found is None or notice.info.state != "full":
        return
    attempt, told = found
    newest = next((each for each in attempts_of(trace).before(attempt.impu, record) if each.accepted), None)
    state = quiet(lambda: record.message.subscription_state)
    if newest is not attempt or (state is not None and state.state == "terminated"):
        return
    listed = {aor_of_text(each.aor): each for each in notice.info.registrations}
    missing = sorted(told - listed.keys() - _barred(attempt, trace))  # what is barred is OKR-04's affair
    if missing:
        yield Wrong(f"the document lacks {shown(', '.join(missing))}", record, _final(attempt))
    lives = record.time < _final(attempt).time + (lifetime(_final(attempt).message) or 0)
    bound = [each.uri for each in contacts(attempt.request.message) if not each.is_star]
    for aor, each in listed.items():
        if aor not in told or not lives or not bound:
            continue
        if each.state != "active":
            yield Wrong(f"{shown(aor)} is {each.state}: it is registered", record, _final(attempt))
        elif all(not _is_bound(one.uri, bound) for one in each.contacts):
            yield Wrong(f"{shown(aor)} is listed without its contact {shown(str(bound[0]))}", record, _final(attempt))


def _barred(attempt: Attempt, trace: Trace) -> set[str]:
    """Identities that the user data of a registration bars, where the trace shows it."""
    exchanges = exchanges_of(trace)
    exchange = exchanges.profile_before(attempt.impu, _final(attempt))
    profile = None if exchange is None else exchanges.profile(exchange)
    return set() if profile is None else {aor_of_text(each.uri) for each in profile.identities if each.barred}


def _is_bound(text: str, bound: list[Uri]) -> bool:
    uri = quiet(lambda: Uri.parse(text))
    return uri is not None and uri in bound


@on_sip(
    "EVT-14",
    "RFC 3680 4.6; 24.229 5.4.2.1.2",
    role=Role.SCSCF,
    level=Level.NOTE,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="NOTIFY",
    request=True,
)
def implicit_identities_are_created(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The identity that was registered is "registered", those that came with it are "created"."""
    notice = notices_of(trace).of(record)
    found = None if notice is None else _set_of(notice, trace)
    if notice is None or notice.info is None or found is None or not _from_the_beginning(found[0], record, trace):
        return
    asked = found[0].impu
    wrong = [
        shown(each.aor)
        for each in notice.info.registrations
        if aor_of_text(each.aor) != asked and any(one.event == "registered" for one in each.contacts)
    ]
    if wrong:
        yield Wrong(f'event="registered" for {", ".join(wrong)}: {shown(asked)} was, these were created', record)


def _from_the_beginning(attempt: Attempt, record: SipRecord, trace: Trace) -> bool:
    """True when nobody of the set was registered before, and this is the only registration of the user so far."""
    exchanges = exchanges_of(trace)
    told = exchanges.during(SAR, attempt.impu, attempt.request, _final(attempt))
    if len(told) != 1 or told[0].sar is None:
        return False
    asked = exchanges.last(UAR, attempt.impu, attempt.request)
    fresh = asked is not None and asked.uaa is not None and asked.uaa.experimental == CxResult.FIRST_REGISTRATION
    if not fresh and told[0].sar.assignment_type is not ServerAssignmentType.REGISTRATION:
        return False
    before = attempts_of(trace).before(attempt.impi, record)
    return len(before) < NEWEST and [each for each in before if each.accepted] == [attempt]


@on_sip(
    "DER-14",
    "24.229 5.4.2.1.2; RFC 6665",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="NOTIFY",
    request=True,
)
def last_notify_ends_the_subscription(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """When no contact is left, the NOTIFY that says so ends the subscription."""
    notice = notices_of(trace).of(record)
    info = None if notice is None else notice.info
    state = record.message.subscription_state
    if info is None or state is None or info.state != "full" or not info.registrations:
        return
    over = all(
        each.state == "terminated" and all(one.state == "terminated" for one in each.contacts)
        for each in info.registrations
    )
    if over and state.state != "terminated":
        yield Wrong(f"every registration is terminated and Subscription-State is {shown(state.state)}", record)


@on_sip(
    "DER-06",
    "29.228 6.5.1.2; 24.229 5.4.1.4.1 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="NOTIFY",
    request=True,
)
def whole_set_goes(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """When one identity of a set is de-registered, all of them are."""
    notice = notices_of(trace).of(record)
    if notice is None or notice.info is None or notice.subscription is None:
        return
    uri = quiet(lambda: notice.subscription.first.message.request_uri)  # type: ignore[union-attr]
    known = None if uri is None else _told_set(uri.aor, record, trace)
    if known is None:
        return
    newest = next((each for each in attempts_of(trace).before(known[0].impu, record) if each.accepted), None)
    if newest is None or not newest.leaving or newest.final is None or order(newest.final) > order(record):
        return
    if lifetime(newest.final.message):  # another contact stays
        return
    left = [each.aor for each in notice.info.registrations if each.state == "active"]
    left = [each for each in left if aor_of_text(each) in known[1]]
    if left and not _is_outdated(notice, left):
        yield Wrong(
            f"{', '.join(shown(each) for each in left)} still active after the de-registration of the set",
            record,
            newest.final,
        )


def _is_outdated(notice: Notice, left: list[str]) -> bool:
    """True when the next document takes all of it back at once: this one had been waiting for its connection."""
    assert notice.subscription is not None
    later = notice.subscription.notices
    later = later[later.index(notice) + 1 :][:1]
    for each in later:
        soon = each.record.time - notice.record.time < OVERTAKING
        if soon and each.info is not None and each.info.state == "full":
            return not any(one.state == "active" and one.aor in left for one in each.info.registrations)
    return False


#: 24.229 5.4.1.5: what the contacts of a NOTIFY say after an RTR.
_ENDINGS = {
    ReasonCode.PERMANENT_TERMINATION: ("DER-10", "rejected"),
    ReasonCode.SERVER_CHANGE: ("DER-11", "deactivated"),
}


def _ending(record: SipRecord, trace: Trace, rule: str) -> Iterator[Wrong]:
    notice = notices_of(trace).of(record)
    if notice is None or notice.info is None:
        return
    for each in notice.info.registrations:
        found = _termination(aor_of_text(each.aor), record, trace)
        if found is None or _ENDINGS.get(found[1], ("", ""))[0] != rule:
            continue
        expected = _ENDINGS[found[1]][1]
        wrong = {one.event for one in each.contacts if one.state == "terminated"} - {expected}
        if wrong:
            yield Wrong(
                f'{shown(each.aor)}: event="{", ".join(sorted(wrong))}" after an RTR with {found[1].name}: '
                f"expected {expected}",
                record,
                found[0],
            )
            return


def _termination(aor: str, record: SipRecord, trace: Trace) -> tuple[Record, ReasonCode] | None:
    """The RTR that has just ended the registration of an identity, and its reason."""
    users = trace.derived(_told_sets).get(aor, [])
    names = [aor, *({users[-1][0].impi} if users else ())]
    exchanges = exchanges_of(trace)
    for user in names:
        rtr = exchanges.last_asked(RTR, user, record)
        asked = None if rtr is None else rtr.asked
        if rtr is None or not isinstance(asked, RegistrationTerminationRequest) or asked.reason is None:
            continue
        if record.time - rtr.request.time > AFTER_RTR or (rtr.answer is not None and not rtr.succeeded):
            continue
        if user != aor and rtr.impus and aor not in rtr.impus:
            continue
        newest = next((each for each in attempts_of(trace).before(aor, record) if each.accepted), None)
        if newest is None or newest.final is None or order(newest.final) < order(rtr.request):
            return rtr.request, asked.reason.code
    return None


@on_sip(
    "DER-10", "29.229 6.3.17; 24.229 5.4.1.5 (unconfirmed)", role=Role.SCSCF, hop=Hop.MW, method="NOTIFY", request=True
)
def permanent_termination_is_a_rejection(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After an RTR with PERMANENT_TERMINATION the contacts are terminated with event "rejected"."""
    yield from _ending(record, trace, "DER-10")


@on_sip("DER-11", "29.228 6.1.3.1; 29.229 6.3.17", role=Role.SCSCF, hop=Hop.MW, method="NOTIFY", request=True)
def server_change_is_a_deactivation(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After an RTR with SERVER_CHANGE the contacts are terminated with event "deactivated", so that the UE returns."""
    yield from _ending(record, trace, "DER-11")
