"""The registrations of a trace: what was asked, how it ended, and whether what can be recomputed is right.

A registration is one procedure of a UE: a REGISTER, and if it is challenged those that answer the challenge, up to the
final answer. A later re-REGISTER or de-REGISTER is a registration of its own. It is told from the REGISTERs nearest to
the UE, those with the fewest Vias that the trace shows of a Call-ID.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from imslab.aka.digest import aka_password, digest_response, split_nonce
from imslab.aka.vector import open_autn
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.diameter.dictionary import by_name
from imslab.sip.fields.digest import DigestChallenge, DigestCredentials
from imslab.sip.grammar import unquote
from imslab.sip.message import Message
from imslab.trace.identity import impi_of, impu_of, is_third_party, via_count
from imslab.trace.model import DiameterRecord, Role, SaSetView, SaView, SipRecord

if TYPE_CHECKING:
    from imslab.trace.trace import Trace

#: Parameters of a challenge or of credentials: name in lower case → plain value.
_Params = dict[str, str]

#: Answers after which the same procedure goes on with a better REGISTER.
_GO_ON = frozenset((401, 407, 421, 423, 494))
_CHALLENGES = frozenset((401, 407))
#: How many Cx messages about one identity a registration can have. It takes some ten; what is counted beyond belongs to
#: others of the same user at the same time, whom a hostile capture may have by the thousand.
MOST_CX = 100


class Outcome(StrEnum):
    """How a registration ended."""

    REGISTERED = "registered"
    REJECTED = "rejected"
    NO_ANSWER = "no-answer"
    CHALLENGE_UNANSWERED = "challenge-unanswered"
    DEREGISTERED = "deregistered"


class Autn(StrEnum):
    """What became of the network's proof in the last challenge."""

    OK = "ok"
    MAC_FAILURE = "mac-failure"
    SQN_FAILURE = "sqn-failure"
    UNKNOWN_KEY = "unknown-key"


class Response(StrEnum):
    """What became of the UE's proof."""

    OK = "ok"
    MISMATCH = "mismatch"
    UNKNOWN_KEY = "unknown-key"
    ABSENT = "absent"


@dataclass(slots=True)
class Step:
    """One message of a registration. frame: where to look; None in a trace without frames."""

    time: float
    frame: int | None
    source: str
    target: str
    summary: str


@dataclass(slots=True, eq=False)
class Registration:
    """One registration.

    requests: the REGISTERs nearest to the UE, without retransmissions, in order. finals: the final answer to each,
    None where there was none. records: all that belongs to it on all hops, Cx too, in order. agreed: the SA set that
    its challenge made, or in which it was carried. qop: of the response that was checked, "" if none.
    """

    call_id: str
    impi: str
    impu: str
    ue: Endpoint
    outcome: Outcome = Outcome.NO_ANSWER
    algorithm: str = ""
    autn: Autn = Autn.UNKNOWN_KEY
    response: Response = Response.ABSENT
    qop: str = ""
    requests: list[SipRecord] = field(default_factory=list)
    finals: list[SipRecord | None] = field(default_factory=list)
    records: list[SipRecord | DiameterRecord] = field(default_factory=list)
    agreed: SaSetView | None = None

    @property
    def steps(self) -> list[Step]:
        """Its messages on all hops, in order."""
        return [
            Step(
                record.time,
                record.frames[-1] if record.frames else None,
                _who(record.sender, record.src),
                _who(record.receiver, record.dst),
                summary(record),
            )
            for record in self.records
        ]

    @property
    def sas(self) -> list[SaView]:
        """The four SAs of its set, those without traffic too; none when nothing was agreed on."""
        return [] if self.agreed is None else self.agreed.sas

    @property
    def challenges(self) -> list[SipRecord]:
        """The 401s nearest to the UE."""
        return [final for final in self.finals if final is not None and _status(final) in _CHALLENGES]

    @property
    def final(self) -> SipRecord | None:
        """The answer that ended it; None when the last REGISTER got none."""
        return self.finals[-1]

    @property
    def succeeded(self) -> bool:
        """True when the network did what was asked."""
        return self.outcome in (Outcome.REGISTERED, Outcome.DEREGISTERED)

    def as_json(self) -> dict[str, Any]:
        """The registration as `pcap verify --json` and `run --json` show it. It holds no keys."""
        return {
            "impi": self.impi,
            "impu": self.impu,
            "outcome": str(self.outcome),
            "algorithm": self.algorithm,
            "autn": str(self.autn),
            "response": str(self.response),
            "qop": self.qop,
            "call_id": self.call_id,
            "sa": [sa_as_json(sa) for sa in self.sas],
            "steps": [
                {
                    "time": step.time,
                    "frame": step.frame,
                    "from": step.source,
                    "to": step.target,
                    "summary": step.summary,
                }
                for step in self.steps
            ],
        }


