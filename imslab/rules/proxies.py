"""Rules about what a proxy may do to a message on its way (RFC 3261 16), and about the I-CSCF's choice of a server.

They hold for P-CSCF, I-CSCF and S-CSCF alike: a finding blames whoever passed the message on. A box that makes the
message anew, with Vias of its own, is no proxy, and is not judged here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from imslab.diameter.codes import UserAuthorizationType
from imslab.diameter.cx import UAR
from imslab.rules.attempts import aor_of
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter, on_sip
from imslab.rules.exchanges import aor_of_text, exchanges_of
from imslab.rules.mw import networks, texts
from imslab.rules.reading import credentials, host_is, leaves, order, param, quiet, shown, uri_port, what
from imslab.sip.message import Message
from imslab.sip.uri import Uri
from imslab.trace.model import DiameterRecord, Hop, Role, SipRecord
from imslab.trace.trace import Trace, status_of

_PROXIES = (Role.PCSCF, Role.ICSCF, Role.SCSCF)


def _branches(message: Message) -> list[str]:
    return message.derived(_read_branches)


def _read_branches(message: Message) -> list[str]:
    return [each.branch or "" for each in quiet(lambda: message.via) or ()]


class _Passed:
    """The message that a proxy passed on as another one; each looked up once."""

    __slots__ = ("_known", "_trace")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[SipRecord, SipRecord | None] = {}

    def before(self, record: SipRecord) -> SipRecord | None:
        """The message; None where there is none in the trace, and for one that was made anew."""
        if record not in self._known:
            self._known[record] = self._find(record)
        return self._known[record]

    def _find(self, record: SipRecord) -> SipRecord | None:
        if record.sender not in _PROXIES or self._trace.is_retransmission(record):
            return None
        before = self._trace.relayed_from(record)
        if before is None:
            return None
        mine, its = _branches(record.message), _branches(before.message)
        if not set(mine) & set(its) - {""}:
            return None
        more, fewer = (its, mine) if len(its) > len(mine) else (mine, its)
        if len(more) > len(fewer) and fewer[0] not in more:
            # A REGISTER that the P-CSCF sent anew, after a long silence, bears another branch of it below: this is the
            # same request in another sending, whose own arrival the capture shows elsewhere or not at all.
            return None
        between = set(more[1 : len(more) - len(fewer)])
        # From one UE to another it went round through the core, and back through the same P-CSCF: a capture of Gm
        # alone shows its two ends and nobody who passed it on from the one to the other.
        return before if not between or between & self._trace.derived(_Shown).branches else None


class _Shown:
    """Whose turn is in the trace: the branches that stand on top of a message."""

    __slots__ = ("branches",)

    def __init__(self, trace: Trace) -> None:
        self.branches = {branches[0] for each in trace.sip_records if (branches := _branches(each.message))}


def _proxied(record: SipRecord, trace: Trace) -> SipRecord | None:
    """The message that a proxy passed on as this one. A box that made it anew, with Vias of its own, is no proxy."""
    return trace.derived(_Passed).before(record)


@on_sip("MW-01", "RFC 3261 16.6", role=Role.PCSCF, request=True)
def hops_are_counted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Every proxy lowers Max-Forwards by one."""
    before = _proxied(record, trace)
    left = record.message.max_forwards
    had = None if before is None else quiet(lambda: before.message.max_forwards)
    if before is None or had is None:
        return
    if left is None:
        yield Wrong(f"{what(record)} passed on without Max-Forwards: it had {had}", record, before, role=record.sender)
    elif left >= had:
        yield Wrong(
            f"{what(record)} passed on with Max-Forwards {left}: expected {max(0, had - 1)}",
            record,
            before,
            role=record.sender,
        )


