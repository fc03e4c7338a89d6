"""A small trace made by hand: a challenge over Mw and Gm, an MAA, an answer inside ESP, a note of a simulated node."""

from __future__ import annotations

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.diameter.cx import AuthDataItem, MultimediaAuthAnswer, MultimediaAuthRequest
from imslab.sip.parser import parse
from imslab.trace.model import DiameterRecord, MalformedRecord, NodeRecord, Record, Role, SipRecord
from imslab.trace.trace import Trace

UE, PCSCF, SCSCF, HSS = (Endpoint(f"192.0.2.{n}", 5060) for n in (2, 1, 3, 4))
CK, IK, XRES = "c" * 32, "d" * 32, b"\xeeXRES\xee!!"


def register(vias: int = 1, extra: str = "") -> bytes:
    mark = len(extra)
    via = "".join(f"Via: SIP/2.0/UDP 192.0.2.{2 - n};branch=z9hG4bK{vias}{n}{mark}\r\n" for n in range(vias))
    return (
        f"REGISTER sip:ims.example SIP/2.0\r\n{via}From: <sip:a@ims.example>;tag=1\r\nTo: <sip:a@ims.example>\r\n"
        f"Call-ID: c1\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n{extra}Content-Length: 0\r\n\r\n"
    ).encode()


def challenge(vias: int, keys: str = "") -> bytes:
    via = "".join(f"Via: SIP/2.0/UDP 192.0.2.{2 - n};branch=z9hG4bK{vias}{n}0\r\n" for n in range(vias))
    return (
        f"SIP/2.0 401 Unauthorized\r\n{via}From: <sip:a@ims.example>;tag=1\r\nTo: <sip:a@ims.example>;tag=2\r\n"
        f'Call-ID: c1\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: Digest realm="ims.example", nonce="bm9uY2U=", '
        f"algorithm=AKAv1-MD5{keys}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def sip(time: float, frame: int, src: Endpoint, dst: Endpoint, octets: bytes, spi: int | None = None) -> SipRecord:
    return SipRecord(
        time=time, frames=(frame,), src=src, dst=dst, transport=Transport.UDP, message=parse(octets), spi=spi
    )


def records() -> list[Record]:
    mar = MultimediaAuthRequest(
        session_id="s;1",
        origin_host="scscf.example",
        origin_realm="example",
        destination_realm="example",
        user_name="a@ims.example",
        public_identity="sip:a@ims.example",
        item=AuthDataItem(scheme="Digest-AKAv1-MD5"),
        number_items=1,
        server_name="sip:scscf.example",
    ).to_message(7, 9)
    maa = MultimediaAuthAnswer(
        result_code=2001,
        origin_host="hss.example",
        origin_realm="example",
        items=[AuthDataItem(1, "Digest-AKAv1-MD5", b"R" * 32, XRES, None, bytes.fromhex(CK), bytes.fromhex(IK))],
    ).to_message(mar)
    cx = (Endpoint(SCSCF.host, 40000), Endpoint(HSS.host, 3868))
    return [
        sip(0.0, 1, UE, PCSCF, register()),
        sip(0.01, 2, PCSCF, SCSCF, register(2)),
        DiameterRecord(time=0.02, frames=(3,), src=cx[0], dst=cx[1], transport=Transport.TCP, message=mar),
        DiameterRecord(time=0.03, frames=(4,), src=cx[1], dst=cx[0], transport=Transport.TCP, message=maa),
        sip(0.04, 5, SCSCF, PCSCF, challenge(2, f', ck="{CK}", IK={IK}')),
        NodeRecord(time=0.045, node="pcscf", role=Role.PCSCF, kind="install-sas", text="set 1, \x1b[31m four SAs"),
        sip(0.05, 6, PCSCF, UE, challenge(1)),
        sip(0.06, 7, UE, PCSCF, register(1, "X: <script>alert(1)</script>\r\n"), spi=0x1001),
        MalformedRecord(
            time=0.07,
            frames=(8,),
            src=PCSCF,
            dst=UE,
            protocol="SIP",
            error=PeerError("no start line", octets=f"ck={CK} \x07 rest".encode()),
        ),
    ]


def trace() -> Trace:
    return Trace(records())