def sa_as_json(sa: SaView) -> dict[str, Any]:
    """An SA as the commands' JSON shows it."""
    return {
        "spi": sa.spi,
        "src": sa.src.host,
        "sport": sa.src.port,
        "dst": sa.dst.host,
        "dport": sa.dst.port,
        "alg": sa.alg,
        "ealg": sa.ealg,
        "packets": sa.packets,
        "icv_ok": sa.icv_ok,
        "icv_bad": sa.icv_bad,
        "replayed": sa.replayed,
    }


def verdict(trace: Trace) -> str:
    """ "pass": a registration succeeded and nothing that could be checked was wrong. "fail": something was wrong, or
    none succeeded. "inconclusive": the trace does not show enough to say."""
    registrations = trace.registrations
    wrong = any(each.autn is Autn.MAC_FAILURE or each.response is Response.MISMATCH for each in registrations)
    if wrong or any(sa.icv_bad for sa in trace.sas):
        return "fail"
    if any(each.succeeded for each in registrations):
        return "pass"
    if all(_unseen(each, trace) for each in registrations):
        return "inconclusive"
    return "fail"


#: Seconds after the last message of a registration without which a trace has not waited for the next one.
PATIENCE = 2.0


def _unseen(registration: Registration, trace: Trace) -> bool:
    """True when it may have gone on where the trace does not show it: in ESP that nobody could open or that was not
    captured, though the core goes on with it; or after the trace's end."""
    if registration.outcome not in (Outcome.CHALLENGE_UNANSWERED, Outcome.NO_ANSWER):
        return False
    last = registration.records[-1]
    if trace.records[-1].time - last.time < PATIENCE and len(registration.requests) == 1:
        return not any(trace.is_retransmission(each) for each in registration.records if isinstance(each, SipRecord))
    if registration.outcome is Outcome.NO_ANSWER:
        return False
    packets = [sa for sa in registration.sas if sa.packets]
    if any(not sa.icv_ok for sa in packets):
        return True
    asked = registration.requests[-1].message.get("CSeq")
    later = (
        each
        for each in trace.sip(method="REGISTER", call_id=registration.call_id, request=True)
        if each.time > last.time and each.message.get("CSeq") != asked
    )
    return not packets and next(later, None) is not None


def find_registrations(trace: Trace) -> list[Registration]:
    """All registrations of a trace, in the order in which they began."""
    calls: dict[str, list[SipRecord]] = {}
    for record in trace.sip(method="REGISTER"):
        calls.setdefault(record.message.get("Call-ID") or "", []).append(record)
    cx = _CxIndex(trace)
    found: list[Registration] = []
    for call_id, records in calls.items():
        found.extend(_of_one_call(trace, call_id, records, cx))
    found.sort(key=lambda each: (each.requests[0].time, each.requests[0].frames))
    return found


def _of_one_call(trace: Trace, call_id: str, records: list[SipRecord], cx: _CxIndex) -> list[Registration]:
    requests = [
        (via_count(record.message), record)
        for record in records
        if record.message.is_request and not is_third_party(record.message)
    ]
    if not requests:
        return []
    nearest = min(vias for vias, _ in requests)
    found: list[Registration] = []
    current: Registration | None = None
    asked: set[str] = set()
    owner: dict[str, Registration] = {}
    for vias, record in requests:
        cseq = record.message.get("CSeq") or ""
        if vias != nearest or cseq in asked or trace.is_retransmission(record):
            continue
        asked.add(cseq)
        if current is None or not _goes_on(trace, current, record):
            current = Registration(call_id, impi_of(record.message), impu_of(record.message), record.src)
            found.append(current)
        current.impi = current.impi or impi_of(record.message)
        current.requests.append(record)
        current.finals.append(trace.final_response(record))
        owner[cseq] = current
    for record in records:
        registration = owner.get(record.message.get("CSeq") or "")
        if registration is not None:
            registration.records.append(record)
    for registration in found:
        _judge(trace, registration)
        _collect(registration, cx)
    return found