@on_sip("MW-02", "RFC 3261 16.7", role=Role.PCSCF, request=False)
def own_via_is_removed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A proxy takes its own Via off a response, and leaves the others."""
    before = _proxied(record, trace)
    if before is None or status_of(record) == 100:  # 100 is each hop's own
        return
    mine, its = _branches(record.message), _branches(before.message)
    if mine == its:
        yield Wrong(f"{what(record)} passed on with the proxy's own Via on top", record, before, role=record.sender)
    elif mine != its[1:]:
        yield Wrong(
            f"{what(record)} passed on with {len(mine)} Vias: expected the {len(its) - 1} below the proxy's own",
            record,
            before,
            role=record.sender,
        )


@on_sip("MW-03", "RFC 3261 16.6, 16.7", role=Role.PCSCF)
def tags_are_left_alone(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A proxy changes neither the tag of From nor that of To."""
    before = _proxied(record, trace)
    if before is None or status_of(record) == 100:
        return
    for name in ("From", "To"):
        if record.message.get(name) == before.message.get(name):
            continue
        now, then = _tag(record.message, name), quiet(lambda n=name: _tag(before.message, n))  # type: ignore[misc]
        if now != then:
            yield Wrong(
                f"{what(record)} passed on with tag {shown(now or '-')} in {name}: it had {shown(then or '-')}",
                record,
                before,
                role=record.sender,
            )


def _tag(message: Message, name: str) -> str | None:
    return message.from_.tag if name == "From" else message.to.tag


