"""Requests between registered users, as the S-CSCF passes them on (24.229 5.4.3, RFC 3261 16).

Which way a request goes is told by its topmost Route, which is always one of ours:

    Route                  To tag    case           what happens
    orig-…@ (Service-      none      originating    the caller must be registered by that flow, and not barred; then
    Route)                                          to the home of the addressee: the I-CSCF, or here
    ours                   none      terminating    the addressee must be registered; Request-URI becomes the contact,
                                                    the Path becomes the Route
    ours                   some      in a dialog    on along the Route; a SUBSCRIBE in a dialog of ours ends here
    none of ours           none      terminating    as above: somebody knows our address

    a request that           is answered
    comes from nobody here   403
    is for nobody here       480 in our domain, else 404
    is for a barred one      404
    ends at us in a dialog   481
    leads nowhere            404 (no such host)

A SUBSCRIBE for the reg package of a set that is registered here goes to the notifier, whichever way it came; so does
one of a user to himself for a package that nobody has.
"""

from __future__ import annotations

from collections.abc import Iterable

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Transport
from imslab.roles.registrar import Binding, Registration
from imslab.roles.scscf_config import ScscfConfig
from imslab.roles.scscf_regevent import RegEvents, asserted
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: What the user part of an originating route begins with.
ORIGINATING = "orig-"
#: Methods that make a dialog, and want us to stay on its path (RFC 3261 12, RFC 6665 4.1).
DIALOG_METHODS = frozenset({"INVITE", "SUBSCRIBE", "REFER"})


class Sessions(RegEvents):
    """See the module's page."""

    def __init__(self, name: str, config: ScscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self.own = Uri.parse(config.name)

    def service_route(self, binding: Binding) -> str:
        """Where requests of the user come in who registered this contact (24.229 5.4.1.2.2F: unique per flow)."""
        return f"sip:{ORIGINATING}{binding.number}@{self.own.hostport};lr"

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

    # ---- which way

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """Any request but REGISTER."""
        copy = self.next_hop_copy(txn)
        if copy is None or self.refuses_extensions(txn):
            return
        originating = self._take_own_route(copy)
        if request.to.tag is not None:
            if request.method != "SUBSCRIBE" or not self.on_next_subscribe(txn, request):
                self._onward(txn, copy, 481)
        elif originating is not None:
            self._originate(txn, copy, originating)
        else:
            self._terminate_here(txn, copy)

    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """The ACK of a 2xx, along its Route."""
        self._take_own_route(request)
        target = request.route[0].uri if request.route else request.request_uri
        if not target.host or self.is_ours(target):
            return

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is not None:
                self.send_ack(request, self.core_flow(request, endpoint), sent_by=self.core)

        self.resolve(target.host, target.port or 5060, Transport.UDP, found)

    def _take_own_route(self, request: Request) -> str | None:
        """Take our Routes off the top (RFC 3261 16.4); the user part of the originating one, if there was one."""
        routes = request.route
        originating: str | None = None
        while routes and self.is_ours(routes[0].uri):
            user = routes.pop(0).uri.user
            if user.startswith(ORIGINATING):
                originating = user
        request.replace("Route", [str(route) for route in routes])
        return originating

    # ---- from a user of ours

    def _originate(self, txn: Transaction, request: Request, route: str) -> None:
        """24.229 5.4.3.2: the caller is one of ours."""
        caller = asserted(request)
        registration = self.registrar.find(caller)
        if registration is None or registration.is_barred(caller) or not self._is_route_of(registration, route):
            self.emit("rejected", f"{request.method} of {caller}: not registered here, or barred")
            self.respond(txn, 403)
            return
        target = request.request_uri
        foreign = target.scheme in ("sip", "sips") and target.host.lower() != self.config.domain.lower()
        if request.method == "SUBSCRIBE" and (watched := self._watched(request, registration)) is not None:
            self.on_first_subscribe(txn, request, watched)
        elif request.route or foreign:
            self._record(request)
            self._onward(txn, request, 404)
        elif self.config.icscf is not None:
            self._record(request)
            self.send_on(txn, request, self.config.icscf)
        else:
            self._terminate_here(txn, request)

    def _is_route_of(self, registration: Registration, route: str) -> bool:
        """True when the route leads from a contact of one who has registered the caller."""
        number = route.removeprefix(ORIGINATING)
        return any(
            str(binding.number) == number and binding.impi == impi
            for impi in registration.owners
            for each in self.registrar.of_private(impi)
            for binding in each.bindings
        )

    # ---- to a user of ours

    def _terminate_here(self, txn: Transaction, request: Request) -> None:
        """24.229 5.4.3.3: the addressee is one of ours."""
        target = request.request_uri
        registration = self.registrar.find(target.aor)
        if registration is None:
            self.respond(txn, 480 if target.host.lower() == self.config.domain.lower() else 404)
            return
        if registration.is_barred(target.aor):
            self.respond(txn, 404)
            return
        if request.method == "SUBSCRIBE" and (watched := self._watched(request, None)) is not None:
            self.on_first_subscribe(txn, request, watched)
            return
        # RFC 3261 16.6: the one that the user prefers; of equal ones the latest.
        binding = max(registration.bindings, key=_preference)
        if not request.has("P-Called-Party-ID"):
            request.add("P-Called-Party-ID", f"<{request.uri}>")  # RFC 7315 4.2
        request.uri = str(binding.uri)
        request.replace("Route", [*binding.path, *[str(route) for route in request.route]])
        self._record(request)
        self._onward(txn, request, 404)

    # ---- shared

    def _watched(self, request: Request, caller: Registration | None) -> Registration | None:
        """The set that a SUBSCRIBE is about, where the notifier answers it: for reg events, or of a user to himself."""
        watched = self.registrar.find(request.request_uri.aor)
        event = request.event
        if watched is caller or event is None or event.package.lower() == "reg":
            return watched
        return None

    def _record(self, request: Request) -> None:
        own = f"<{self.route_uri}>"
        if request.method in DIALOG_METHODS and request.rows("Record-Route")[:1] != [own]:
            request.prepend("Record-Route", own)

    def _onward(self, txn: Transaction, request: Request, otherwise: int) -> None:
        """To the next Route, or to the Request-URI (RFC 3261 16.6 items 6 and 7).

        otherwise: what is answered when that leads to ourselves, or nowhere.
        """
        target = request.route[0].uri if request.route else request.request_uri
        if not target.host or self.is_ours(target):
            self.respond(txn, otherwise)
            return

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{target.host} has no address")
                self.respond(txn, 404)
            else:
                self.send_on(txn, request, endpoint)

        self.resolve(target.host, target.port or 5060, Transport.UDP, found)


def _preference(binding: Binding) -> tuple[float, float]:
    q = binding.contact.q
    return 1.0 if q is None else q, binding.expires_at
