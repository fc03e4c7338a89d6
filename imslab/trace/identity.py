"""Whose message it is."""

from __future__ import annotations

from imslab.core.errors import PeerError
from imslab.sip.message import Message


def impi_of(message: Message) -> str:
    """The private identity that a request's Authorization names; "" if it names none that can be read."""
    try:
        return next((each.username for each in message.authorization if each.username), "") or ""
    except PeerError:
        return ""


def impu_of(message: Message) -> str:
    """The public identity that a REGISTER is about: the URI of its To, without parameters; "" if it cannot be read."""
    try:
        return str(message.to.uri)
    except PeerError:
        return ""
