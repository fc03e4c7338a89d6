"""SIP messages (RFC 3261 7): a start line, header rows, a body. Rows are split once, values read when asked for.

A message that nobody changed is written as the octets it was read from. In a changed one, untouched rows keep their
text. Typed values (`via`, `to`, `contact`, …) are copies: to change the message, write them back with `set`/`replace`.
Each raises PeerError when it is malformed, when a header that is no list is repeated, and when one is missing that
every message has (From, To, Call-ID, CSeq).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.access import AccessNetworkInfo
from imslab.sip.fields.address import Contact, NameAddr
from imslab.sip.fields.charging import ChargingFunctionAddresses, ChargingVector
from imslab.sip.fields.cseq import CSeq, RAck
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials
from imslab.sip.fields.event import Event, SubscriptionState
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.fields.via import Via
from imslab.sip.grammar import QUOTED, TOKEN_CHARS, encode, is_token, number, octets_of, peer_error, token, unquote
from imslab.sip.headers import HeaderRows, name_of
from imslab.sip.uri import Uri

T = TypeVar("T")
D = TypeVar("D", DigestChallenge, DigestCredentials)

_WORD = re.compile(r"[^\x00-\x20\x7f]+")
_STATUS = re.compile(r"(?i:SIP)/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.DOTALL)
_REQUEST = re.compile(rf"([{TOKEN_CHARS}]+) ([^\x00-\x20\x7f]+) (?i:SIP)/2\.0")
_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_MEDIA_TYPE = re.compile(rf"([{TOKEN_CHARS}]+)[ \t]*/[ \t]*([{TOKEN_CHARS}]+)[ \t]*(?=;|\Z)")
_QUOTED = re.compile(QUOTED, re.DOTALL)
_RETRY_AFTER = re.compile(r"[^ \t;(]*")
_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)

#: Reason phrases (RFC 3261 21, RFC 3262, RFC 3329, RFC 6665, …).
REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    424: "Bad Location Information",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
}


class Message(HeaderRows, ABC):
    """What requests and responses have in common. Made as Request or Response, or by `parser.parse`."""

    __slots__ = ("_body", "_octets")

    is_request = False

    def __init__(self, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        super().__init__([], [], changed=True)
        self.extend(headers)
        self._body = bytes(body)
        self._octets: bytes | None = None

    def keep_received(self, body: bytes, octets: bytes) -> None:
        """For `parser.parse`: the body of a message just read, and all its octets."""
        self._body = bytes(body)
        self._octets = bytes(octets)

    @abstractmethod
    def _start_line(self) -> str:
        """The first line, without its end."""

    @property
    def body(self) -> bytes:
        """The body, as long as Content-Length said."""
        return self._body

    @body.setter
    def body(self, octets: bytes) -> None:
        self._body = bytes(octets)
        self._changed = True
        self._derived = None

    @property
    def octets(self) -> bytes | None:
        """The message as it was received, whatever was changed since; None for one of our own."""
        return self._octets

    @property
    def changed(self) -> bool:
        """True if `encode` gives anything else than what was received."""
        return self._changed

    def encode(self) -> bytes:
        """The message as octets, with the right Content-Length. Unchanged: exactly as it was received."""
        if not self._changed and self._octets is not None:
            return self._octets
        keys, lines = self._keys, self._lines
        length = f"Content-Length: {len(self._body)}"
        count = keys.count("content-length")
        if not count:
            lines = [*lines, length]
        else:
            first = keys.index("content-length")
            lines = lines.copy()
            lines[first] = length
            if count > 1:
                lines = [line for i, line in enumerate(lines) if i == first or keys[i] != "content-length"]
        return encode("\r\n".join([self._start_line(), *lines, "\r\n"])) + self._body

    def copy(self) -> Self:
        """An independent copy."""
        made = type(self).__new__(type(self))
        made._keys = list(self._keys)
        made._lines = list(self._lines)
        made._changed = self._changed
        # Cached values are unchangeable, or are copied again when they are handed out.
        made._cache = dict(self._cache)
        made._derived = None
        made._body = self._body
        made._octets = self._octets
        return made

    def __bytes__(self) -> bytes:
        return self.encode()

    def __repr__(self) -> str:
        return f"<{self._start_line()[:120]!a}>"

    # Reading values: the common ways.

    def _single(self, key: str) -> str | None:
        rows = self._of_key(key)
        if not rows:
            return None
        if len(rows) > 1:
            # RFC 3261 7.3.1: only a header whose value is a list may appear more than once.
            raise PeerError(
                f"{name_of(key)} appears {len(rows)} times",
                clause="RFC 3261 7.3.1",
                octets=octets_of("\n".join(rows[:4])),
            )
        return rows[0]

    def _one(self, key: str, read: Callable[[str], T]) -> T | None:
        cache = self._cache
        if key in cache:
            found: T | None = cache[key]
            return found
        text = self._single(key)
        value = None if text is None else read(text)
        cache[key] = value
        return value

    def _mandatory(self, key: str, read: Callable[[str], T]) -> T:
        value = self._one(key, read)
        if value is None:
            raise PeerError(f"{name_of(key)} is missing", clause="RFC 3261 8.1.1", octets=self._octets or b"")
        return value

    def _list(self, key: str, read: Callable[[str], T]) -> list[T]:
        cached: list[T] | None = self._cache.get(key)
        if cached is None:
            cached = self._cache[key] = [read(piece) for piece in self.values(key)]
        return list(cached)

    def _digests(self, key: str, kind: type[D]) -> list[D]:
        # RFC 3261 7.3.1: each row of these is one value, whatever commas it holds.
        cached: list[D] | None = self._cache.get(key)
        if cached is None:
            # Credentials of another scheme need not be name=value pairs ("Basic QWxh…"): they are not looked into.
            digests = [row for row in self._of_key(key) if row.lower().split(None, 1)[:1] == ["digest"]]
            cached = self._cache[key] = [kind.parse(row) for row in digests]
        return [value.copy() for value in cached]

    def _seconds(self, key: str, clause: str) -> int | None:
        return self._one(key, lambda text: number(text, name_of(key), clause=clause))

    # RFC 3261

    @property
    def method(self) -> str:
        """The method: of the start line in a request, of CSeq in a response."""
        return self.cseq.method

    @property
    def via(self) -> list[Via]:
        """Top first."""
        return self._list("via", Via.parse)

    @property
    def from_(self) -> NameAddr:
        """From."""
        return self._mandatory("from", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        """To."""
        return self._mandatory("to", NameAddr.parse)

    @property
    def call_id(self) -> str:
        """Call-ID, compared octet by octet (RFC 3261 20.8)."""
        return self._mandatory("call-id", _read_call_id)

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        return self._mandatory("cseq", CSeq.parse)

    @property
    def max_forwards(self) -> int | None:
        """0–255 (RFC 3261 20.22); None if absent."""
        return self._one("max-forwards", lambda text: number(text, "Max-Forwards", 255, "RFC 3261 20.22"))

    @property
    def expires(self) -> int | None:
        """Seconds; None if absent."""
        return self._seconds("expires", "RFC 3261 20.19")

    @property
    def min_expires(self) -> int | None:
        """Seconds; None if absent."""
        return self._seconds("min-expires", "RFC 3261 20.23")

    @property
    def retry_after(self) -> int | None:
        """Seconds, without comment and duration; None if absent."""
        return self._one("retry-after", _read_retry_after)

    @property
    def contact(self) -> list[Contact]:
        """All contacts; `Contact: *` is one whose is_star is true. PeerError when it is not alone (RFC 3261 20.10)."""
        contacts = self._list("contact", Contact.parse)
        if len(contacts) > 1 and any(contact.is_star for contact in contacts):
            raise PeerError("Contact: * with others", clause="RFC 3261 20.10", octets=self._octets or b"")
        return contacts

    @property
    def route(self) -> list[NameAddr]:
        """Next hop first."""
        return self._list("route", NameAddr.parse)

    @property
    def record_route(self) -> list[NameAddr]:
        """Latest hop first."""
        return self._list("record-route", NameAddr.parse)

    @property
    def require(self) -> list[str]:
        """Option tags."""
        return self._tokens("require")

    @property
    def proxy_require(self) -> list[str]:
        """Option tags."""
        return self._tokens("proxy-require")

    @property
    def supported(self) -> list[str]:
        """Option tags."""
        return self._tokens("supported")

    @property
    def unsupported(self) -> list[str]:
        """Option tags."""
        return self._tokens("unsupported")

    @property
    def allow(self) -> list[str]:
        """Methods."""
        return self._tokens("allow")

    @property
    def allow_events(self) -> list[str]:
        """Event packages."""
        return self._tokens("allow-events")

    def _tokens(self, key: str) -> list[str]:
        return self._list(key, lambda text: token(text, name_of(key)))

    @property
    def accept(self) -> list[str]:
        """Media ranges with their parameters, as written."""
        return self._list("accept", str)

    @property
    def content_type(self) -> str:
        """type/subtype in lower case, without parameters (`get` has them); "" if absent."""
        return self._one("content-type", _read_media_type) or ""

    @property
    def content_length(self) -> int | None:
        """What the row says; None if absent. `encode` corrects it."""
        return self._seconds("content-length", "RFC 3261 20.14")

    @property
    def date(self) -> str | None:
        """The Date, which must be GMT (RFC 3261 20.17); None if absent."""
        return self._one("date", _read_date)

    # Authentication

    @property
    def authorization(self) -> list[DigestCredentials]:
        """Those of scheme Digest, one for each row."""
        return self._digests("authorization", DigestCredentials)

    @property
    def proxy_authorization(self) -> list[DigestCredentials]:
        """Those of scheme Digest, one for each row."""
        return self._digests("proxy-authorization", DigestCredentials)

    @property
    def www_authenticate(self) -> list[DigestChallenge]:
        """Those of scheme Digest, one for each row."""
        return self._digests("www-authenticate", DigestChallenge)

    @property
    def proxy_authenticate(self) -> list[DigestChallenge]:
        """Those of scheme Digest, one for each row."""
        return self._digests("proxy-authenticate", DigestChallenge)

    @property
    def authentication_info(self) -> AuthenticationInfo | None:
        """None if absent."""
        info = self._one("authentication-info", AuthenticationInfo.parse)
        return info and info.copy()

    @property
    def security_client(self) -> list[SecurityMechanism]:
        """What the UE offers (RFC 3329 2.2)."""
        return self._list("security-client", SecurityMechanism.parse)

    @property
    def security_server(self) -> list[SecurityMechanism]:
        """What the P-CSCF supports (RFC 3329 2.2)."""
        return self._list("security-server", SecurityMechanism.parse)

    @property
    def security_verify(self) -> list[SecurityMechanism]:
        """What the UE says that it had been told (RFC 3329 2.2)."""
        return self._list("security-verify", SecurityMechanism.parse)

    # Registration and identities

    @property
    def path(self) -> list[NameAddr]:
        """RFC 3327: the hop nearest to the registrar first."""
        return self._list("path", NameAddr.parse)

    @property
    def service_route(self) -> list[NameAddr]:
        """RFC 3608."""
        return self._list("service-route", NameAddr.parse)

    @property
    def p_associated_uri(self) -> list[NameAddr]:
        """RFC 7315 4.1; the first is the default identity (24.229 5.4.1.2.2F)."""
        return self._list("p-associated-uri", NameAddr.parse)

    @property
    def p_asserted_identity(self) -> list[NameAddr]:
        """RFC 3325 9.1."""
        return self._list("p-asserted-identity", NameAddr.parse)

    @property
    def p_preferred_identity(self) -> list[NameAddr]:
        """RFC 3325 9.2."""
        return self._list("p-preferred-identity", NameAddr.parse)

    @property
    def p_called_party_id(self) -> NameAddr | None:
        """RFC 7315 4.2; None if absent."""
        return self._one("p-called-party-id", NameAddr.parse)

    @property
    def p_access_network_info(self) -> list[AccessNetworkInfo]:
        """RFC 7315 4.4."""
        return self._list("p-access-network-info", AccessNetworkInfo.parse)

    @property
    def p_visited_network_id(self) -> list[str]:
        """RFC 7315 4.3: names without quotes and parameters."""
        return self._list("p-visited-network-id", _read_network_id)

    @property
    def p_charging_vector(self) -> ChargingVector | None:
        """RFC 7315 4.6; None if absent."""
        return self._one("p-charging-vector", ChargingVector.parse)

    @property
    def p_charging_function_addresses(self) -> ChargingFunctionAddresses | None:
        """RFC 7315 4.5; None if absent."""
        return self._one("p-charging-function-addresses", ChargingFunctionAddresses.parse)

    # Events and reliable provisional responses

    @property
    def event(self) -> Event | None:
        """RFC 6665 8.2.1; None if absent."""
        return self._one("event", Event.parse)

    @property
    def subscription_state(self) -> SubscriptionState | None:
        """RFC 6665 8.2.3; None if absent."""
        return self._one("subscription-state", SubscriptionState.parse)

    @property
    def rseq(self) -> int | None:
        """RFC 3262 7.1; None if absent."""
        return self._seconds("rseq", "RFC 3262 7.1")

    @property
    def rack(self) -> RAck | None:
        """RFC 3262 7.2; None if absent."""
        return self._one("rack", RAck.parse)


class Request(Message):
    """A request. uri: the Request-URI as text; `request_uri` is the parsed one."""

    __slots__ = ("_method", "_uri", "_uri_read")

    is_request = True

    def __init__(self, method: str, uri: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """Raises LocalError for what cannot be written."""
        if not is_token(method):
            raise LocalError(f"not a method: {method!a}")
        super().__init__(headers, body)
        self._method = method
        self._uri = _checked_uri(uri)
        self._uri_read: Uri | None = None

    def _start_line(self) -> str:
        return f"{self._method} {self._uri} SIP/2.0"

    def copy(self) -> Self:
        """An independent copy."""
        made = super().copy()
        made._method = self._method
        made._uri = self._uri
        made._uri_read = self._uri_read
        return made

    @property
    def method(self) -> str:
        """The method, case-sensitive."""
        return self._method

    @property
    def uri(self) -> str:
        """The Request-URI as text."""
        return self._uri

    @uri.setter
    def uri(self, text: str) -> None:
        self._uri = _checked_uri(str(text))
        self._uri_read = None
        self._changed = True
        self._derived = None

    @property
    def request_uri(self) -> Uri:
        """The Request-URI. Raises PeerError when it is malformed or has headers (RFC 3261 19.1.1 forbids them here)."""
        if self._uri_read is None:
            uri = Uri.parse(self._uri)
            if uri.headers:
                raise peer_error("Request-URI: with headers", self._uri, "RFC 3261 19.1.1")
            self._uri_read = uri
        return self._uri_read

    @property
    def cseq(self) -> CSeq:
        """CSeq, whose method must be that of the request (RFC 3261 8.1.1.5)."""
        cseq = self._mandatory("cseq", CSeq.parse)
        if cseq.method != self._method:
            raise peer_error(f"CSeq: its method is not {self._method}", str(cseq), "RFC 3261 8.1.1.5")
        return cseq


class Response(Message):
    """A response. reason: the phrase; left out, it is that of REASONS."""

    __slots__ = ("_reason", "_status")

    def __init__(
        self, status: int, reason: str = "", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        """Raises LocalError for what cannot be written."""
        if not 100 <= status <= 699:
            raise LocalError(f"not a status code: {status}")
        if "\r" in reason or "\n" in reason:
            raise LocalError(f"a reason phrase of more than one line: {reason[:80]!a}")
        encode(reason)
        super().__init__(headers, body)
        self._status = status
        self._reason = reason or REASONS.get(status, "")

    def _start_line(self) -> str:
        return f"SIP/2.0 {self._status} {self._reason}"

    def copy(self) -> Self:
        """An independent copy."""
        made = super().copy()
        made._status = self._status
        made._reason = self._reason
        return made

    @property
    def status(self) -> int:
        """100–699."""
        return self._status

    @property
    def reason(self) -> str:
        """The reason phrase, for humans."""
        return self._reason


def message_from_parts(first: str, keys: list[str], lines: list[str]) -> Message:
    """The message of a start line and the rows that `parser.parse` cut; the body comes with `keep_received`.

    Raises PeerError for a bad start line.
    """
    found = _REQUEST.fullmatch(first)
    if found is not None:
        request = Request.__new__(Request)
        HeaderRows.__init__(request, keys, lines, False)
        request._method, request._uri = found.groups()
        request._uri_read = None
        return request
    found = _STATUS.fullmatch(first)
    if found is not None:
        response = Response.__new__(Response)
        HeaderRows.__init__(response, keys, lines, False)
        response._status = int(found.group(1))
        response._reason = found.group(2) or ""
        return response
    if first[:4].upper() == "SIP/" and _VERSION.match(first):
        raise peer_error("malformed status line", first, "RFC 3261 7.2")
    if _VERSION.fullmatch(first.rpartition(" ")[2]) and first[-7:].upper() != "SIP/2.0":
        raise peer_error("not SIP/2.0", first, "RFC 3261 7.1")
    raise peer_error("malformed request line", first, "RFC 3261 7.1")


def response_to(
    request: Request, status: int, reason: str = "", *, to_tag: str = "", headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """A response to a request: Via, From, To, Call-ID and CSeq as they came (RFC 3261 8.2.6.2).

    to_tag: for the To that has no tag yet. What the request lacks, the response lacks too, so that a malformed request
    can be answered 400.
    """
    rows: list[tuple[str, str]] = [("Via", value) for value in request.rows("Via")]
    for name in ("From", "To", "Call-ID", "CSeq"):
        for value in request.rows(name):
            rows.append((name, _tagged(value, to_tag) if name == "To" and to_tag else value))
    return Response(status, reason, [*rows, *headers])


def _tagged(value: str, tag: str) -> str:
    try:
        known = NameAddr.parse(value).tag
    except PeerError:
        return value
    return f"{value};tag={tag}" if known is None else value


def _checked_uri(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise LocalError(f"not a Request-URI: {text[:80]!a}")
    encode(text)
    return text


def _read_call_id(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise peer_error("Call-ID: one word was expected", text, "RFC 3261 20.8")
    return text


def _read_retry_after(text: str) -> int:
    found = _RETRY_AFTER.match(text)
    return number(found.group() if found else "", "Retry-After", clause="RFC 3261 20.33")


def _read_media_type(text: str) -> str:
    found = _MEDIA_TYPE.match(text)
    if found is None:
        raise peer_error("Content-Type: type/subtype was expected", text, "RFC 3261 20.15")
    return f"{found.group(1)}/{found.group(2)}".lower()


def _read_date(text: str) -> str:
    if _DATE.fullmatch(text) is None:
        raise peer_error("Date: a date in GMT was expected", text, "RFC 3261 20.17")
    return text


def _read_network_id(text: str) -> str:
    quoted = _QUOTED.match(text)
    if quoted is not None:
        return unquote(quoted.group())
    return token(text.partition(";")[0].rstrip(" \t"), "P-Visited-Network-ID", "RFC 7315 5.3")