@on_sip(
    "MW-04",
    "24.229 5.4.1.2.2F; RFC 3608 6.1",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    method="REGISTER",
    status=range(200, 300),
)
def routes_and_identities_reach_the_ue(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Service-Route and P-Associated-URI of a 200 reach the UE whole and in their order."""
    before = _proxied(record, trace)
    if before is None:
        return
    for name in ("Service-Route", "P-Associated-URI"):
        had, has = texts(before.message, name), texts(record.message, name)
        rest = iter(has)
        lost = next((each for each in had if each not in rest), None)  # `in` consumes: order counts
        if lost is not None:
            why = "lost" if lost not in has else "out of its order"
            yield Wrong(f"{name} {shown(lost)} of the 200 is {why}", record, before, role=record.sender)


# --- I-CSCF ----------------------------------------------------------------------------------------------------------


@on_sip(
    "MW-05",
    "24.229 5.3.1.2",
    role=Role.ICSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def register_goes_to_the_named_server(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The I-CSCF sends a REGISTER to the S-CSCF that the HSS named."""
    before = _proxied(record, trace)
    if record.sender is not Role.ICSCF or before is None:
        return
    found = exchanges_of(trace).during(UAR, aor_of(record.message), before, record)
    if len(found) != 1 or found[0].uaa is None or found[0].answer is None:
        return
    if not found[0].succeeded:
        yield Wrong("REGISTER goes on though the UAA said no", record, found[0].answer)
    named = found[0].uaa.server_name
    server = None if named is None else quiet(lambda: Uri.parse(named or ""))
    uri: Uri = record.message.request_uri  # type: ignore[attr-defined]
    if server is None or (host_is(server.host, "") is None) is not (host_is(uri.host, "") is None):
        return  # a name and an address may be the same box
    if (server.host.lower(), uri_port(server)) != (uri.host.lower(), uri_port(uri)):
        yield Wrong(f"REGISTER goes to {shown(str(uri))}: the HSS named {shown(str(server))}", record, found[0].answer)


@on_sip(
    "MW-07",
    "29.228 6.1.1; 24.229 5.3.1.2",
    role=Role.ICSCF,
    basis=Basis.SECOND_HAND,
    level=Level.WARNING,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def hss_is_asked_first(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The I-CSCF asks the HSS (UAR) before it passes a REGISTER on."""
    before = _proxied(record, trace)
    if record.sender is not Role.ICSCF or before is None:
        return
    # one question may be missing in the capture; that all are, and the box speaks Cx, is no chance
    passed = trace.derived(_unasked).get(record.src.host)
    if passed is not None and passed[0] is record:
        yield Wrong(f"{len(passed)} REGISTERs go on, and the HSS is asked about none of them", record, before)


def _unasked(trace: Trace) -> dict[str, list[SipRecord]]:
    """The REGISTERs passed on by hosts that speak Cx as an I-CSCF, but never ask about a REGISTER."""
    asks = {each.request.src.host for each in exchanges_of(trace).all if each.command == UAR}
    asks |= {each.dst.host for each in exchanges_of(trace).orphans if each.message.command == UAR}
    speaks = {end.host for end, role in trace.topology.diameter.items() if role is Role.ICSCF}
    passed: dict[str, list[SipRecord]] = {}
    for record in trace.sip(method="REGISTER", request=True, hop=Hop.MW, sender=Role.ICSCF):
        if not trace.is_retransmission(record):
            passed.setdefault(record.src.host, []).append(record)
    return {host: each for host, each in passed.items() if len(each) > 1 and host in speaks - asks}


@on_sip(
    "MW-08",
    "RFC 3261 16.6; RFC 3327 5.2; 24.229 5.3.1.2",
    role=Role.ICSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def register_is_passed_on_whole(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The I-CSCF leaves Authorization, Path, P-Visited-Network-ID and Contact of a REGISTER as they are."""
    before = _proxied(record, trace)
    if record.sender is not Role.ICSCF or before is None:
        return
    for name in ("Path", "P-Visited-Network-ID", "Contact"):
        had, has = texts(before.message, name), texts(record.message, name)
        if had and has[-len(had) :] != had:  # a proxy that wants to be in the Path puts itself before the others
            told = f"with {name} {shown(', '.join(has))}" if has else f"without {name}"
            yield Wrong(f"REGISTER goes on {told}: it had {shown(', '.join(had))}", record, before)
    if before.message.rows("Authorization") != record.message.rows("Authorization"):
        one, other = _flags(before.message), _flags(record.message)
        if one != other:
            yield Wrong(
                f"REGISTER goes on with integrity-protected={shown(other or '-')}: it had {shown(one or '-')}",
                record,
                before,
            )
        else:
            yield Wrong("REGISTER goes on with another Authorization", record, before)


def _flags(message: Message) -> str:
    """The values of integrity-protected."""
    given = credentials(message)
    return "" if given is None else ", ".join(given.get_all("integrity-protected"))


@on_diameter("MW-06", "29.228 6.1.1", role=Role.ICSCF, name="UAR")
def question_is_about_the_register(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The UAR names the user and the visited network of the REGISTER, and says when it is a de-registration."""
    exchange = exchanges_of(trace).of(record)
    uar = None if exchange is None else exchange.uar
    if exchange is None or uar is None or not uar.public_identity:
        return
    asked = trace.derived(_at_icscf).get(aor_of_text(uar.public_identity), [])
    end = bisect_left(asked, order(record), key=order)
    nearest = asked[end - 1] if end else None
    if nearest is None or record.time - nearest.time > 1 or (end > 1 and nearest.time - asked[end - 2].time < 1):
        return  # not surely about this one
    message = nearest.message
    given = credentials(message)
    impi = "" if given is None else param(given, "username") or ""
    if impi and uar.user_name and impi != uar.user_name:
        yield Wrong(f"UAR about {shown(uar.user_name)}: the REGISTER is of {shown(impi)}", record, nearest)
    named = networks(message)
    if named and uar.visited_network and uar.visited_network not in named:
        yield Wrong(
            f"UAR with visited network {shown(uar.visited_network)}: the REGISTER has {shown(named[0])}",
            record,
            nearest,
        )
    leaving = uar.authorization_type is UserAuthorizationType.DE_REGISTRATION
    if leaving is not leaves(message):
        kind = "no type" if uar.authorization_type is None else uar.authorization_type.name
        asks = "removes its contacts" if leaves(message) else "asks for a registration"
        yield Wrong(f"UAR with {kind}: the REGISTER {asks}", record, nearest, level=Level.WARNING)


def _at_icscf(trace: Trace) -> dict[str, list[SipRecord]]:
    """The REGISTERs that an I-CSCF got, by IMPU."""
    found: dict[str, list[SipRecord]] = {}
    for record in trace.sip(method="REGISTER", request=True, hop=Hop.MW, receiver=Role.ICSCF):
        if not trace.is_retransmission(record):
            found.setdefault(aor_of(record.message), []).append(record)
    return found
