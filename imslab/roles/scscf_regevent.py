"""The S-CSCF as the notifier of the reg event package (24.229 5.4.2.1, RFC 3680, RFC 6665).

    state of a subscription   input                             action                                       next
    –                         SUBSCRIBE of one who may watch    200, and at once a NOTIFY                    ACTIVE
    –                         SUBSCRIBE for zero seconds        200, and one NOTIFY, terminated              –
    –                         SUBSCRIBE of a stranger           403                                          –
    –                         SUBSCRIBE of another package      489                                          –
    –                         SUBSCRIBE, the set has enough     503                                          –
    –                         SUBSCRIBE in a dialog not ours    481                                          –
    ACTIVE                    SUBSCRIBE in the dialog           200, NOTIFY; zero seconds end it             ACTIVE, –
    ACTIVE                    the state of the set changes      NOTIFY                                       ACTIVE
    ACTIVE                    the last binding of the set goes  NOTIFY, terminated                           –
    ACTIVE                    its time is over                  NOTIFY, terminated;reason=timeout            –
    ACTIVE                    NOTIFY is refused or unanswered   forget it (RFC 6665 4.2.2)                   –

Who may watch: the user himself, by any identity of the set, and the P-CSCF on the path of one of its contacts, which
asserts its own URI. TS 24.229 5.4.2.1 has not been read here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.roles.cx_proxy import CxProxy
from imslab.roles.regevent import Gone, Subscription, elements
from imslab.roles.registrar import Registrar, Registration
from imslab.roles.scscf_config import ScscfConfig
from imslab.sip.fields.address import NameAddr
from imslab.sip.message import Request, Response
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: Seconds of a subscription, at most (24.229 5.1.1.3 asks for as many).
SUBSCRIPTION_MAX = 600000
#: How many may watch one set.
WATCHERS_MAX = 32
#: RFC 6665 4.2.2, RFC 5057 5.1: after these the subscription is gone.
SUBSCRIPTION_LOST = frozenset({404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604})

_Dialog = tuple[str, str, str]


class RegEvents(CxProxy):
    """The S-CSCF's registrar as others see it, and those who watch it."""

    def __init__(self, name: str, config: ScscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config.local, config.cx, entropy, faults)
        self.config = config
        self.registrar = Registrar()
        self._dialogs: dict[_Dialog, Subscription] = {}
        self._watchers: dict[Registration, dict[_Dialog, Subscription]] = {}

    # ---- SUBSCRIBE

    def on_first_subscribe(self, txn: Transaction, request: Request, registration: Registration) -> None:
        """A SUBSCRIBE that begins a dialog, about a set that is registered here. Raises PeerError."""
        event = request.event
        if event is None or event.package.lower() != "reg":
            self.respond(txn, 489, headers=[("Allow-Events", "reg")])  # RFC 6665 8.3.2
            return
        subscriber = asserted(request)
        if not self._may_watch(registration, subscriber) and "scscf-anyone-watches" not in self.faults:
            self.emit("rejected", f"SUBSCRIBE of {subscriber} to {request.uri}")
            self.respond(txn, 403)
            return
        contact = next(iter(request.contact), None)
        if contact is None or not contact.uri.host:
            raise PeerError("SUBSCRIBE without a contact that can be reached", clause="RFC 6665 4.1.2.1")
        if len(self._watchers.get(registration, ())) >= WATCHERS_MAX:
            self.respond(txn, 503)
            return
        tag = self.token(4)
        subscription = Subscription(
            registration,
            request.call_id,
            str(request.to.with_params({"tag": tag})),
            tag,
            request.get("From") or "",
            request.from_.tag or "",
            str(contact.uri),
            [str(route) for route in request.record_route],
            f"<sip:{self.core}>",
            request.cseq.number,
            str(event),
        )
        asked = request.expires
        self._dialogs[subscription.key] = subscription
        self._watchers.setdefault(registration, {})[subscription.key] = subscription
        self._grant(txn, request, subscription, asked, tag)

    def on_next_subscribe(self, txn: Transaction, request: Request) -> bool:
        """A SUBSCRIBE in a dialog. False when the dialog is none of ours."""
        key = (request.call_id, request.to.tag or "", request.from_.tag or "")
        subscription = self._dialogs.get(key)
        if subscription is None:
            return False
        asked, contacts = request.expires, request.contact
        if request.cseq.number <= subscription.remote_cseq:
            self.respond(txn, 500)  # RFC 3261 12.2.2
            return True
        subscription.remote_cseq = request.cseq.number
        if contacts and contacts[0].uri.host:
            subscription.target = str(contacts[0].uri)
        self._grant(txn, request, subscription, asked, "")
        return True

    def _grant(
        self, txn: Transaction, request: Request, subscription: Subscription, asked: int | None, tag: str
    ) -> None:
        """200 with the time granted, and a NOTIFY at once, whatever that time is (RFC 6665 4.2.1.2)."""
        granted = SUBSCRIPTION_MAX if asked is None else min(asked, SUBSCRIPTION_MAX)
        subscription.expires_at = self.now + granted
        headers = [("Expires", str(granted)), ("Contact", subscription.contact)]
        headers += [("Record-Route", row) for row in request.rows("Record-Route")]
        self.respond(txn, 200, to_tag=tag, headers=headers)
        self._send_notify(subscription, None if granted else "timeout")

    def _may_watch(self, registration: Registration, subscriber: str) -> bool:
        if self.registrar.find(subscriber) is registration:
            return True
        hosts = {NameAddr.parse(path).uri.host.lower() for each in registration.bindings for path in each.path}
        return Uri.parse(subscriber).host.lower() in hosts

    # ---- NOTIFY

    def notify(self, registration: Registration, gone: Sequence[Gone] = (), dropped: Sequence[str] = ()) -> None:
        """Tell all who watch the set. When no binding is left, that is the last they hear (24.229 5.4.2.1.2)."""
        over = None if registration.bindings or "scscf-notify-never-ends" in self.faults else "noresource"
        for subscription in list(self._watchers.get(registration, {}).values()):
            self._send_notify(subscription, over, gone, dropped)

    def drop_subscriptions(self, registration: Registration) -> None:
        """Forget who watches the set, without a word."""
        for subscription in list(self._watchers.get(registration, {}).values()):
            self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        self._dialogs.pop(subscription.key, None)
        self.clear_alarm(("subscription", subscription))
        watchers = self._watchers.get(subscription.registration, {})
        watchers.pop(subscription.key, None)
        if not watchers:
            self._watchers.pop(subscription.registration, None)

    def _send_notify(
        self,
        subscription: Subscription,
        over: str | None,
        gone: Sequence[Gone] = (),
        dropped: Sequence[str] = (),
    ) -> None:
        """over: the reason why this is the last one; None while the subscription goes on."""
        if over is not None:
            self._forget(subscription)
        else:
            self.set_alarm(("subscription", subscription), max(0.0, subscription.expires_at - self.now))
        if "scscf-no-notify" in self.faults:
            return
        state = elements(subscription.registration, self.now, gone, dropped)
        if "scscf-notify-one-identity" in self.faults:
            del state[1:]
        if "scscf-notify-version-stays" in self.faults:
            subscription.version = 0
        request = subscription.notify(state, subscription.expires_at - self.now, over)

        def then(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            if response is None or response.status in SUBSCRIPTION_LOST:
                self._forget(subscription)

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{target.host} has no address")
                self._forget(subscription)
            else:
                self.request(request, self.core_flow(request, endpoint), then, sent_by=self.core)

        target = request.route[0].uri if request.route else request.request_uri
        self.emit("notify", f"{subscription.remote}: {over or 'active'}, version {subscription.version - 1}")
        self.resolve(target.host, target.port or 5060, Transport.UDP, found)

    def on_alarm(self, key: Hashable) -> None:
        """The end of a subscription's time."""
        match key:
            case ("subscription", Subscription() as subscription):
                self._send_notify(subscription, "timeout")
            case _:
                super().on_alarm(key)


def asserted(request: Request) -> str:
    """Who speaks (Uri.aor): the asserted identity, else From. Raises PeerError."""
    identities = request.p_asserted_identity
    return (identities[0].uri if identities else request.from_.uri).aor