def _goes_on(trace: Trace, current: Registration, record: SipRecord) -> bool:
    """True when a REGISTER belongs to the procedure before it."""
    final = current.final
    if final is None or _status(final) not in _GO_ON:
        return False
    if _status(final) not in _CHALLENGES:
        return True
    challenge = _challenge(final.message)
    if challenge is None:
        return True
    credentials = _credentials(record.message)
    # whoever answers a challenge, be it only to say that its MAC is wrong, names its nonce (24.229 5.1.1.5.3)
    named = None if credentials is None else credentials.get("nonce")
    if named == challenge.get("nonce"):
        return credentials is not None
    if not named:
        return False
    # a request that was repeated for long may have got another challenge; that is the one which has arrived
    for each in trace.responses_to(current.requests[-1]):
        if _status(each) in _CHALLENGES and (_challenge(each.message) or {}).get("nonce") == named:
            current.finals[-1] = each
            return True
    return False


def _judge(trace: Trace, registration: Registration) -> None:
    final = registration.final
    status = None if final is None else _status(final)
    if status is None:
        registration.outcome = Outcome.NO_ANSWER
    elif status < 300:
        leaving = _asks_to_leave(registration.requests[-1].message)
        registration.outcome = Outcome.DEREGISTERED if leaving else Outcome.REGISTERED
    elif status in _CHALLENGES:
        registration.outcome = Outcome.CHALLENGE_UNANSWERED
    else:
        registration.outcome = Outcome.REJECTED
    credentials = [_credentials(request.message) for request in registration.requests]
    challenges = registration.challenges
    if challenges:
        _judge_challenge(trace, registration, challenges[-1], credentials)
    _judge_response(trace, registration, credentials)
    if registration.agreed is None:
        carried = next((each for each in registration.requests if each.spi is not None), None)
        if carried is not None:
            registration.agreed = trace.set_of(carried)


def _judge_challenge(
    trace: Trace, registration: Registration, record: SipRecord, credentials: list[_Params | None]
) -> None:
    challenge = _challenge(record.message)
    if challenge is None:
        return
    registration.algorithm = challenge.get("algorithm", "MD5")
    nonce = challenge.get("nonce")
    if not registration.algorithm.lower().startswith("aka"):
        return
    try:
        rand, autn, _ = split_nonce(nonce or "")
    except PeerError:
        return
    registration.agreed = trace.set_of_challenge(rand, record.dst.host)
    answers = [each for each in credentials if each is not None and each.get("nonce") == nonce]
    algorithm = trace.keys.algorithm(registration.impi)
    if algorithm is not None:
        ak = algorithm.f2345(rand)[3]
        registration.autn = Autn.OK if open_autn(algorithm, rand, autn, ak).mac_ok else Autn.MAC_FAILURE
    # RFC 3310 3.4: auts says that the MAC was right and the sequence number was not
    if any(each.get("auts") for each in answers):
        if registration.autn is not Autn.MAC_FAILURE:
            registration.autn = Autn.SQN_FAILURE
    elif algorithm is None and answers and not any(each.get("response") for each in answers):
        registration.autn = Autn.MAC_FAILURE  # the UE says so: neither response nor auts (24.229 5.1.1.5.3)


def _judge_response(trace: Trace, registration: Registration, credentials: list[_Params | None]) -> None:
    for request, given in zip(reversed(registration.requests), reversed(credentials), strict=True):
        if given is not None and given.get("response"):
            registration.qop = given.get("qop", "")
            registration.response = _check_response(trace, request.message, given, registration.impi)
            return


def check_response(trace: Trace, message: Message, impi: str = "") -> Response:
    """The response of a request with AKA credentials, recomputed with every RES that is known for its nonce."""
    credentials = _credentials(message)
    return Response.ABSENT if credentials is None else _check_response(trace, message, credentials, impi)


def _check_response(trace: Trace, message: Message, credentials: _Params, impi: str) -> Response:
    given = credentials.get("response", "")
    if not given:
        return Response.ABSENT
    algorithm = credentials.get("algorithm", "MD5")
    nonce = credentials.get("nonce", "")
    auts = credentials.get("auts", "")
    try:
        rand = split_nonce(nonce)[0]
        passwords = [
            aka_password(algorithm, each.res, each.ck, each.ik)
            for each in trace.keys.sessions(rand, impi)
            if each.res is not None
        ]
        if auts:
            passwords = [b""]
        for password in passwords:
            expected = digest_response(
                algorithm=algorithm,
                username=credentials.get("username", ""),
                realm=credentials.get("realm", ""),
                password=password,
                nonce=nonce,
                method=message.method,
                uri=credentials.get("uri", ""),
                qop=credentials.get("qop", ""),
                nc=credentials.get("nc", ""),
                cnonce=credentials.get("cnonce", ""),
                body=message.body,
                auts=auts,
            )
            if expected == given.lower():
                return Response.OK
    except PeerError:
        return Response.UNKNOWN_KEY if not algorithm.lower().startswith("aka") else Response.MISMATCH
    return Response.MISMATCH if passwords else Response.UNKNOWN_KEY


