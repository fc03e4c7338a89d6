"""The P-CSCF watches the registration state of its UEs (24.229 5.2.3, RFC 3680), so that a network-initiated
de-registration takes the SAs away too.

    state         input                          next          action
    –             the first 200 of an IMPI       ASKED         SUBSCRIBE reg of the default identity, we assert our own
    ASKED         2xx                            ACTIVE        keep the dialog, refresh in time
    ASKED         any other end                  –             go without
    ASKED         NOTIFY                         ASKED         200, apply (it may overtake the 2xx, RFC 6665 4.1.2)
    ACTIVE        NOTIFY active                  ACTIVE        200, apply
    any           NOTIFY terminated              –             200, apply; a new SUBSCRIBE after a pause
    ACTIVE        time to refresh                ACTIVE        SUBSCRIBE in the dialog
    ACTIVE        refresh refused                –             a new SUBSCRIBE after a pause
    any           nothing registered any more    –             forgotten; NOTIFYs that come yet get 481

Applying (RFC 3680 4.7): an older version changes nothing; a gap asks for the full state by a refresh. A contact that is
terminated takes its identity away; the last one takes the SAs, after a while in which the UE's own NOTIFY passes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.roles.pcscf_config import PcscfConfig
from imslab.roles.pcscf_contact import ContactState
from imslab.roles.pcscf_gm import GmSide
from imslab.roles.sa_table import Happening
from imslab.sip.message import Request, Response
from imslab.sip.reginfo import CONTENT_TYPE, Registration, parse_reginfo
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: Longer than any registration (24.229 5.2.3 wants it longer than the user's).
SUBSCRIPTION = 1_200_000
#: Seconds between two SUBSCRIBEs at least, whatever the notifier says.
SHORTEST = 30.0


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscription for a private identity: its dialog and what was heard in it. version: -1 before any NOTIFY."""

    impi: str
    impu: str
    call_id: str
    tag: str
    remote_to: str
    target: str
    routes: list[str] = field(default_factory=list)
    cseq: int = 0
    version: int = -1
    active: bool = False


