"""An HSS made wrong on purpose: each fault is one deviation seen in HSSs of the field, so that a test of the HSS can
be shown to notice it, and an S-CSCF or I-CSCF to survive it.

A fault is a switch that the HSS asks for at the line where it would do the right thing, or another row in the table of
its Diameter peer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imslab.core.errors import unknown
from imslab.diameter.codes import ResultCode
from imslab.diameter.message import DiameterMessage
from imslab.diameter.peer import TABLE, Action, Input, Peer, State, Table


@dataclass(frozen=True, slots=True)
class Fault:
    """One deviation. text: what goes wrong, in one line."""

    name: str
    text: str


#: All faults by name.
FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("auts-unchecked", "a forged AUTS moves the SQN: MAC-S is not verified (33.102 6.3.5)"),
        Fault("auts-from-anyone", "an AUTS from an S-CSCF whose name is not stored is processed (29.228 6.3.1)"),
        Fault("sqn-repeated", "each SQN is handed out twice, as two workers without a common record do"),
        Fault("ind-blind", "SQN grows by one, so IND moves but SEQ does not: the card refuses most (33.102 C.1)"),
        Fault(
            "amf-zero-after-resync", "the vector after a resynchronisation has AMF 0000 in place of the subscriber's"
        ),
        Fault("rand-reused", "the same RAND in every vector until a resynchronisation"),
        Fault("split-request-lost", "a request that comes in two TCP segments is never answered"),
        Fault("missing-avp-ignored", "a request without a mandatory AVP is never answered (RFC 6733 7.1.5: 5005)"),
        Fault("unknown-avp-accepted", "an unknown AVP with the M bit is ignored (RFC 6733 4.1: 5001)"),
        Fault("any-sar-clears", "every Server-Assignment-Type other than 1 and 2 clears the S-CSCF (29.228 6.1.2.1)"),
        Fault("takeover-unchecked", "another S-CSCF may re-register a user without a check (29.228 6.1.2.1: 5005)"),
        Fault("identities-unmatched", "IMPI and IMPU that do not belong together are accepted (29.228: 5002)"),
        Fault("scheme-ignored", "an unsupported scheme is answered with AKAv1 in place of 5006 (29.228 6.3.1)"),
        Fault("one-vector", "one vector is given, however many are asked for"),
        Fault("vector-before-commit", "the vector leaves before its SQN is durable"),
        Fault("mar-before-cer", "requests are answered before the capabilities were exchanged (RFC 6733 5.3)"),
        Fault("cer-unchecked", "a CER without a common application is accepted (RFC 6733 5.3: 5010)"),
        Fault("open-after-dpr", "the connection stays open after DPR and DPA (RFC 6733 5.4)"),
        Fault("rtr-nowhere", "an RTR is said to be sent, and is not"),
        Fault("ppr-missing", "a changed profile is not pushed"),
        Fault("takeover-silent", "the S-CSCF that lost a user to another one gets no RTR (29.228 8.1.1)"),
        Fault("mnc-cut", "a three-digit MNC 0xy is looked up as xy (23.003 13.2): nobody is known"),
        Fault("keys-logged", "K and OPc stand in what is told to humans"),
    )
}


class Faults:
    """The faults of one HSS. `name in faults` asks for a switch."""

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Raises LocalError for a fault that is unknown."""
        self.names = frozenset(names)
        for name in sorted(self.names):
            if name not in FAULTS:
                raise unknown("fault", name, FAULTS, "docs/reference/faults.md")

    def __contains__(self, name: str) -> bool:
        return name in self.names


def cut_mnc(identity: str) -> str:
    """The fault "mnc-cut": mnc001 becomes mnc01."""
    return re.sub(r"\bmnc0(\d\d)\b", r"mnc\1", identity)


def _meet_anyone(peer: Peer, message: DiameterMessage, now: float) -> None:
    peer.reply(message, ResultCode.SUCCESS, avps=peer.capabilities())
    peer.open(str(message.get("Origin-Host")), str(message.get("Origin-Realm")), now)


def _take_early(peer: Peer, message: DiameterMessage, now: float) -> None:
    peer.open(str(message.get("Origin-Host")), str(message.get("Origin-Realm")), now)
    TABLE[State.OPEN, Input.REQUEST](peer, message, now)


def _stay(peer: Peer, message: DiameterMessage, now: float) -> None:
    peer.reply(message, ResultCode.SUCCESS)


#: Fault → the row of `peer.TABLE` that it replaces.
_ROWS: dict[str, tuple[tuple[State, Input], Action]] = {
    "cer-unchecked": ((State.WAIT_CER, Input.CER), _meet_anyone),
    "mar-before-cer": ((State.WAIT_CER, Input.REQUEST), _take_early),
    "open-after-dpr": ((State.OPEN, Input.DPR), _stay),
}


def peer_table(faults: Faults) -> Table:
    """The table of a Diameter peer that has these faults."""
    return {**TABLE, **dict(row for name, row in _ROWS.items() if name in faults)}
