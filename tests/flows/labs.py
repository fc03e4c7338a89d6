"""Whole labs for tests: made by a few words, played by a few more, and looked at from their wire."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from imslab.config import load
from imslab.core.errors import PeerError
from imslab.ipsec.packet import build_ip, build_udp, parse_ip, parse_udp
from imslab.lab import EPOCH, Lab, Result, main_job
from imslab.net.link import Fault, Transit, Way
from imslab.roles.ue import Ue
from imslab.rules.clauses import Finding
from imslab.rules.judge import judge
from imslab.sip.message import Message, Request, Response
from imslab.sip.parser import parse
from imslab.trace.live import write_capture
from imslab.trace.model import DiameterRecord, Hop, NodeRecord, SipRecord
from imslab.trace.trace import Trace, method_of, status_of

#: What `imslab run` registers: its name in the identities, its key, its OP (TS 35.208 test sets 1 and 3).
DOMAIN = "ims.mnc001.mcc001.3gppnetwork.org"
FIRST, SECOND = f"sip:001010000000001@{DOMAIN}", f"sip:001010000000002@{DOMAIN}"
K = "465b5ce8b199b49faa5f0a2ee238a6bc"
OP = "cdc202d5123e20f62b6d676ac72cb318"

#: (alg, ealg) that 33.203 Annex H has and tshark can judge, and the two that are both in one.
CBC_AND_NULL = [(alg, ealg) for alg in ("hmac-md5-96", "hmac-sha-1-96") for ealg in ("null", "aes-cbc", "des-ede3-cbc")]
COMBINED = [("null", "aes-gcm"), ("aes-gmac", "null")]


def subscriber(number: int, **more: Any) -> dict[str, Any]:
    """A subscriber as lab.yaml has it; each number has its own IMSI and key."""
    return {"imsi": f"0010100000{number:05d}", "k": f"{number:032x}", "op": OP, **more}


def first(alg: str, ealg: str) -> dict[str, Any]:
    """Settings of a lab in which the UEs offer this pair before all others, and the P-CSCF wants it most."""
    default = load()
    pair = (alg, ealg)
    return {
        "ue__algorithms": (pair, *(each for each in default.ue.algorithms if each != pair)),
        "pcscf__algorithms": (pair, *(each for each in default.pcscf.algorithms if each != pair)),
    }


class Play:
    """A lab and what to do with it. Its network is `net`, its UEs are `ue`, `other` and so on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.net = lab.net
        self.ue = lab.ues[0]
        self.other = lab.ues[1] if len(lab.ues) > 1 else lab.ues[0]

    # ---- doing

    def ask(self, ue: Ue, verb: str, kind: str, *, where: Ue | None = None, within: float = 140.0, **more: Any) -> bool:
        """Give a UE a command and let time go on until `where` (the UE itself) tells of `kind`. Whether it did."""
        place = len(self.lab.recording.events)
        self.net.command(ue, verb, **more)
        return self.heard(kind, where or ue, within=within, since=place)

    def heard(self, kind: str, node: Any, *, within: float = 140.0, since: int | None = None) -> bool:
        """Let time go on until a node tells of `kind`, from event number `since` on (None: now). Whether it did."""
        place = len(self.lab.recording.events) if since is None else since

        def told() -> bool:
            nonlocal place
            events = self.lab.recording.events
            found = any(event.kind == kind and event.node == node.name for event in events[place:])
            place = len(events)
            return found

        return self.net.run_until(told, within)

    def register(self, *ues: Ue) -> None:
        """Register these UEs (all of them), and let their subscriptions come to stand."""
        for ue in ues or self.lab.ues:
            self.net.command(ue, "register")
        self.run(2)
        for ue in ues or self.lab.ues:
            assert ue.registration is not None, f"{ue.name} is not registered: {self.told(ue)}"

    def run(self, seconds: float) -> None:
        """Let time go on."""
        self.net.run(self.net.now + seconds)

    # ---- looking

    @property
    def trace(self) -> Trace:
        """Everything up to now."""
        return self.lab.trace

    @property
    def findings(self) -> list[Finding]:
        """What the rules say of it."""
        return judge(self.lab.trace)

    def told(self, node: Any) -> list[str]:
        """The kinds of events that a node told of, in order."""
        return [event.kind for event in self.lab.recording.events if event.node == node.name]

    def capture(self) -> bytes:
        """The run as a pcapng file."""
        stream = io.BytesIO()
        write_capture(self.lab.recording, stream, epoch=EPOCH)
        return stream.getvalue()


