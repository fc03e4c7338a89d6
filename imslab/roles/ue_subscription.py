"""The UE's subscription to its own registration state (24.229 5.1.1.3, 5.1.2.1; RFC 3680, RFC 6665).

After the 200 the UE subscribes to the reg event package of its default identity, refreshes as it refreshes a
registration, and answers each NOTIFY. The documents of one subscription are numbered: a full one replaces what is
known, a partial one changes the registrations that it lists, one that comes too late is ignored, and a gap makes the UE
ask for a full one. What they say of the UE's own contact goes on to the registration's table.
"""

from __future__ import annotations

from imslab.core import events as ev
from imslab.core.errors import PeerError
from imslab.roles.ue_registration import is_ours, refresh_delay, retry_after
from imslab.roles.ue_speech import UeSpeech
from imslab.roles.ue_states import Input
from imslab.sip.message import Request, Response
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, parse_reginfo
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: 24.229 5.1.1.3: asked for, seconds.
EXPIRES = 600000
#: What ends a contact, and what the UE makes of it (24.229 5.1.1.7, RFC 3680 4.6 and 5.1).
ENDINGS = {
    "deactivated": Input.NET_DEACTIVATED,
    "probation": Input.NET_PROBATION,
    "rejected": Input.NET_ENDED,
    "unregistered": Input.NET_ENDED,
    "expired": Input.NET_PROBATION,
}
#: RFC 6665 4.1.3: reasons of a terminated subscription after which a new one is right, at once or later.
AGAIN = frozenset({"deactivated", "timeout", "probation", "giveup"})
#: Seconds between attempts where nobody named any.
PATIENCE = 60.0