def _collect(registration: Registration, cx: _CxIndex) -> None:
    """Put the Cx messages about its user to its SIP messages."""
    start = registration.records[0].time
    end = registration.records[-1].time
    records: list[SipRecord | DiameterRecord] = list(registration.records)
    records.extend(cx.about((registration.impi, registration.impu), start, end))
    records.sort(key=lambda each: (each.time, each.frames[-1:]))
    registration.records = records


class _CxIndex:
    """The Cx messages of a trace by the identities that they are about."""

    def __init__(self, trace: Trace) -> None:
        self._by_identity: dict[str, list[DiameterRecord]] = {}
        self._times: dict[str, list[float]] = {}
        names = [by_name("User-Name"), by_name("Public-Identity")]
        for record in trace.diameter_records:
            if not 300 <= record.message.command <= 305 or not record.message.request:
                continue
            answer = trace.answer_to(record)
            for name in names:
                for avp in record.message.find_all(name.code, name.vendor):
                    known = self._by_identity.setdefault(avp.data.decode("utf-8", "replace"), [])
                    known.append(record)
                    if answer is not None:
                        known.append(answer)
        for identity, records in self._by_identity.items():
            records.sort(key=lambda each: each.time)
            self._times[identity] = [record.time for record in records]

    def about(self, identities: Sequence[str], start: float, end: float) -> list[DiameterRecord]:
        """Those about any of the identities from `start` to `end`, not more than MOST_CX about each."""
        found: dict[DiameterRecord, None] = {}
        for identity in identities:
            times = self._times.get(identity, [])
            records = self._by_identity.get(identity, [])
            first = bisect_left(times, start)
            found.update(dict.fromkeys(records[first : min(bisect_right(times, end), first + MOST_CX)]))
        return list(found)


def summary(record: SipRecord | DiameterRecord) -> str:
    """A message in a few words: "REGISTER", "401 Unauthorized", "MAA 2001"."""
    if isinstance(record, SipRecord):
        status = _status(record)
        if status is None:
            text = getattr(record.message, "method", "")
        else:
            text = f"{status} {getattr(record.message, 'reason', '')}".rstrip()
        return f"{text} (ESP 0x{record.spi:08x})" if record.spi is not None else text
    message = record.message
    if message.request:
        return message.name
    try:
        result = message.experimental_result
        result = message.result_code if result is None else result
    except PeerError:
        result = None
    return message.name if result is None else f"{message.name} {result}"


def _who(role: Role, endpoint: Endpoint) -> str:
    return str(endpoint) if role is Role.UNKNOWN else str(role)


def _status(record: SipRecord) -> int | None:
    return None if record.message.is_request else getattr(record.message, "status", None)


def _asks_to_leave(message: Message) -> bool:
    """True for a REGISTER that removes bindings (RFC 3261 10.2.2): every contact has an expiry of zero."""
    try:
        contacts = message.contact
        default = message.expires
        if not contacts:
            return False
        return all((default if each.is_star or each.expires is None else each.expires) == 0 for each in contacts)
    except PeerError:
        return False


def _challenge(message: Message) -> _Params | None:
    return message.derived(_read_challenge)


def _read_challenge(message: Message) -> _Params | None:
    try:
        found = [_params(each) for each in message.www_authenticate or message.proxy_authenticate]
    except PeerError:
        return None
    aka = [each for each in found if each.get("algorithm", "").lower().startswith("aka")]
    found = aka or found
    return found[0] if found else None


def _credentials(message: Message) -> _Params | None:
    return message.derived(_read_credentials)


def _read_credentials(message: Message) -> _Params | None:
    try:
        found = message.authorization or message.proxy_authorization
    except PeerError:
        return None
    return _params(found[0]) if found else None


def _params(digest: DigestChallenge | DigestCredentials) -> _Params:
    """Name in lower case → plain value; without those that are there twice, of which nobody knows which one counts."""
    found = {name.lower(): unquote(value) for name, value in digest.params}
    if len(found) != len(digest.params):
        for name in digest.duplicates:
            del found[name]
    return found
