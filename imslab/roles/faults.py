"""Boxes made wrong on purpose: each fault is one named deviation, so that the rule for it can be shown to notice.

A fault either alters what a node sends (`alter`: the last hand on a message before it becomes octets), or is a switch
that the node asks for at the line where it would do the right thing (`if "late-sas" in self.faults`).
Every fault here has a rule that it trips; tests/rules proves it pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imslab.core.errors import LocalError
from imslab.sip.message import Message

#: (message, reference point) → the message to send instead; None sends nothing.
Alter = Callable[[Message, str], Message | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One deviation. role: who can have it ("UE", "P-CSCF", …). text: what goes wrong, in one line."""

    name: str
    role: str
    text: str
    alter: Alter | None = None


#: All faults by name. Roles' modules say nothing about them except where a switch is asked for.
FAULTS: dict[str, Fault] = {}


def declare(name: str, role: str, text: str, alter: Alter | None = None) -> None:
    """Add a fault to the table."""
    if name in FAULTS:
        raise LocalError(f"fault {name!r} is declared twice")
    FAULTS[name] = Fault(name, role, text, alter)


class Faults:
    """The faults of one node. `name in faults` asks for a switch."""

    __slots__ = ("_alterations", "names")

    def __init__(self, names: Iterable[str] = (), role: str = "") -> None:
        """Raises LocalError for a fault that is unknown or belongs to another role."""
        self.names = frozenset(names)
        for name in self.names:
            if name not in FAULTS:
                raise LocalError(f"unknown fault {name!r}; there are: {', '.join(sorted(FAULTS))}")
            if role and FAULTS[name].role != role:
                raise LocalError(f"fault {name!r} is one of a {FAULTS[name].role}, not of a {role}")
        self._alterations = [alter for name in sorted(self.names) if (alter := FAULTS[name].alter) is not None]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def alter(self, message: Message, hop: str) -> Message | None:
        """What is really sent on this reference point in place of `message`."""
        altered: Message | None = message
        for alteration in self._alterations:
            if altered is None:
                return None
            altered = alteration(altered, hop)
        return altered