class RegSubscription:
    """One subscription after another. contacts: what the network says, by address-of-record and contact id."""

    __slots__ = (
        "_call_id",
        "_cseq",
        "_expires",
        "_left",
        "_local_tag",
        "_remote_cseq",
        "_remote_tag",
        "_routes",
        "_target",
        "_ue",
        "active",
        "contacts",
        "version",
    )

    def __init__(self, ue: UeSpeech) -> None:
        self._ue = ue
        self._expires = EXPIRES
        self.drop()

    def drop(self) -> None:
        """Forget the subscription, without a word."""
        self._call_id = ""
        self._local_tag = self._remote_tag = ""
        self._cseq = 0
        self._remote_cseq = -1
        self._routes: list[str] | None = None
        self._target = ""
        #: True from the first SUBSCRIBE until the subscription is lost.
        self.active = False
        self._left = False
        #: Of the latest document; -1: none yet.
        self.version = -1
        self.contacts: dict[str, dict[str, RegContact]] = {}
        self._ue.clear_alarm("subscription")

    def leave(self) -> None:
        """The registration is over, and the subscription with it, as if we had asked for zero seconds (24.229 5.1.1.6).

        The last NOTIFY may still be on its way; it is answered as long as an SA lets it in.
        """
        left = self.active, self._call_id, self._local_tag, self._remote_tag
        self.drop()
        self._left, self._call_id, self._local_tag, self._remote_tag = left

    # ---- SUBSCRIBE

    def start(self) -> bool:
        """Subscribe anew. False while the UE may not speak."""
        if not self._ue.may_speak:
            return False
        self.drop()
        self.active = True
        self._call_id = self._ue.new_call_id()
        self._local_tag = self._ue.token(4)
        self._target = self._ue.identity
        self._subscribe()
        return True

    def on_alarm(self) -> None:
        """A refresh, or another attempt, is due."""
        if not self.active:
            self.start()
        elif self._ue.may_speak:
            self._subscribe()

    def _subscribe(self) -> None:
        ue = self._ue
        me = ue.identity
        self._cseq += 1
        tag = f";tag={self._remote_tag}" if self._remote_tag else ""
        headers = [
            # 24.229 5.1.1.3: Request-URI, From and To are the identity; Contact leads to port_us.
            ("From", f"<{me}>;tag={self._local_tag}"),
            ("To", f"<{me}>{tag}"),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} SUBSCRIBE"),
            ("Contact", ue.contact_row(ue.contact, features=False)),
            ("Event", "reg"),
            ("Expires", "3600" if "ue-subscribes-briefly" in ue.faults else str(self._expires)),
            ("Accept", CONTENT_TYPE),
            ("P-Preferred-Identity", f"<{me}>"),
        ]
        ue.ask("SUBSCRIBE", self._target, headers, self._on_answer, routes=self._routes)

    def _on_answer(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        if not self.active or txn.request.call_id != self._call_id or txn.request.cseq.number != self._cseq:
            return
        if response is None:
            self._later(PATIENCE)
            return
        if response.status < 200:
            return
        try:
            self._judge(response)
        except PeerError as error:
            self._ue.emit("malformed", f"{response.status} to SUBSCRIBE: {error}")

    def _judge(self, response: Response) -> None:
        status = response.status
        if status < 300:
            if not self._remote_tag:
                self._enter_dialog(response.to.tag, response)
                self._routes = [str(each) for each in reversed(response.record_route)]  # RFC 3261 12.1.2
            granted = self._expires if response.expires is None else min(response.expires, self._expires)
            self._ue.set_alarm("subscription", max(1.0, refresh_delay(granted)))
            self._ue.emit("subscribed", f"to reg, for {granted} s")
            return
        self._ue.emit("subscription-failed", f"{status} {response.reason}", status=status)
        wait = retry_after(response)
        if status == 481 and self._remote_tag:
            self.start()  # 24.229 5.1.1.3: a subscription that the network has lost is made anew
        elif status == 423 and (response.min_expires or 0) > self._expires:
            self._expires = response.min_expires or EXPIRES
            self._subscribe()
        elif wait is not None or status in (408, 500, 503, 504):
            self._later(float(wait) if wait is not None else PATIENCE)
        else:
            self.drop()

    def _later(self, seconds: float) -> None:
        """Try again after a while; not sooner (24.229 5.1.2.2)."""
        self.drop()
        self._ue.set_alarm("subscription", max(1.0, seconds))

    def _enter_dialog(self, tag: str | None, message: Request | Response) -> None:
        self._remote_tag = tag or ""
        contacts = message.contact
        if contacts and not contacts[0].is_star:
            self._target = str(contacts[0].uri)

    # ---- NOTIFY

    def on_notify(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """A NOTIFY, maybe before the answer to SUBSCRIBE (RFC 6665 4.1.2.4). A PeerError is answered 400."""
        event = request.event
        if event is None or event.package != "reg":
            self._ue.respond(txn, 489, headers=[("Allow-Events", "reg")])
            return
        deaf = "ue-refuses-notify" in self._ue.faults
        known = self.active or self._left
        if deaf or not known or request.call_id != self._call_id or request.to.tag != self._local_tag:
            self._ue.respond(txn, 481)
            return
        if self._remote_tag and request.from_.tag != self._remote_tag:
            self._ue.respond(txn, 481)  # a second notifier: nobody forks here
            return
        if self._left:
            self._ue.respond(txn, 200)  # whatever it says, it is over
            return
        if request.cseq.number < self._remote_cseq:
            self._ue.respond(txn, 500)  # RFC 3261 12.2.2: out of order
            return
        if request.body and request.content_type != CONTENT_TYPE:
            self._ue.respond(txn, 415, headers=[("Accept", CONTENT_TYPE)])
            return
        state = request.subscription_state
        info = parse_reginfo(request.body) if request.body else None
        ended = state is not None and state.state == "terminated"
        left = state.expires if state is not None else None
        self._remote_cseq = request.cseq.number
        if not self._remote_tag:
            self._routes = [str(each) for each in request.record_route]
        self._enter_dialog(request.from_.tag, request)
        self._ue.respond(txn, 200, headers=[("Contact", self._ue.contact_row(self._ue.contact, features=False))])
        if left is not None and not ended:
            self._retime(left)
        if ended:
            self._ended(state.reason if state is not None else None, state.retry_after if state is not None else None)
        if info is not None:
            self._apply(info, ended)

    def _retime(self, left: int) -> None:
        """The notifier's word on how long the subscription lasts counts when it is shorter (RFC 6665 4.1.2.4)."""
        due = self._ue.alarm("subscription")
        delay = max(1.0, refresh_delay(left))
        if due is None or due > self._ue.now + delay:
            self._ue.set_alarm("subscription", delay)

    def _ended(self, reason: str | None, wait: int | None) -> None:
        version, contacts = self.version, self.contacts
        self.drop()
        self.version, self.contacts = version, contacts
        self._ue.emit("subscription-ended", reason or "without a reason")
        if reason in AGAIN or reason is None:
            soon = 1.0 if reason in ("deactivated", "timeout") else PATIENCE
            self._ue.set_alarm("subscription", float(wait) if wait else soon)

    def _apply(self, info: RegInfo, ended: bool) -> None:
        """RFC 3680 4.7."""
        if info.version <= self.version:
            self._ue.emit("notify", f"document {info.version} comes after {self.version}: ignored")
            return
        if info.state == "partial" and info.version != self.version + 1:
            self._ue.emit("notify", f"document {info.version} after {self.version}: one is missing")
            if not ended:
                self._ue.set_alarm("subscription", 0.0)  # a SUBSCRIBE brings a full one
            return
        self.version = info.version
        if info.state == "full":
            self.contacts = {}
        for registration in info.registrations:
            known = self.contacts.setdefault(registration.aor, {})
            if registration.state == "terminated" and not registration.contacts:
                for contact in known.values():
                    contact.state = "terminated"
            known.update({contact.id: contact for contact in registration.contacts})
        told = ", ".join(f"{each.aor} {each.state}" for each in info.registrations)
        self._ue.emit("notify", f"document {info.version} ({info.state}): {told or 'nothing'}", version=info.version)
        self._judge_contacts()

    def _judge_contacts(self) -> None:
        """What the network says of our own contact, for all identities together."""
        ours = [each for known in self.contacts.values() for each in known.values() if self._is_ours(each)]
        active = [each for each in ours if each.state == "active"]
        if active:
            shortened = [each.expires for each in active if each.event == "shortened" and each.expires is not None]
            if shortened:
                self._ue.network_says(Input.NET_SHORTENED, min(shortened))
        elif ours:
            # 24.229 5.1.1.7: all identities are gone. What happened to the one that we registered tells what to do.
            last = next(
                (
                    each
                    for aor, known in self.contacts.items()
                    if aor == self._ue.config.impu
                    for each in known.values()
                    if self._is_ours(each)
                ),
                ours[0],
            )
            self._ue.network_says(ENDINGS.get(last.event, Input.NET_ENDED), last.retry_after or 0)

    def _is_ours(self, contact: RegContact) -> bool:
        try:
            return is_ours(Uri.parse(contact.uri), self._ue.contact)
        except PeerError:
            return False