class RegEvents(GmSide):
    """The P-CSCF as a subscriber of the reg event package."""

    def __init__(self, name: str, config: PcscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self.subscriptions: dict[str, Subscription] = {}  # by IMPI
        self._dialogs: dict[str, Subscription] = {}  # by Call-ID

    # ---- subscribing

    def subscribe(self, contact: ContactState) -> None:
        """Watch this user from now on; once for each private identity."""
        impi = contact.key.impi
        if not self.config.subscribe or impi in self.subscriptions or "pcscf-no-reg-event" in self.faults:
            return
        impu = str(contact.identities[0])
        call_id = f"{self.token()}@{self.name}"
        made = Subscription(impi, impu, call_id, self.token(4), f"<{impu}>", impu)
        self.subscriptions[impi] = self._dialogs[call_id] = made
        self._send_subscribe(made)

    def _send_subscribe(self, made: Subscription) -> None:
        made.cseq += 1
        uri = self.config.uri
        headers = [
            ("Max-Forwards", "70"),
            *[("Route", route) for route in made.routes],
            ("From", f"<{uri}>;tag={made.tag}"),
            ("To", made.remote_to),
            ("Call-ID", made.call_id),
            ("CSeq", f"{made.cseq} SUBSCRIBE"),
            ("Contact", f"<{uri}>"),
            ("P-Asserted-Identity", f"<{uri}>"),
            ("P-Charging-Vector", self.charging_vector()),
            ("Event", "reg"),
            ("Accept", CONTENT_TYPE),
            ("Expires", str(SUBSCRIPTION)),
        ]
        request = Request("SUBSCRIBE", made.target, headers)

        def then(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            self._subscribed(made, response)

        def found(remote: Endpoint | None) -> None:
            if remote is None:
                self._subscribed(made, None)
            else:
                self.request(request, self.core_flow(request, remote), then, sent_by=self.core)

        if made.routes or made.active:
            hop = Uri.parse(made.routes[0].strip("<>")) if made.routes else Uri.parse(made.target)
            self.resolve(hop.host, hop.port or 5060, Transport.UDP, found)
        else:
            # 24.229 5.2.3: to the home network's entry point, which finds the S-CSCF.
            entry = self.entry_points(made.impu)[0]
            self.resolve(entry.host, entry.port, Transport.UDP, found)

    def _subscribed(self, made: Subscription, response: Response | None) -> None:
        if self._dialogs.get(made.call_id) is not made:
            return
        if response is not None and response.status < 200:
            return
        if response is None or response.status >= 300:
            why = f"answered {response.status}" if response else "nobody answers"
            self.emit("subscription-failed", f"reg event of {made.impu}: {why}", impi=made.impi)
            self._forget(made)
            if made.active:
                self.set_alarm(("subscribe", made.impi), SHORTEST)
            return
        if not made.active:
            made.active = True
            made.remote_to = response.get("To") or made.remote_to
            if response.contact:
                made.target = str(response.contact[0].uri)
            # RFC 3261 12.1.2: the route set of the one who asked is the Record-Route, backwards.
            made.routes = [f"<{each.uri}>" for each in reversed(response.record_route)]
        seconds = response.expires if response.expires is not None else SUBSCRIPTION
        wait = seconds - 600 if seconds > 1200 else seconds / 2
        self.set_alarm(("resubscribe", made.call_id), max(wait, SHORTEST))

    def _resubscribe(self, impi: str) -> None:
        registered = [each for each in self.contacts_of(impi) if each.bindings]
        if registered:
            self.subscribe(registered[0])

    def _forget(self, made: Subscription) -> None:
        self.clear_alarm(("resubscribe", made.call_id))
        self._dialogs.pop(made.call_id, None)
        del self.subscriptions[made.impi]

    def on_alarm(self, key: Hashable) -> None:
        if isinstance(key, tuple) and key[0] == "resubscribe":
            self._send_subscribe(self._dialogs[key[1]])
            return
        if isinstance(key, tuple) and key[0] == "subscribe":
            self._resubscribe(key[1])
            return
        super().on_alarm(key)

    def forget_if_idle(self, contact: ContactState) -> None:
        super().forget_if_idle(contact)
        made = self.subscriptions.get(contact.key.impi)
        if made is not None and not self.contacts_of(made.impi):
            self._forget(made)

    # ---- being told

    def on_reg_notify(self, txn: Transaction, request: Request) -> bool:
        """Take in a NOTIFY that is for us. False when it is not: it may be for a UE. Raises PeerError."""
        made = self._dialogs.get(request.call_id)
        if made is None or request.to.tag != made.tag:
            return False
        told = request.subscription_state
        info = parse_reginfo(request.body) if request.body else None
        pause = max(SHORTEST, told.retry_after or 0) if told else SHORTEST
        self.respond(txn, 200)
        if info is not None:
            self._apply(made, info.version, info.state == "full", info.registrations)
        if told is not None and told.state == "terminated":
            self._forget(made)
            if any(contact.bindings for contact in self.contacts_of(made.impi)):
                self.set_alarm(("subscribe", made.impi), pause)
        return True

    def _apply(self, made: Subscription, version: int, full: bool, registrations: list[Registration]) -> None:
        if version <= made.version:
            return  # RFC 3680 4.7: what is older than what we know changes nothing
        if not full and version != made.version + 1:
            if made.active:
                self._send_subscribe(made)  # something is missing: a refresh brings the full state
            return
        made.version = version
        for contact in self.contacts_of(made.impi):
            for registration in registrations:
                self._apply_one(contact, registration)
            self.settle(contact, "the network says so")

    def _apply_one(self, contact: ContactState, told: Registration) -> None:
        try:
            uri = Uri.parse(told.aor)
        except PeerError as error:
            self.emit("malformed", f"reg event: {error}")
            return
        mine = next((each for each in told.contacts if contact.contact and _same(each.uri, contact.contact)), None)
        if told.state == "terminated" if mine is None else mine.state == "terminated":
            self._remove_identity(contact, uri)
        elif mine is not None and mine.state == "active":
            if contact.bindings and contact.identity(uri) is None:
                contact.bindings[0].identities.append(uri)  # 24.229 5.2.3: the stored list follows
            if mine.event == "shortened" and mine.expires is not None:
                self._shorten(contact, uri, mine.expires)

    def _remove_identity(self, contact: ContactState, uri: Uri) -> None:
        for binding in contact.bindings:
            binding.identities = [each for each in binding.identities if each.aor != uri.aor]
        contact.bindings = [each for each in contact.bindings if each.identities]

    def _shorten(self, contact: ContactState, uri: Uri, seconds: int) -> None:
        for binding in contact.bindings:
            if uri.aor in binding.names:
                binding.expires = min(binding.expires, self.now + seconds)
        self.watch_expiry(contact)

    # ---- what others of the P-CSCF need too

    def settle(self, contact: ContactState, why: str) -> None:
        """After a change of what is registered: when nothing is, the SAs go, in a while (33.203 7.4.2a)."""
        self.watch_expiry(contact)
        if contact.bindings:
            return
        ended = False
        for record in self.table.of(contact.key):
            before = record.stage
            self.happen(record, Happening.DEREGISTERED)
            ended = ended or record.stage is not before
        if ended:
            self.emit("deregistered", f"{contact.key.impi}: {why}", impi=contact.key.impi)
        self.forget_if_idle(contact)

    def charging_vector(self) -> str:
        """A P-Charging-Vector with an icid of its own (24.229 7.2A.5): ioi of type 1, naming our network."""
        host = self.config.mw.host
        host = f"[{host}]" if ":" in host else host
        return f'icid-value="{self.token(12)}";icid-generated-at={host};orig-ioi="Type 1{self.config.network}"'

    def entry_points(self, uri: str) -> list[Endpoint]:
        """Where requests for a home network go, in order of trial; hosts may be names. Raises PeerError."""
        if self.config.icscf:
            return list(self.config.icscf)
        home = Uri.parse(uri)
        return [Endpoint(home.host, home.port or 5060)]


def _same(text: str, uri: Uri) -> bool:
    try:
        return Uri.parse(text) == uri
    except PeerError:
        return False