def play(**settings: Any) -> Play:
    """A lab with these settings (dotted by two underscores), ready to be played."""
    return Play(Lab(load(**settings)))


class Job(Play):
    """A lab in which the main job was done."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.results: list[Result] = list(main_job(lab))
        self._trace = lab.trace

    @property
    def trace(self) -> Trace:
        """The whole run; made once."""
        return self._trace


@cache
def job(**settings: Any) -> Job:
    """The main job with these settings, done once for all tests that look at it."""
    return Job(Lab(load(**settings)))


# ---- what stands on the way between two boxes


def says(method: str = "", status: int = 0) -> Callable[[Transit], bool]:
    """Chooses packets by the SIP message in them, protected or not: a request of this method, an answer to it."""

    def match(transit: Transit) -> bool:
        message = message_in(transit)
        if isinstance(message, Response):
            return message.status == status and (not method or message.method == method)
        return isinstance(message, Request) and not status and message.method == method

    return match


def message_in(transit: Transit) -> Message | None:
    """The SIP message of a UDP datagram that passes; None for anything else."""
    packet = parse_ip(transit.octets)
    try:
        return parse(transit.clear[8:]) if transit.clear and packet.protocol in (17, 50, 44) else None
    except PeerError:
        return None


def in_the_middle(
    play: Play, way: Way, edit: Callable[[Message], None], match: Callable[[Transit], bool], nth: int | None = 1
) -> Fault:
    """Somebody between two boxes who changes a SIP message that travels in clear over UDP; checksums are right again.

    The record shows the message as it was sent.
    """

    def change(octets: bytes) -> bytes:
        packet = parse_ip(octets)
        datagram = parse_udp(packet.payload, packet.src, packet.dst)
        message = parse(datagram.data)
        edit(message)
        src, dst = packet.src, packet.dst
        return build_ip(src, dst, 17, build_udp(src, dst, datagram.src_port, datagram.dst_port, message.encode()))

    return play.net.corrupt(way, change, nth=nth, match=match)


# ---- a trace in words


def text(record: SipRecord | DiameterRecord | NodeRecord) -> str:
    """A record as a line: "Gm UE>P-CSCF REGISTER", "Gm P-CSCF>UE 401 REGISTER esp", "Cx MAR", "P-CSCF: install-sas"."""
    if isinstance(record, NodeRecord):
        return f"{record.role}: {record.kind}"
    if isinstance(record, DiameterRecord):
        return f"Cx {record.message.name}"
    status = status_of(record)
    name = method_of(record) if status is None else f"{status} {method_of(record)}"
    return f"{record.hop} {record.sender}>{record.receiver} {name}{' esp' if record.spi is not None else ''}"


def lines(trace: Trace, kinds: Iterable[str] = ()) -> list[str]:
    """The messages of a trace in order, retransmissions left out; events of nodes of these kinds between them."""
    wanted = frozenset(kinds)
    found = []
    for record in trace.records:
        match record:
            case SipRecord() if trace.is_retransmission(record):
                continue
            case NodeRecord() if record.kind not in wanted:
                continue
            case DiameterRecord() if not record.message.application:
                continue
            case SipRecord() | DiameterRecord() | NodeRecord():
                found.append(text(record))
    return found


def on_gm(trace: Trace, ue: Ue) -> list[SipRecord]:
    """What one UE sent and was sent, in order."""
    host = ue.config.host
    return [record for record in trace.sip(hop=Hop.GM) if host in (record.src.host, record.dst.host)]
