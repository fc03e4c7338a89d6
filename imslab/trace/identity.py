"""Whose message it is."""

from __future__ import annotations

import re

from imslab.core.errors import PeerError
from imslab.sip.message import Message

_IN_BRACKETS = re.compile(r"<([^<>]*)>")


def impi_of(message: Message) -> str:
    """The private identity that a request's Authorization names; "" if it names none that can be read."""
    return message.derived(_impi_of)


def _impi_of(message: Message) -> str:
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


def via_count(message: Message) -> int:
    """How many Vias a message has; rows that cannot be split count as one each."""
    return message.derived(_via_count)


def _via_count(message: Message) -> int:
    try:
        return len(message.values("Via"))
    except PeerError:
        return len(message.rows("Via"))


def is_third_party(message: Message) -> bool:
    """A REGISTER by which an S-CSCF tells an application server (24.229 5.4.1.7): registers another than its sender."""
    if message.has("Authorization") or message.has("Security-Client"):
        return False  # which a UE has to send, and an S-CSCF has not
    return message.derived(_is_third_party)


def _is_third_party(message: Message) -> bool:
    sender, target = _IN_BRACKETS.search(message.get("From") or ""), _IN_BRACKETS.search(message.get("To") or "")
    if sender is not None and target is not None and sender[1] == target[1]:
        return False
    try:
        return message.from_.uri != message.to.uri
    except PeerError:
        return False
