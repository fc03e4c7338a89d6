"""Event and Subscription-State."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.event import Event, SubscriptionState


def test_event() -> None:
    event = Event.parse(" reg ; id=7 ")
    assert (event.package, event.id, str(event)) == ("reg", "7", "reg ; id=7")
    assert Event.parse("reg").id is None
    assert str(Event("reg", {"id": "1"})) == "reg;id=1"
    assert Event("reg") == Event.parse("reg")
    with pytest.raises(PeerError):
        Event.parse("reg, presence")
    with pytest.raises(LocalError):
        str(Event("a b"))


def test_subscription_state() -> None:
    state = SubscriptionState.parse("Terminated;reason=Rejected;retry-after=5;expires=0")
    assert (state.state, state.reason, state.retry_after, state.expires) == ("terminated", "rejected", 5, 0)
    assert str(state) == "Terminated;reason=Rejected;retry-after=5;expires=0"
    plain = SubscriptionState.parse("active")
    assert (plain.reason, plain.retry_after, plain.expires) == (None, None, None)
    assert str(SubscriptionState("active", {"expires": "600"})) == "active;expires=600"
    for name in ("expires", "retry_after"):
        with pytest.raises(PeerError):
            getattr(SubscriptionState.parse("active;expires=x;retry-after=4294967296"), name)
    with pytest.raises(PeerError):
        SubscriptionState.parse("")
