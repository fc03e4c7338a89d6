"""The HSS as a node: Diameter connections in, Cx answered out of records that a store keeps.

The way of a request: octets → Peer → `_begin` asks the store for the records it names (Load) → `_advance`, when all are
there (Loaded) → CxService says what it leads to → [Persist(change), Send(answer), Send(RTR) …]. A change is durable
before its answer leaves, so no crash can make an SQN be handed out twice. While a change is on its way to the store the
node works on with its own newer record (`_latest`), so that two requests for one subscriber that overlap get two
different SQNs too; a store that several HSSs share refuses a change made from an older version (store.StaleChange).

What an operator asks for, as Commands:

    add       subscriber                               a new subscriber
    remove    identity                                 RTR to its S-CSCF where it is served, then it is gone
    rtr       identity, reason, info                   end registrations; an IMPU ends its set, an IMPI all it has
    ppr       identity, profiles, charging             change what the identity's set has, and tell its S-CSCF
    resend    identity                                 the same PPR without a change
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, cast

from hss.auc import AuthenticationCentre
from hss.cx import CxService, Outcome, Policy
from hss.faults import Faults, cut_mnc, peer_table
from hss.push import Push, profile_change, terminated, termination
from hss.store import Change
from hss.subscriber import RegistrationSet, Subscriber, canonical
from imslab.core import events as ev
from imslab.core.effects import Close, Effect, Emit, Listen, Load, Persist, Send
from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import AuthSessionState, CxResult, ReasonCode, ResultCode
from imslab.diameter.cx import (
    CxAnswer,
    CxRequest,
    LocationInfoRequest,
    MultimediaAuthRequest,
    PushProfileAnswer,
    RegistrationTerminationAnswer,
    ServerAssignmentRequest,
    UserAuthorizationRequest,
)
from imslab.diameter.dictionary import make
from imslab.diameter.grammar import cx_application
from imslab.diameter.message import DiameterMessage, StreamFramer, answer, new_session_id
from imslab.diameter.peer import WATCHDOG, Duplicates, Identity, Peer

#: The requests that an HSS answers.
_ANSWERED: dict[int, type[CxRequest]] = {
    request.COMMAND: request
    for request in (UserAuthorizationRequest, ServerAssignmentRequest, LocationInfoRequest, MultimediaAuthRequest)
}


@dataclass(frozen=True, slots=True)
class HssConfig:
    """Who the HSS is and where it listens.

    listen: TCP endpoints, usually port 3868. allowed: Origin-Hosts of its peers, None for all. push_timeout: seconds to
    wait for an RTA or PPA.
    """

    origin_host: str
    origin_realm: str
    listen: tuple[Endpoint, ...]
    allowed: frozenset[str] | None = None
    watchdog: float = WATCHDOG
    push_timeout: float = 10.0
    policy: Policy = field(default_factory=Policy)


_Found = dict[str, Subscriber | None]


class _Job:
    """Something that waits for records. key: as the store is asked; wanted: as the one who asked spells it."""

    __slots__ = ("found", "run", "wanted")

    def __init__(self, wanted: list[tuple[str, str]], run: Callable[[_Found], None]) -> None:
        self.wanted = wanted
        self.found: dict[str, Subscriber | None] = {}
        self.run = run


class HssNode:
    """A Node. name: for traces. entropy: RANDs, identifiers, session ids. faults: see hss.faults."""

    def __init__(self, name: str, config: HssConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        self.name = name
        self.config = config
        self.faults = Faults(faults)
        self._entropy = entropy
        self._service = CxService(AuthenticationCentre(entropy, self.faults), config.policy, self.faults)
        self._identity = Identity(
            config.origin_host, config.origin_realm, tuple(dict.fromkeys(each.host for each in config.listen))
        )
        self._table = peer_table(self.faults)
        self._duplicates = Duplicates()
        self._peers: dict[Flow, Peer] = {}
        self._loads: dict[str, deque[_Job]] = {}
        self._jobs = 0
        self._latest: dict[str, Subscriber | None] = {}
        self._uncommitted: dict[str, int] = {}
        self._effects: list[Effect] = []
        self._now = 0.0

    # --- the contract ---------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> None:
        """Take in one event."""
        self._now = now
        match event:
            case ev.Started():
                self._effects += [Listen(Transport.TCP, endpoint) for endpoint in self.config.listen]
            case ev.Connected(flow=flow):
                self._connected(flow)
            case ev.Arrival(flow=flow, octets=octets):
                self._arrived(flow, octets)
            case ev.Closed(flow=flow, reason=reason):
                self._closed(flow, reason)
            case ev.Timer():
                for flow, peer in list(self._peers.items()):
                    self._failed(peer)
                    self._flush(flow)
            case ev.Loaded(key=key, value=value):
                self._loaded(key, value)
            case ev.Committed(change=Change() as change):
                self._committed(change)
            case ev.Command(name=verb, arguments=arguments):
                self._command(verb, dict(arguments))
            case _:
                pass

    def next_timer(self) -> float | None:
        """When a peer wants to be called."""
        times = [time for peer in self._peers.values() if (time := peer.next_timer()) is not None]
        return min(times, default=None)

    def take(self) -> list[Effect]:
        """The effects since the last call."""
        effects, self._effects = self._effects, []
        return effects

    @property
    def peers(self) -> list[str]:
        """Origin-Hosts of the peers whose connections are open."""
        return [peer.peer_host for peer in self._peers.values() if peer.is_open]

    # --- connections ----------------------------------------------------------------------------------------------

    def _connected(self, flow: Flow) -> None:
        peer = Peer(
            self._identity,
            self._entropy,
            initiator=False,
            allowed=self.config.allowed,
            watchdog=self.config.watchdog,
            duplicates=self._duplicates,
            table=self._table,
        )
        self._peers[flow] = peer
        peer.connected(self._now)
        self._flush(flow)

    def _arrived(self, flow: Flow, octets: bytes) -> None:
        peer = self._peers.get(flow)
        if peer is None:
            return
        if "split-request-lost" in self.faults:
            octets = _whole_messages_only(octets)
        was_open = peer.is_open
        messages = peer.receive(octets, self._now)
        if peer.is_open and not was_open:
            self._emit("peer-open", f"{peer.peer_host} at {flow.remote}")
        for message in messages:
            if message.request:
                self._begin(peer, flow, message)
            else:
                self._pushed(cast(Push, message.key), message)
        self._failed(peer)
        self._flush(flow)

    def _closed(self, flow: Flow, reason: str) -> None:
        peer = self._peers.pop(flow, None)
        if peer is None:
            return
        peer.lost(self._now, reason or "connection closed")
        self._failed(peer)
        self._emit("peer-closed", f"{peer.peer_host or flow.remote}: {peer.reason or 'farewell'}")

    def _failed(self, peer: Peer) -> None:
        for key in peer.timed_out(self._now):
            push = cast(Push, key)
            self._emit("push-failed", f"{push.name} to {push.host} for {push.impi}: no answer")

    def _flush(self, flow: Flow) -> None:
        peer = self._peers.get(flow)
        if peer is None:
            return
        octets = peer.take_output()
        if octets:
            self._effects.append(Send(flow, octets))
        if peer.is_closed:
            self._effects.append(Close(flow))
            self._closed(flow, peer.reason)

    def _emit(self, kind: str, text: str) -> None:
        self._effects.append(Emit(kind, text))

    # --- records --------------------------------------------------------------------------------------------------

    def _load(self, identities: Iterable[str], run: Callable[[_Found], None]) -> None:
        """Call run with the records of these identities, as soon as the store has given them."""
        wanted = [(cut_mnc(identity) if "mnc-cut" in self.faults else identity, identity) for identity in identities]
        job = _Job(wanted, run)
        self._jobs += 1
        for key, _ in wanted:
            self._loads.setdefault(key, deque()).append(job)
            self._effects.append(Load(key))

    def _loaded(self, key: object, value: Any) -> None:
        waiting = self._loads.get(str(key))
        if not waiting:
            return
        job = waiting.popleft()
        if not waiting:
            del self._loads[str(key)]
        job.found[str(key)] = value
        if len(job.found) < len(job.wanted):
            return
        job.run({identity: self._newest(job.found[key]) for key, identity in job.wanted})
        self._jobs -= 1
        if not self._jobs:
            # Nobody holds an older record any more.
            for stale in [each for each in self._latest if each not in self._uncommitted]:
                del self._latest[stale]

    def _newest(self, subscriber: Subscriber | None) -> Subscriber | None:
        """The record as we changed it ourselves since it was loaded."""
        if subscriber is None or subscriber.id not in self._latest:
            return subscriber
        ours = self._latest[subscriber.id]
        return ours if ours is None or ours.version >= subscriber.version else subscriber

    def _persist(self, before: Subscriber | None, after: Subscriber | None) -> None:
        change = Change(before, after)
        self._latest[change.id] = after
        self._uncommitted[change.id] = self._uncommitted.get(change.id, 0) + 1
        self._effects.append(Persist(change))

    def _committed(self, change: Change) -> None:
        left = self._uncommitted.pop(change.id, 0) - 1
        if left > 0:
            self._uncommitted[change.id] = left
        elif not self._jobs:
            self._latest.pop(change.id, None)

    # --- requests -------------------------------------------------------------------------------------------------

    def _begin(self, peer: Peer, flow: Flow, message: DiameterMessage) -> None:
        """Read a request and ask for the records it names; or refuse it."""
        try:
            request = self._read(message)
        except DiameterError as error:
            if error.result_code == ResultCode.MISSING_AVP and "missing-avp-ignored" in self.faults:
                peer.ignore(message)
            else:
                self._refuse(peer, message, error)
            return
        identities = self._service.identities(request)
        if not identities:
            self._advance(peer, flow, message, request, {})
            return
        self._load(identities, lambda found: self._advance(peer, flow, message, request, found))

    def _read(self, message: DiameterMessage) -> CxRequest:
        host, realm = message.get("Destination-Host"), message.get("Destination-Realm")
        if realm is not None and realm.lower() != self.config.origin_realm.lower():
            raise DiameterError(f"realm {realm} is not served here", ResultCode.REALM_NOT_SERVED)
        if host is not None and host.lower() != self.config.origin_host.lower():
            raise DiameterError(f"{host} is not here", ResultCode.UNABLE_TO_DELIVER)
        cls = _ANSWERED.get(message.command)
        if cls is None:
            raise DiameterError(f"{message.name} is nothing to ask an HSS", ResultCode.COMMAND_UNSUPPORTED)
        lenient = "unknown-avp-accepted" in self.faults
        return cls.from_avps(message.avps) if lenient else cls.from_message(message)

    def _advance(self, peer: Peer, flow: Flow, message: DiameterMessage, request: CxRequest, found: _Found) -> None:
        """All records are there: answer."""
        try:
            outcome = self._service.handle(request, found)
        except DiameterError as error:
            self._refuse(peer, message, error)
            self._flush(flow)
            return
        reply = self._complete(outcome.answer).to_message(message)
        early = "vector-before-commit" in self.faults
        if outcome.after is not None and not early:
            self._persist(outcome.before, outcome.after)
        peer.send_answer(reply, self._now)
        self._flush(flow)
        if outcome.after is not None and early:
            self._persist(outcome.before, outcome.after)
        self._note(message, outcome)
        for push in outcome.pushes:
            self._push(push)

    def _complete(self, reply: CxAnswer) -> CxAnswer:
        reply.origin_host, reply.origin_realm = self.config.origin_host, self.config.origin_realm
        return reply

    def _note(self, message: DiameterMessage, outcome: Outcome) -> None:
        for kind, text in outcome.notes:
            if kind == "refused":
                who = message.get("User-Name") or message.get("Public-Identity")
                text = f"{message.name} for {who}: {text}"
            self._emit(kind, text)

    def _refuse(self, peer: Peer, message: DiameterMessage, error: DiameterError) -> None:
        reply = answer(
            message,
            origin_host=self.config.origin_host,
            origin_realm=self.config.origin_realm,
            result_code=int(error.result_code),
            failed=error.failed,
            error_message=error.reason,
            avps=(
                make("Vendor-Specific-Application-Id", cx_application().to_avps()),
                make("Auth-Session-State", int(AuthSessionState.NO_STATE_MAINTAINED)),
            ),
        )
        peer.send_answer(reply, self._now)
        self._emit("refused", f"{message.name}: {error.reason} ({int(error.result_code)})")

    # --- pushes ---------------------------------------------------------------------------------------------------

    def _push(self, push: Push) -> bool:
        """Send it to the S-CSCF that it is for, if that one is connected."""
        if (push.name == "RTR" and "rtr-nowhere" in self.faults) or (
            push.name == "PPR" and "ppr-missing" in self.faults
        ):
            self._emit(push.name.lower(), f"{push.name} to {push.host} for {push.impi}")
            return True
        for flow, peer in self._peers.items():
            if peer.is_open and peer.peer_host.lower() == push.host.lower():
                session = new_session_id(self.config.origin_host, self._entropy)
                request = push.request(session, self.config.origin_host, self.config.origin_realm)
                peer.send_request(request.to_message(), self._now, push, self.config.push_timeout)
                self._emit(push.name.lower(), f"{push.name} to {push.host} for {push.impi}")
                self._flush(flow)
                return True
        self._emit("push-failed", f"{push.name} to {push.host} for {push.impi}: it is not connected")
        return False

    def _pushed(self, push: Push, message: DiameterMessage) -> None:
        """An RTA or PPA came."""
        try:
            if push.reason is None:
                self._profile_pushed(push, PushProfileAnswer.from_message(message))
                return
            reply = RegistrationTerminationAnswer.from_message(message)
        except PeerError as error:
            self._emit("push-failed", f"{push.name} to {push.host} for {push.impi}: {error}")
            return
        self._load([push.subscriber], lambda found: self._ended(push, reply, found[push.subscriber]))

    def _profile_pushed(self, push: Push, reply: PushProfileAnswer) -> None:
        if reply.is_success:
            self._emit("ppa", f"{push.host} has the new profile of {push.impi}")
            return
        code = reply.experimental if reply.experimental is not None else reply.result_code
        self._emit("push-failed", f"PPR to {push.host} for {push.impi}: result {code}")
        if reply.experimental in (CxResult.TOO_MUCH_DATA, CxResult.NOT_SUPPORTED_USER_DATA):
            # 29.228 6.2.2: it keeps the old data, so another S-CSCF must take the user.
            self._load([push.subscriber], lambda found: self._change_server(push, found[push.subscriber]))

    def _change_server(self, push: Push, subscriber: Subscriber | None) -> None:
        sets = [] if subscriber is None else [each for impu in push.impus if (each := subscriber.set_of(impu))]
        if subscriber is not None:
            for end in termination(subscriber, sets, ReasonCode.SERVER_CHANGE):
                self._push(end)

    def _ended(self, push: Push, reply: RegistrationTerminationAnswer, subscriber: Subscriber | None) -> None:
        if subscriber is None:
            return
        after = terminated(subscriber, push, reply)
        if after is None:
            self._emit("rta", f"{push.host}: result {reply.result_code or reply.experimental}, nothing changes")
            return
        if push.remove and not after.is_served:
            self._persist(subscriber, None)
            self._emit("removed", subscriber.id)
            return
        self._persist(subscriber, after)
        self._emit("deregistered", f"{push.impi}: {', '.join(push.impus)}, {(push.reason or ReasonCode(0)).name}")

    # --- commands -------------------------------------------------------------------------------------------------

    def _command(self, verb: str, arguments: dict[str, Any]) -> None:
        """Raises LocalError for a verb or argument that is none of ours."""
        actions: dict[str, Callable[..., None]] = {
            "add": self._add,
            "remove": self._remove,
            "rtr": self._rtr,
            "ppr": self._ppr,
            "resend": self._resend,
        }
        if verb not in actions:
            raise LocalError(f"an HSS knows no command {verb!r}; it knows {', '.join(actions)}")
        try:
            signature(actions[verb]).bind(**arguments)
        except TypeError as error:
            raise LocalError(f"{verb}: {error}") from None
        actions[verb](**arguments)

    def _add(self, subscriber: Subscriber) -> None:
        def found(records: _Found) -> None:
            taken = [identity for identity, record in records.items() if record is not None]
            if taken:
                self._emit("failed", f"{', '.join(taken)}: there already")
                return
            self._persist(None, subscriber)
            self._emit("added", subscriber.id)

        self._load(subscriber.keys, found)

    def _with(self, identity: str, run: Callable[[Subscriber], None]) -> None:
        key = canonical(identity)

        def found(records: _Found) -> None:
            subscriber = records[key]
            if subscriber is None:
                self._emit("failed", f"no subscriber has {identity}")
            else:
                run(subscriber)

        self._load([key], found)

    def _remove(self, identity: str) -> None:
        def run(subscriber: Subscriber) -> None:
            pushes = termination(subscriber, subscriber.sets, ReasonCode.PERMANENT_TERMINATION, remove=True)
            if not pushes:
                self._persist(subscriber, None)
                self._emit("removed", subscriber.id)
            for push in pushes:
                self._push(push)

        self._with(identity, run)

    def _rtr(self, identity: str, reason: ReasonCode | int = ReasonCode.PERMANENT_TERMINATION, info: str = "") -> None:
        code = ReasonCode(reason)

        def run(subscriber: Subscriber) -> None:
            pushes = termination(subscriber, _sets(subscriber, identity), code, info=info)
            if not pushes:
                self._emit("failed", f"no S-CSCF serves {identity}")
            for push in pushes:
                self._push(push)

        self._with(identity, run)

    def _ppr(self, identity: str, profiles: Iterable[Any] | None = None, charging: Any = None) -> None:
        def run(subscriber: Subscriber) -> None:
            old = _sets(subscriber, identity)[0]
            new = old if profiles is None else replace(old, profiles=tuple(profiles))
            if old.is_served and _default(old) != _default(new):
                # 29.228 6.2.2: the default identity of a registered set does not change by PPR.
                self._emit("failed", f"{identity}: a served set keeps its default identity; end the registration first")
                return
            after = replace(subscriber.with_set(old, new), version=subscriber.version + 1)
            if charging is not None:
                after = replace(after, charging=charging)
            self._persist(subscriber, after)
            self._tell(after, new)

        self._with(identity, run)

    def _resend(self, identity: str) -> None:
        self._with(identity, lambda subscriber: self._tell(subscriber, _sets(subscriber, identity)[0]))

    def _tell(self, subscriber: Subscriber, each: RegistrationSet) -> None:
        push = profile_change(subscriber, each)
        if push is not None:
            self._push(push)


def _sets(subscriber: Subscriber, identity: str) -> list[RegistrationSet]:
    """The set of a public identity, or those that a private one may use."""
    each = subscriber.set_of(identity)
    if each is not None:
        return [each]
    private = subscriber.private(identity)
    return [each for each in subscriber.sets if private is not None and each.serves(private.impi)]


def _default(each: RegistrationSet) -> str:
    return "" if each.default is None else canonical(each.default.uri)


def _whole_messages_only(octets: bytes) -> bytes:
    """The fault "split-request-lost": what is not whole in one segment is thrown away."""
    try:
        return b"".join(StreamFramer().feed(octets))
    except PeerError:
        return b""
