"""The reg event package, notifier's side (RFC 3680, RFC 6665; 24.229 5.4.2.1).

    SUBSCRIBE ─► 200, and at once a NOTIFY with the full state
    any change ─► a NOTIFY with the full state, version one higher
    nothing registered any more, or the subscription ends ─► a last NOTIFY, Subscription-State: terminated

A subscription is a dialog: its NOTIFYs bear the identities and tags of the SUBSCRIBE turned round, go to the
subscriber's Contact along the Record-Route (RFC 3261 12.2.1.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imslab.roles.registrar import Binding, Registration
from imslab.sip.message import Request
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, write_reginfo
from imslab.sip.reginfo import Registration as Element


@dataclass(slots=True)
class Subscription:
    """One subscription to the state of a set. identity: the one that was subscribed to."""

    identity: str
    call_id: str
    local: str  # our From: the subscriber's To, with our tag
    remote: str  # our To: the subscriber's From
    target: str
    routes: list[str]
    contact: str
    expires_at: float
    remote_cseq: int
    event: str = "reg"
    cseq: int = 0
    version: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What an in-dialog SUBSCRIBE is matched by: Call-ID and the subscriber's tag stand for both."""
        return self.call_id, self.remote

    def notify(self, state: Sequence[Element], left: float, reason: str | None) -> Request:
        """The next NOTIFY. left: seconds of the subscription. reason: why it ends, None if it goes on."""
        self.cseq += 1
        document = RegInfo(self.version, "full", list(state))
        self.version += 1
        status = f"terminated;reason={reason}" if reason else f"active;expires={max(0, round(left))}"
        headers = [("Route", row) for row in self.routes]
        headers += [
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self.cseq} NOTIFY"),
            ("Max-Forwards", "70"),
            ("Contact", self.contact),
            ("Event", self.event),
            ("Subscription-State", status),
            ("Content-Type", CONTENT_TYPE),
        ]
        return Request("NOTIFY", self.target, headers, write_reginfo(document))


def elements(
    registration: Registration, now: float, gone: Iterable[tuple[Binding, str]] = (), dropped: Sequence[str] = ()
) -> list[Element]:
    """The state of a set: one registration element per identity that is not barred, with every contact.

    gone: bindings that have just ended, and by which event. dropped: identities that have just left the set.
    The identity that was asked for is "registered", the others of its set "created" (24.229 5.4.2.1.2).
    """
    ended = list(gone)
    found = [
        Element(identity, f"r{_stable(identity)}", "active" if registration.bindings else "terminated", [])
        for identity in registration.allowed or [registration.asked]
    ]
    for element in found:
        asked = element.aor == registration.asked
        for binding in registration.bindings.values():
            event = "created" if not asked and binding.event == "registered" else binding.event
            element.contacts.append(_contact(binding, element.id, "active", event, now))
        element.contacts += [_contact(binding, element.id, "terminated", event, now) for binding, event in ended]
    for identity in dropped:
        element = Element(identity, f"r{_stable(identity)}", "terminated", [])
        element.contacts = [
            _contact(binding, element.id, "terminated", "deactivated", now)
            for binding in registration.bindings.values()
        ]
        found.append(element)
    return found


def _contact(binding: Binding, element: str, state: str, event: str, now: float) -> RegContact:
    return RegContact(
        str(binding.uri),
        f"{element}c{binding.number}",
        state,
        event,
        expires=max(0, round(binding.expires_at - now)) if state == "active" else 0,
        duration_registered=max(0, round(now - binding.registered_at)),
        callid=binding.call_id,
        cseq=binding.cseq,
    )


def _stable(identity: str) -> str:
    """An id that is the same in every document and legal as an XML token."""
    return "".join(c if c.isalnum() else f"-{ord(c):x}" for c in identity)
