"""What passes through the P-CSCF besides REGISTER, both ways (24.229 5.2.6, RFC 3261 16).

From a UE, inside its established SAs: the security agreement is looked at and taken off; a request that begins
something must follow the Service-Route; the UE may prefer one of its registered identities, and the P-CSCF asserts that
one, or the default. Inside a dialog the dialog's own routes count.

To a UE: the token in our Path or Record-Route says which one. The request leaves from port_pc to port_us on the set
that carries outbound traffic now, with port_ps in our Via and Record-Route. Without SAs nothing is sent: 480.

Both ways we record two routes, one for each side, so that either side sees an address that it can reach.

    request from a UE                 checks, in order                                  refused with
    any but ACK                       Max-Forwards, then Proxy-Require                   483, 420
                                      method                                             501
                                      Security-Verify says what we said                  494
                                      somebody is registered                             403
    one that begins something         Route is the Service-Route                         400 (or corrected)
    request for a UE                  Max-Forwards, method                               483, 501
                                      the token is one of ours, and has SAs              480
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imslab.core import events as ev
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport, canonical_host
from imslab.roles.base import warning
from imslab.roles.pcscf_contact import ContactKey, ContactState
from imslab.roles.pcscf_gm import OF_THE_AGREEMENT, OF_THE_NETWORK, push
from imslab.roles.pcscf_regevent import RegEvents
from imslab.roles.sa_table import SaRecord, Stage
from imslab.sip.fields.address import NameAddr
from imslab.sip.fields.security import same_list
from imslab.sip.message import Message, Request, Response
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: What is passed on.
METHODS = (
    "INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO", "REFER",
    "MESSAGE", "OPTIONS", "SUBSCRIBE", "NOTIFY", "PUBLISH",
)  # fmt: skip
#: Those that make a dialog: we want to stay in its path.
DIALOG_MAKERS = ("INVITE", "SUBSCRIBE", "REFER", "NOTIFY")


class Refusal(Exception):
    """A request cannot go on: the status, and the headers that go with it."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class OtherRequests(RegEvents):
    """The P-CSCF as a proxy for everything but REGISTER."""

    # ---- common

    def check_extensions(self, request: Request) -> None:
        """Raises Refusal for a Proxy-Require that we do not know (RFC 3261 16.3 item 5)."""
        unknown = [tag for tag in request.proxy_require if tag.lower() != "sec-agree"]
        if unknown:
            raise Refusal(420, (("Unsupported", ", ".join(unknown)),))

    def check_method(self, request: Request) -> None:
        """Raises Refusal for a method that we do not pass on."""
        if request.method not in METHODS:
            raise Refusal(501, (("Allow", ", ".join(("REGISTER", *METHODS))),))

    def strip_agreement(self, request: Request) -> None:
        """The security agreement ends here: nothing of it goes upstream (24.229 5.2.2.2, RFC 3329 2.3.1)."""
        if "pcscf-agreement-upstream" in self.faults:
            return
        for name in OF_THE_AGREEMENT:
            request.remove(name)
        for name in ("Require", "Proxy-Require"):
            if request.has(name):
                left = [tag for tag in request.values(name) if tag.lower() != "sec-agree"]
                if left:
                    request.set(name, ", ".join(left))
                else:
                    request.remove(name)  # an emptied header is dropped

    def strip_claims(self, request: Request) -> None:
        """What only the network may say is taken out of what a UE sends."""
        for name in (*OF_THE_NETWORK, "P-Asserted-Identity", "Path"):
            if name == "P-Asserted-Identity" and "pcscf-believes-asserted" in self.faults:
                continue
            if name == "Path" and "pcscf-believes-path" in self.faults:
                continue
            if name != "Path" and "pcscf-believes-charging" in self.faults:
                continue
            request.remove(name)
        if self.config.access_aware and request.has("P-Access-Network-Info"):
            # 33.203 P.3: the UE cannot speak for the network.
            kept = [str(each) for each in request.p_access_network_info if not each.network_provided]
            if kept:
                request.replace("P-Access-Network-Info", kept)
            else:
                request.remove("P-Access-Network-Info")

    def clean_for_ue(self, message: Message) -> None:
        """What the network tells itself does not reach the UE, nor an identity that wants privacy.

        24.229 5.4.1.2.2F, RFC 3325 7.
        """
        if "pcscf-charging-on-gm" not in self.faults:
            for name in OF_THE_NETWORK:
                message.remove(name)
        for name in OF_THE_AGREEMENT:
            message.remove(name)
        if any(each.lower() == "id" for row in message.rows("Privacy") for each in row.replace(" ", "").split(";")):
            message.remove("P-Asserted-Identity")

    def is_own(self, uri: Uri) -> bool:
        """True for a URI of ours: the Mw port, the Gm port, a protected port."""
        try:
            local = Endpoint(canonical_host(uri.host), uri.port or 5060)
        except ValueError:
            return False
        return local in (self.config.mw, self.config.gm) or (
            local.host == self.config.gm.host and self.table.is_protected(local)
        )

    def record_route(self, request: Request, contact: ContactState, record: SaRecord, *, to_ue: bool) -> None:
        """Stay in the path: one route for each side, the next hop's on top (RFC 5658 for two)."""
        if request.method not in DIALOG_MAKERS:
            return
        gm = f"<sip:{contact.token}@{record.pc if 'pcscf-via-port-pc' in self.faults else record.ps};lr>"
        mw = f"<sip:{contact.token}@{self.config.mw};lr>"
        for route in (mw, gm) if to_ue else (gm, mw):
            push(request, "Record-Route", route)

    def _pop_own_routes(self, request: Request, token: str | None = None) -> list[Uri]:
        """Take our routes off the top (RFC 3261 16.4), those of one flow only; they are returned."""
        routes = request.route
        own: list[Uri] = []
        while routes and self.is_own(routes[0].uri) and (token is None or routes[0].uri.user in ("", token)):
            uri = routes.pop(0).uri
            token = token or uri.user or None
            own.append(uri)
        if own:
            if routes:
                request.replace("Route", [str(each) for each in routes])
            else:
                request.remove("Route")
        return own

    def _refuse_txn(self, txn: Transaction, refusal: Refusal) -> None:
        self.emit("rejected", f"{txn.request.method}: {refusal.status}", status=refusal.status)
        self.respond(txn, refusal.status, headers=refusal.headers)

    # ---- from a UE

    def on_ue_request(self, txn: Transaction, request: Request, record: SaRecord) -> None:
        """A request other than REGISTER that came inside a set."""
        record.note(txn)
        copy = self.next_hop_copy(txn)
        if copy is None:
            return
        contact = self.contact_of(record)
        try:
            self.check_extensions(copy)
            self.check_method(copy)
            self._check_verify(copy, record)
            if self._asks_us(copy):
                self.respond(txn, 200, headers=[("Allow", ", ".join(("REGISTER", *METHODS)))])
                return
            remote = self._from_ue(copy, record, contact)
        except Refusal as refusal:
            self._refuse_txn(txn, refusal)
            return

        def on_response(response: Response) -> Response | None:
            self._note_dialog(contact, copy, response)
            self.clean_for_ue(response)
            self._answer_ue(txn, response, record, contact)
            return None

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self._refuse_txn(txn, Refusal(504))
            else:
                self.send_on(txn, copy, endpoint, on_response=on_response, on_silence=silence)

        def silence() -> None:
            # RFC 4320 4.1: a 408 to anything but INVITE helps nobody.
            self.emit("timeout", f"nobody answers {copy.method} of {record.impi}")
            self.respond(txn, 408 if copy.method == "INVITE" else 504)

        self._find(remote, found)

    def _asks_us(self, request: Request) -> bool:
        """True for an OPTIONS that no one else is meant to answer."""
        targets = [request.request_uri, *(each.uri for each in request.route)]
        return request.method == "OPTIONS" and all(self.is_own(each) for each in targets)

    def _check_verify(self, request: Request, record: SaRecord) -> None:
        """Security-Verify must be the Security-Server of this set, or of a newer one (RFC 3329 2.3.1)."""
        if "pcscf-ignores-verify" in self.faults:
            return
        told = request.security_verify
        if not told:
            if self.config.require_verify:
                raise Refusal(494, (("Security-Server", ", ".join(map(str, record.told))),))
            return
        latest = self.table.at(record.contact, Stage.ESTABLISHED) or record
        if not same_list(told, record.told) and not same_list(told, latest.told):
            raise Refusal(494, (("Security-Server", ", ".join(map(str, latest.told))),))

    def _from_ue(self, request: Request, record: SaRecord, contact: ContactState) -> Uri:
        """Make a UE's request fit for the core; the URI of the next hop. Raises Refusal, PeerError."""
        if not contact.bindings:
            raise Refusal(403)
        self._pop_own_routes(request)
        dialog = request.to.tag is not None and request.call_id in contact.dialogs
        if not dialog:
            self._check_route(request, contact)
        self.strip_agreement(request)
        self.strip_claims(request)
        if request.method != "ACK":
            self._assert_identity(request, contact)
            if not dialog:
                request.set("P-Charging-Vector", self.charging_vector())
        self.record_route(request, contact, record, to_ue=False)
        routes = request.route
        if dialog:
            contact.note_dialog(request.call_id)
        return routes[0].uri if routes else request.request_uri

    def _check_route(self, request: Request, contact: ContactState) -> None:
        """24.229 5.2.6.3: what begins something goes where the registrar said."""
        if "pcscf-follows-any-route" in self.faults:
            return
        given = [each.uri for each in request.route]
        if given == contact.service_route:
            return
        if not self.config.correct_routes:
            error = PeerError("Route is not the Service-Route", clause="24.229 5.2.6.3")
            raise Refusal(400, (warning(self.name, error),))
        request.remove("Route")
        for uri in contact.service_route:
            request.add("Route", f"<{uri}>")

    def _assert_identity(self, message: Message, contact: ContactState, called: Uri | None = None) -> None:
        """P-Preferred-Identity becomes P-Asserted-Identity if it is the UE's own; else the default is asserted.

        24.229 5.2.6.3, RFC 3325 5. called: the identity that was called, for an answer.
        """
        wanted = [each.uri for each in message.p_preferred_identity]
        if called is not None:
            wanted.append(called)
        chosen = next((own for uri in wanted if (own := contact.identity(uri)) is not None), contact.identities[0])
        if "pcscf-asserts-foreign" in self.faults and wanted:
            chosen = wanted[0]
        message.remove("P-Preferred-Identity")
        if "pcscf-believes-asserted" not in self.faults or not message.has("P-Asserted-Identity"):
            message.set("P-Asserted-Identity", str(NameAddr("", chosen)))

    def _note_dialog(self, contact: ContactState, request: Request, response: Response) -> None:
        if request.method in DIALOG_MAKERS and 100 < response.status < 300 and response.to.tag:
            contact.note_dialog(response.call_id)
        elif request.method == "BYE" and response.status >= 200:
            contact.dialogs.pop(response.call_id, None)

    def _answer_ue(self, txn: Transaction, response: Response, record: SaRecord, contact: ContactState) -> None:
        """An answer to the UE: on the set of its request, or on the newest if that has gone (33.203 7.4.2a)."""
        if record.stage is not Stage.GONE:
            self.forward_response(txn, response)
            return
        newer = self.outbound(contact)
        if newer is None:
            self.emit("answer-lost", f"{response.status} for {txn.request.method}: the SAs are gone")
        else:
            self.forward_response(txn, response, flow=newer.flow(txn.flow.transport))

    def _find(self, uri: Uri, then: Callable[[Endpoint | None], None]) -> None:
        if not uri.host:
            then(None)
            return
        self.resolve(uri.host, uri.port or 5060, Transport.UDP, then)

    # ---- from the core

    def on_core_request(self, txn: Transaction, request: Request) -> None:
        """A request from the core: for a UE, or for ourselves."""
        if request.method == "NOTIFY" and self.on_reg_notify(txn, request):
            return
        copy = self.next_hop_copy(txn)
        if copy is None:
            return
        try:
            self.check_extensions(copy)
            self.check_method(copy)
            contact, record = self._addressee(copy)
        except Refusal as refusal:
            self._refuse_txn(txn, refusal)
            return
        if record is None:
            self.respond(txn, 200, headers=[("Allow", ", ".join(("REGISTER", *METHODS)))])
            return
        self._to_ue(copy, contact, record)
        called = copy.p_called_party_id

        def on_response(response: Response) -> Response | None:
            self._note_dialog(contact, copy, response)
            self.strip_agreement_answer(response)
            if contact.bindings:
                self._assert_identity(response, contact, called.uri if called else None)
            return response

        def silence() -> None:
            self.emit("timeout", f"{contact.key.impi} does not answer {copy.method}")
            self.respond(txn, 408 if copy.method == "INVITE" else 480)

        flow = self.flow_to_ue(record, copy, contact.contact)
        if "pcscf-mt-from-clear-port" in self.faults:
            flow = flow._replace(local=self.config.gm)
        sent_by = record.pc if "pcscf-via-port-pc" in self.faults else record.ps
        record.note(txn)  # while it is open, so is the one towards the UE
        self.forward(txn, copy, flow, sent_by=sent_by, on_response=on_response, on_silence=silence)

    def _addressee(self, request: Request) -> tuple[ContactState, SaRecord | None]:
        """The UE that a request from the core is for, and the set to send it on; no set: it is for ourselves.

        Raises Refusal.
        """
        own = self._pop_own_routes(request)
        token = next((uri.user for uri in own if uri.user), "")
        if not token and not request.has("Route") and self.is_own(request.request_uri):
            token = request.request_uri.user
            if not token and request.method == "OPTIONS":
                return ContactState(ContactKey("", ""), ""), None
        if not token:
            raise Refusal(481 if request.to.tag else 404)
        contact = self.tokens.get(token)
        record = self.outbound(contact) if contact else None
        if contact is None or record is None:
            raise Refusal(480)  # 33.203 7.1: no SA, and nothing may go in clear
        if not contact.bindings and request.to.tag is None:
            raise Refusal(480)  # nobody is registered there any more; what is under way may still end
        return contact, record

    def _to_ue(self, request: Request, contact: ContactState, record: SaRecord) -> None:
        self.clean_for_ue(request)
        request.remove("P-Access-Network-Info")
        self.record_route(request, contact, record, to_ue=True)

    def strip_agreement_answer(self, response: Response) -> None:
        """What a UE's answer may not carry into the core."""
        for name in (*OF_THE_AGREEMENT, *OF_THE_NETWORK, "P-Asserted-Identity"):
            response.remove(name)

    # ---- ACK of a 2xx

    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        try:
            record = self.inside(arrival)
            if record is not None:
                remote = self._from_ue(request, record, self.contact_of(record))
                self._find(remote, lambda endpoint: self._send_core_ack(request, endpoint))
                return
            if self.is_gm(arrival.flow):
                return  # in clear: only a P-CSCF that admits everything comes here
            contact, record = self._addressee(request)
        except Refusal as refusal:
            self.emit("rejected", f"ACK: would be {refusal.status}", status=refusal.status)
            return
        assert record is not None, "only an OPTIONS is for ourselves"
        self._to_ue(request, contact, record)
        self.send_ack(request, self.flow_to_ue(record, request, contact.contact), sent_by=record.ps)

    def _send_core_ack(self, request: Request, endpoint: Endpoint | None) -> None:
        if endpoint is not None:
            self.send_ack(request, self.core_flow(request, endpoint), sent_by=self.core)
