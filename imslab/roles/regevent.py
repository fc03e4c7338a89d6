"""The reg event package as the notifier writes it (RFC 3680, RFC 6665; 24.229 5.4.2.1): documents and NOTIFYs.

    SUBSCRIBE ─► 200, and at once a NOTIFY with the full state
    any change ─► a NOTIFY with the full state, version one higher
    nothing registered any more, or the subscription ends ─► a last NOTIFY, Subscription-State: terminated

A subscription is a dialog: its NOTIFYs bear the identities and tags of the SUBSCRIBE turned round, and go to the
subscriber's Contact along the Record-Route (RFC 3261 12.2.1.1). Who subscribes and when is `scscf_regevent`'s affair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from imslab.roles.registrar import Binding, Registration
from imslab.sip.message import Request
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, write_reginfo
from imslab.sip.reginfo import Registration as Element

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Gone(NamedTuple):
    """A binding that has just ended, and the event that ended it ("expired", "unregistered", "deactivated", …)."""

    binding: Binding
    event: str


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscription to the state of a set.

    registration: of the identity that was subscribed to. local, remote: our From and To in NOTIFYs, as rows, with
    their tags. target, routes: where NOTIFYs go. contact: ours. remote_cseq: of the last SUBSCRIBE. event: as the
    subscriber wrote it, id included. cseq: of the last NOTIFY. version: of the next document.
    """

    registration: Registration
    call_id: str
    local: str
    local_tag: str
    remote: str
    remote_tag: str
    target: str
    routes: list[str]
    contact: str
    remote_cseq: int
    event: str
    expires_at: float = 0.0
    cseq: int = 0
    version: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """The dialog: Call-ID, our tag, the subscriber's (RFC 3261 12)."""
        return self.call_id, self.local_tag, self.remote_tag

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
    registration: Registration, now: float, gone: Sequence[Gone] = (), dropped: Sequence[str] = ()
) -> list[Element]:
    """The state of a set: one registration element per identity that is not barred, with every contact.

    dropped: identities that have just left the set, or have been barred.
    """
    active = "active" if registration.bindings else "terminated"
    found: list[Element] = []
    for identity in registration.identities:
        if identity.usable:
            element = Element(identity.uri, _stable(identity.uri), active)
            new = identity.aor in registration.added
            implicit = identity.aor != registration.asked
            element.contacts = [
                _contact(binding, element.id, "active", _told(binding.event, implicit, new), now)
                for binding in registration.bindings
            ]
            element.contacts += [_contact(binding, element.id, "terminated", event, now) for binding, event in gone]
            found.append(element)
    for uri in dropped:
        element = Element(uri, _stable(uri), "terminated")
        element.contacts = [
            _contact(binding, element.id, "terminated", "deactivated", now) for binding in registration.bindings
        ]
        found.append(element)
    return found


def _told(event: str, implicit: bool, new: bool) -> str:
    """24.229 5.4.2.1.2: what the user has asked for is "registered", what came with it, or later, is "created"."""
    return "created" if new or (implicit and event == "registered") else event


def _contact(binding: Binding, element: str, state: str, event: str, now: float) -> RegContact:
    return RegContact(
        _legible(str(binding.uri)),
        f"{element}.{binding.number}",
        state,
        event,
        expires=max(0, round(binding.expires_at - now)) if state == "active" else 0,
        duration_registered=max(0, round(now - binding.registered_at)),
        callid=_legible(binding.call_id),
        cseq=binding.cseq,
    )


def _legible(text: str) -> str:
    """What a UE wrote, with a sign in place of octets that were no UTF-8 and of what XML 1.0 2.2 cannot carry."""
    return _ILLEGAL.sub("\ufffd", text)


def _stable(uri: str) -> str:
    """An id that is the same in every document, different for different identities, and legal in XML."""
    return "r" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in uri)
