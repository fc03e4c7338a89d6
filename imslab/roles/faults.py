"""Boxes made wrong on purpose: each fault is one named deviation, so that the rule for it can be shown to notice.

A fault either alters what a node sends (`alter`: the last hand on a message before it becomes octets), or is a switch
that the node asks for at the line where it would do the right thing (`if "late-sas" in self.faults`).
Every fault here has a rule that it trips; tests/rules proves it pair by pair.
"""

from __future__ import annotations

import re
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


# ---------------------------------------------------------------------------------------------------------- P-CSCF


def _edit_server(message: Message, hop: str, edit: Callable[[str], str]) -> Message:
    """Change Security-Server in a challenge on Gm."""
    if hop == "Gm" and not message.is_request and message.has("Security-Server"):
        message.set("Security-Server", edit(message.get("Security-Server") or ""))
    return message


def _without_server(message: Message, hop: str) -> Message:
    if hop == "Gm":
        message.remove("Security-Server")
    return message


def _flag_twice(message: Message, hop: str) -> Message:
    if hop == "Mw" and message.is_request and message.has("Authorization"):
        message.set("Authorization", f'{message.get("Authorization")}, integrity-protected="yes"')
    return message


def _all_hops_left(message: Message, hop: str) -> Message:
    if hop == "Mw" and message.is_request:
        message.set("Max-Forwards", "70")
    return message


for _name, _text in (
    ("pcscf-admits-all", "requests that come in clear are passed on (33.203 7.1)"),
    ("pcscf-agreement-in-200", "the 200 says Security-Server again (33.203 7.2)"),
    ("pcscf-agreement-upstream", "Security-Client, Security-Verify and sec-agree go upstream (24.229 5.2.2.2)"),
    ("pcscf-always-protected", "integrity-protected is always yes (33.203 6.1.5)"),
    ("pcscf-answers-in-clear", "answers to protected REGISTERs leave in clear (33.203 7.4)"),
    ("pcscf-answers-to-uc", "answers over UDP go from port_ps to port_uc (33.203 7.1)"),
    ("pcscf-asserts-foreign", "any preferred identity is asserted (24.229 5.2.6.3)"),
    ("pcscf-believes-asserted", "the UE's own P-Asserted-Identity goes upstream (24.229 5.2.6.3)"),
    ("pcscf-believes-charging", "the UE's own charging and visited-network headers go upstream (24.229 5.2.2.1)"),
    ("pcscf-believes-integrity", "the UE's own integrity-protected goes upstream (33.203 P.3)"),
    ("pcscf-believes-path", "the UE's own Path goes upstream (24.229 5.2.2.1)"),
    ("pcscf-charging-on-gm", "charging headers reach the UE (24.229 5.4.1.2.2F)"),
    ("pcscf-drops-old-set", "the old set goes with the 200 that renews it (33.203 7.4.2a)"),
    ("pcscf-echoes-spis", "Security-Server has the UE's own SPIs (33.203 7.1)"),
    ("pcscf-follows-any-route", "a Route that is not the Service-Route is followed (24.229 5.2.6.3)"),
    ("pcscf-ignores-user", "a REGISTER may be of another user than its SAs (33.203 7.1 rule 4)"),
    ("pcscf-ignores-verify", "Security-Verify and the repeated Security-Client are not compared (33.203 7.2)"),
    ("pcscf-ignores-via", "a protected REGISTER may name any address in its Via (33.203 7.1 rule 2)"),
    ("pcscf-keys-on-gm", "the 401 reaches the UE with ck and ik (33.203 6.1.1)"),
    ("pcscf-last-offer-wins", "of several offers the last one is taken (33.203 7.2)"),
    ("pcscf-late-sas", "the 401 leaves before its SAs stand (33.203 7.2)"),
    ("pcscf-mt-from-clear-port", "requests to the UE leave from 5060, in clear (33.203 7.1)"),
    ("pcscf-never-switches", "what goes to the UE stays on the old set (33.203 7.4.2a)"),
    ("pcscf-no-charging-vector", "REGISTER goes upstream without P-Charging-Vector (24.229 5.2.2.1)"),
    ("pcscf-no-integrity", "REGISTER goes upstream without integrity-protected (24.229 5.2.2.2)"),
    ("pcscf-no-path", "REGISTER goes upstream without Path (24.229 5.2.2.1)"),
    ("pcscf-no-reg-event", "the registration state is not subscribed to (24.229 5.2.3)"),
    ("pcscf-no-require-path", "REGISTER goes upstream without Require: path (24.229 5.2.2.1)"),
    ("pcscf-no-visited-network", "REGISTER goes upstream without P-Visited-Network-ID (24.229 5.2.2.1)"),
    ("pcscf-one-entry-server", "Security-Server lists the chosen combination only (33.203 7.2)"),
    ("pcscf-port-c-stays", "port_pc is the same at every authentication (33.203 7.4.0)"),
    ("pcscf-port-s-moves", "port_ps is new at every authentication (33.203 7.4.0)"),
    ("pcscf-record-routes-register", "REGISTER goes upstream with Record-Route (RFC 3261 10.3)"),
    ("pcscf-sas-go-first", "the SAs go before the 200 to a de-registration, which leaves in clear (24.229 5.2.5.1)"),
    ("pcscf-short-lifetime", "the SAs end with the registration, not 30 s later (24.229 5.2.2.2)"),
    ("pcscf-swaps-keys", "CK and IK change places in the SAs (33.203 6.2)"),
    ("pcscf-swaps-ports", "port_pc and port_ps change places in Security-Server (33.203 7.1)"),
    ("pcscf-via-port-pc", "Via and Record-Route towards the UE carry port_pc (24.229 5.2.6)"),
):
    declare(_name, "P-CSCF", _text)

declare(
    "pcscf-all-hops-left",
    "P-CSCF",
    "Max-Forwards is not counted down (RFC 3261 16.6)",
    _all_hops_left,
)
declare(
    "pcscf-clear-port-agreed",
    "P-CSCF",
    "Security-Server says port-s=5060 (33.203 7.1)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub("port-s=[0-9]+", "port-s=5060", text)),
)
declare(
    "pcscf-flag-twice",
    "P-CSCF",
    "integrity-protected goes upstream twice (24.229 7.2A.2)",
    _flag_twice,
)
declare(
    "pcscf-no-alg",
    "P-CSCF",
    "Security-Server leaves alg out (33.203 Annex H)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub(";alg=[^;,]+", "", text)),
)
declare(
    "pcscf-no-security-server",
    "P-CSCF",
    "the 401 has no Security-Server (33.203 7.2)",
    _without_server,
)
declare(
    "pcscf-reserved-spi",
    "P-CSCF",
    "Security-Server says spi-c=0000000001 (RFC 4303 2.1)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub("spi-c=[0-9]+", "spi-c=0000000001", text)),
)
