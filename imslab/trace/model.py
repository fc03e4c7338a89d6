"""The Trace: what was seen, in the order in which it was seen. A live run and a dissected capture give the same one.

A trace holds records. Each knows the frames it was read from (numbers as Wireshark shows them, from 1), the time of
the last of them (seconds, any epoch), and the capture point. Rules judge records; reports show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.core.sa import Sa
from imslab.diameter.message import DiameterMessage
from imslab.sip.message import Message, Request, Response


class Role(StrEnum):
    """Who a box is."""

    UE = "UE"
    PCSCF = "P-CSCF"
    ICSCF = "I-CSCF"
    SCSCF = "S-CSCF"
    HSS = "HSS"
    UNKNOWN = "?"


class Hop(StrEnum):
    """The reference point that a message crossed."""

    GM = "Gm"
    MW = "Mw"
    CX = "Cx"
    UNKNOWN = "?"


class Icv(StrEnum):
    """What could be said of the integrity of an ESP packet."""

    OK = "ok"
    BAD = "bad"
    UNCHECKED = "unchecked"


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """One thing that was seen.

    frames: the frames it was read from, at the capture point that was chosen to speak for all.
    copies: frames that show the same at other capture points.
    """

    time: float
    frames: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    point: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class SipRecord(Record):
    """One SIP message on one hop. spi: of the ESP packet that carried it (the last one, if several); None in clear."""

    src: Endpoint
    dst: Endpoint
    transport: Transport
    message: Message
    spi: int | None = None
    hop: Hop = Hop.UNKNOWN
    sender: Role = Role.UNKNOWN
    receiver: Role = Role.UNKNOWN
    _method: str | None = field(default=None, init=False, repr=False)

    @property
    def method(self) -> str:
        """The method of a request, or of the request that a response answers; "" where the CSeq cannot be read."""
        if self._method is None:
            message = self.message
            if isinstance(message, Request):
                self._method = message.method
            else:
                words = (message.get("CSeq") or "").split()
                self._method = words[1] if len(words) == 2 else ""
        return self._method

    @property
    def status(self) -> int | None:
        """The status of a response, None for a request."""
        message = self.message
        return message.status if isinstance(message, Response) else None


@dataclass(slots=True, kw_only=True, eq=False)
class DiameterRecord(Record):
    """One Diameter message."""

    src: Endpoint
    dst: Endpoint
    transport: Transport
    message: DiameterMessage
    sender: Role = Role.UNKNOWN
    receiver: Role = Role.UNKNOWN


@dataclass(slots=True, kw_only=True, eq=False)
class EspRecord(Record):
    """One ESP packet. next_header and payload: None when it could not be opened. sa: the SA that it matched."""

    src: str
    dst: str
    spi: int
    sequence: int
    icv: Icv = Icv.UNCHECKED
    replayed: bool = False
    next_header: int | None = None
    inner_src_port: int | None = None
    inner_dst_port: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class MalformedRecord(Record):
    """Octets on a known port or inside a known SA that could not be read. protocol: "SIP", "Diameter", "ESP", …"""

    src: Endpoint
    dst: Endpoint
    protocol: str
    error: PeerError
    spi: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class NodeRecord(Record):
    """What a simulated node did that is not on the wire: SAs installed or removed, timers, what it told humans.

    Only a live run has these. node: its name; host: its first address; kind: "install-sas", "remove-sas", or the kind
    of an Emit.
    """

    node: str
    host: str = ""
    role: Role
    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    after: int = 0


@dataclass(slots=True, kw_only=True)
class SaView:
    """One SA as the trace knows it: from the security agreement, and what was seen in it.

    alg, ealg: "" when nobody agreed on it in the trace. The counters count frames: a packet that was captured at three
    points counts three times in each of them.
    """

    spi: int
    src: Endpoint
    dst: Endpoint
    alg: str
    ealg: str
    packets: int = 0
    icv_ok: int = 0
    icv_bad: int = 0
    replayed: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class SaSetView:
    """One set of SAs that a security agreement made.

    ue, pcscf: their addresses. rand: of the challenge that gave the keys, b"" if it cannot be read. impi: whose it is,
    "" if unknown. sas: in the order of `imslab.core.sa`. keyed: the same with their keys, once a packet has proved
    them; empty before.
    """

    ue: str
    pcscf: str
    rand: bytes
    impi: str
    sas: list[SaView]
    keyed: tuple[Sa, ...] = field(default=(), repr=False)
