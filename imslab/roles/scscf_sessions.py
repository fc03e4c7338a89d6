"""The S-CSCF beyond REGISTER: reg-event subscriptions, and requests between registered users (24.229 5.4.2, 5.4.3).

Which way a request goes is told by its topmost Route, which is always one of ours:

    Route                  To tag    case           what happens
    orig@ (Service-Route)  none      originating    the caller must be registered and not barred; then to the home of
                                                    the addressee: the I-CSCF, or here
    ours                   none      terminating    the addressee must be registered; Request-URI becomes the contact,
                                                    the Path becomes the Route
    ours                   some      in a dialog    on along the Route
    none of ours           none      terminating    as above: somebody knows our address
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Transport
from imslab.roles.proxy import Proxy
from imslab.roles.regevent import Subscription, elements
from imslab.roles.registrar import Binding, Registration
from imslab.sip.fields.address import NameAddr
from imslab.sip.message import Request, Response
from imslab.sip.reginfo import Registration as Element
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: What makes a route of ours the originating one.
ORIGINATING = "orig"
#: Methods that make a dialog, and want us to stay on its path (RFC 3261 12, RFC 6665 4.1).
DIALOG_METHODS = frozenset({"INVITE", "SUBSCRIBE", "REFER"})
#: Seconds of a reg subscription, at most (24.229 5.1.1.3 asks for 600000).
SUBSCRIPTION_MAX = 600000


class Sessions(Proxy, ABC):
    """See the module's page. own: our SIP URI. icscf: who finds the addressees; None: only our own users exist."""

    def __init__(
        self,
        name: str,
        core: Endpoint,
        entropy: Entropy,
        faults: Iterable[str] = (),
        *,
        domain: str,
        own: str,
        icscf: Endpoint | None,
    ) -> None:
        super().__init__(name, core, entropy, faults)
        self.domain = domain
        self.own = Uri.parse(own)
        self.icscf = icscf
        self._subscriptions: dict[tuple[str, str], Subscription] = {}

    @abstractmethod
    def lookup(self, aor: str) -> Registration | None:
        """The registration of an identity."""

    @property
    def originating_uri(self) -> str:
        """What the Service-Route of our users leads to (24.229 5.4.1.2.2F)."""
        return f"sip:{ORIGINATING}@{self.own.hostport};lr"

    @property
    def route_uri(self) -> str:
        """What our Record-Route says."""
        return f"sip:{self.own.hostport};lr"

    def is_ours(self, uri: Uri) -> bool:
        """True for a URI that leads to us."""
        return (uri.host.lower(), uri.port or 5060) in (
            (self.own.host.lower(), self.own.port or 5060),
            (self.core.host, self.core.port),
        )

    # ---- requests

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        copy = self.next_hop_copy(txn)
        if copy is None:
            return
        originating = self._take_own_route(copy)
        if request.to.tag is not None:
            subscription = self._subscription_of(request) if request.method == "SUBSCRIBE" else None
            if subscription is not None:
                self._resubscribe(txn, request, subscription)
            else:
                self._onward(txn, copy)
        elif originating:
            self._originate(txn, copy)
        else:
            self._terminate_here(txn, copy)

    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        self._take_own_route(request)
        target = request.route[0].uri if request.route else request.request_uri

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is not None:
                self.send_ack(request, self.core_flow(request, endpoint), sent_by=self.core)

        self.resolve(target.host, target.port or 5060, Transport.UDP, found)

    def _take_own_route(self, request: Request) -> bool:
        """Take our Routes off the top (RFC 3261 16.4); True if one was the originating one."""
        routes = request.route
        originating = False
        while routes and self.is_ours(routes[0].uri):
            originating = originating or routes[0].uri.user == ORIGINATING
            routes.pop(0)
        request.replace("Route", [str(route) for route in routes])
        return originating

    def _originate(self, txn: Transaction, request: Request) -> None:
        """24.229 5.4.3.2: the caller is one of ours."""
        asserted = request.p_asserted_identity
        caller = asserted[0].uri.aor if asserted else request.from_.uri.aor
        registration = self.lookup(caller)
        if registration is None or registration.is_barred(caller):
            self.emit("refused", f"{request.method} from {caller}: not registered here, or barred")
            self.respond(txn, 403)
            return
        if request.method == "SUBSCRIBE" and self._is_about_us(request):
            self._subscribe(txn, request, caller)
            return
        if request.route:
            self._onward(txn, request)
            return
        target = request.request_uri
        foreign = target.scheme in ("sip", "sips") and target.host.lower() != self.domain.lower()
        if foreign or self.icscf is not None:
            self._record(request)
            if foreign:
                self._onward(txn, request)
            else:
                assert self.icscf is not None
                self.send_on(txn, request, self.icscf)
        else:
            self._record(request)
            self._terminate_here(txn, request)

    def _terminate_here(self, txn: Transaction, request: Request) -> None:
        """24.229 5.4.3.3: the addressee is one of ours."""
        aor = request.request_uri.aor
        registration = self.lookup(aor)
        if request.method == "SUBSCRIBE" and self._is_about_us(request):
            self._subscribe(txn, request, _asserted(request))
            return
        if registration is None or not registration.bindings or registration.is_barred(aor):
            self.respond(txn, 480 if registration is not None else 404)
            return
        binding = max(registration.bindings.values(), key=lambda each: each.expires_at)
        if not request.has("P-Called-Party-ID"):
            request.add("P-Called-Party-ID", f"<{request.uri}>")  # RFC 7315 4.2
        request.uri = str(binding.uri)
        request.replace("Route", [*binding.path, *[str(route) for route in request.route]])
        self._record(request)
        self._onward(txn, request)

    def _record(self, request: Request) -> None:
        own = f"<{self.route_uri}>"
        if request.method in DIALOG_METHODS and request.rows("Record-Route")[:1] != [own]:
            request.prepend("Record-Route", own)

    def _onward(self, txn: Transaction, request: Request) -> None:
        """To the next Route, or to the Request-URI (RFC 3261 16.6 items 6 and 7)."""
        target = request.route[0].uri if request.route else request.request_uri
        if not target.host:
            self.respond(txn, 404)
            return

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{target.host} has no address")
                self.respond(txn, 404)
            else:
                self.send_on(txn, request, endpoint)

        self.resolve(target.host, target.port or 5060, Transport.UDP, found)

    # ---- reg-event

    def _is_about_us(self, request: Request) -> bool:
        """True for a SUBSCRIBE that only a registrar answers: of the reg package, or of one nobody here has."""
        return self.lookup(request.request_uri.aor) is not None

    def _subscription_of(self, request: Request) -> Subscription | None:
        return self._subscriptions.get((request.call_id, request.get("From") or ""))

    def _subscribe(self, txn: Transaction, request: Request, subscriber: str) -> None:
        """24.229 5.4.2.1.1: the user, and the P-CSCF on the path, may watch; nobody else here."""
        event = request.event
        if event is None or event.package.lower() != "reg":
            self.respond(txn, 489, headers=[("Allow-Events", "reg")])  # RFC 6665 8.3.2
            return
        identity = request.request_uri.aor
        registration = self.lookup(identity)
        assert registration is not None
        if not self._may_watch(registration, subscriber):
            self.emit("refused", f"SUBSCRIBE from {subscriber} to {identity}")
            self.respond(txn, 403)
            return
        contact = next(iter(request.contact), None)
        if contact is None:
            self.respond(txn, 400)
            return
        tag = self.token(4)
        remote = request.get("From") or ""
        subscription = Subscription(
            identity,
            request.call_id,
            str(request.to.with_params({"tag": tag})),
            remote,
            str(contact.uri),
            [str(route) for route in request.record_route],
            f"<sip:{self.core}>",
            0.0,
            request.cseq.number,
            str(event),
        )
        self._subscriptions[subscription.key] = subscription
        self._grant(txn, request, subscription, tag)

    def _resubscribe(self, txn: Transaction, request: Request, subscription: Subscription) -> None:
        if request.cseq.number <= subscription.remote_cseq:
            self.respond(txn, 500)  # RFC 3261 12.2.2
            return
        subscription.remote_cseq = request.cseq.number
        if request.contact:
            subscription.target = str(request.contact[0].uri)
        self._grant(txn, request, subscription, "")

    def _grant(self, txn: Transaction, request: Request, subscription: Subscription, tag: str) -> None:
        """200 with the time granted, and a NOTIFY at once, whatever that time is (RFC 6665 4.2.1.2)."""
        asked = SUBSCRIPTION_MAX if request.expires is None else request.expires
        granted = min(asked, SUBSCRIPTION_MAX)
        subscription.expires_at = self.now + granted
        headers = [("Expires", str(granted)), ("Contact", subscription.contact)]
        headers += [("Record-Route", row) for row in request.rows("Record-Route")]
        self.respond(txn, 200, to_tag=tag, headers=headers)
        registration = self.lookup(subscription.identity)
        state = elements(registration, self.now) if registration is not None else []
        self._send_notify(subscription, state, None if granted else "timeout")

    def _may_watch(self, registration: Registration, subscriber: str) -> bool:
        if self.lookup(subscriber) is registration:
            return True
        # 24.229 5.4.2.1.1: the P-CSCF asserts its own URI, which is the one in the Path.
        hosts = {NameAddr.parse(path).uri.host.lower() for each in registration.bindings.values() for path in each.path}
        return Uri.parse(subscriber).host.lower() in hosts

    def notify(
        self, registration: Registration, gone: Sequence[tuple[Binding, str]] = (), dropped: Sequence[str] = ()
    ) -> None:
        """Tell all who watch the set. When no binding is left, that is the last they hear (24.229 5.4.2.1.2)."""
        state = elements(registration, self.now, gone, dropped)
        over = None if registration.bindings else "noresource"
        for subscription in [
            each for each in self._subscriptions.values() if self.lookup(each.identity) is registration
        ]:
            self._send_notify(subscription, state, over)

    def drop_subscriptions(self, registration: Registration) -> None:
        """Forget who watches the set, without a word."""
        for key in [key for key, each in self._subscriptions.items() if self.lookup(each.identity) is registration]:
            del self._subscriptions[key]
            self.clear_alarm(("subscription", key))

    def _send_notify(self, subscription: Subscription, state: Sequence[Element], reason: str | None) -> None:
        left = subscription.expires_at - self.now
        request = subscription.notify(state, left, reason)
        if reason is not None:
            self._subscriptions.pop(subscription.key, None)
            self.clear_alarm(("subscription", subscription.key))
        else:
            self.set_alarm(("subscription", subscription.key), max(0.0, left))
        target = request.route[0].uri if request.route else request.request_uri

        def then(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            # RFC 6665 4.2.2: whoever does not know the subscription, or does not answer, has none any more.
            if response is None or response.status in (404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604):
                self._subscriptions.pop(subscription.key, None)
                self.clear_alarm(("subscription", subscription.key))

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{target.host} has no address")
            else:
                self.request(request, self.core_flow(request, endpoint), then, sent_by=self.core)

        self.resolve(target.host, target.port or 5060, Transport.UDP, found)

    def on_alarm(self, key: Hashable) -> None:
        """The end of a subscription's time."""
        match key:
            case ("subscription", tuple() as which) if which in self._subscriptions:
                subscription = self._subscriptions[which]
                registration = self.lookup(subscription.identity)
                state = elements(registration, self.now) if registration is not None else []
                self._send_notify(subscription, state, "timeout")


def _asserted(request: Request) -> str:
    asserted = request.p_asserted_identity
    return asserted[0].uri.aor if asserted else request.from_.uri.aor
