"""A wire for tests: packets made by hand, and a registration spelled out message by message."""

from __future__ import annotations

from base64 import b64encode

from imslab.aka.digest import digest_response
from imslab.aka.milenage import Milenage
from imslab.aka.vector import Vector, generate
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, pack_host
from imslab.core.sa import Sa
from imslab.diameter.avp import Avp
from imslab.diameter.message import DiameterMessage
from imslab.ipsec.esp import Sealer
from imslab.ipsec.packet import ACK, ESP, PSH, SYN, TCP, UDP, build_ip, build_tcp, build_udp
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing
from imslab.trace.pcap import LINKTYPE_RAW, Packet
from imslab.trace.trace import Trace

UE, PCSCF, ICSCF, SCSCF, HSS = (
    Endpoint("192.0.2.10", 5060),
    Endpoint("192.0.2.20", 5060),
    Endpoint("192.0.2.30", 5060),
    Endpoint("192.0.2.40", 5060),
    Endpoint("192.0.2.50", 3868),
)
K, OPC = bytes(range(16)), bytes(range(16, 32))
IMPI = "001010000000001@ims.mnc001.mcc001.3gppnetwork.org"
IMPU = f"sip:{IMPI}"
REALM = "ims.mnc001.mcc001.3gppnetwork.org"


class Wire:
    """Collects packets at one capture point, 10 ms apart unless told otherwise."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.now = 1000.0
        self._ident = 0
        self._sequence: dict[tuple[Endpoint, Endpoint], int] = {}
        self._sealers: dict[tuple[int, bytes], Sealer] = {}

    def ip(self, octets: bytes, point: str = "", linktype: int = LINKTYPE_RAW) -> int:
        """A whole frame; its number."""
        self.now += 0.01
        number = len(self.packets) + 1
        self.packets.append(Packet(number, self.now, point, linktype, octets, len(octets)))
        return number

    def again(self, number: int, point: str = "", after: float = 0.0005) -> int:
        """The same octets once more."""
        self.now += after
        packet = self.packets[number - 1]
        self.packets.append(packet._replace(number=len(self.packets) + 1, time=self.now, point=point))
        return len(self.packets)

    def wrap(self, src: Endpoint, dst: Endpoint, protocol: int, payload: bytes, sa: Sa | None = None) -> bytes:
        """An IP packet, through an SA if one is given."""
        if sa is not None:
            sealer = self._sealers.setdefault((sa.spi, sa.ik), Sealer(sa, SeededEntropy(sa.spi)))
            protocol, payload = ESP, sealer.seal(protocol, payload)
        self._ident = self._ident + 1 & 0xFFFF
        return build_ip(pack_host(src.host), pack_host(dst.host), protocol, payload, ident=self._ident)

    def udp(self, src: Endpoint, dst: Endpoint, data: bytes | str, sa: Sa | None = None, point: str = "") -> int:
        """One datagram."""
        octets = data.encode() if isinstance(data, str) else data
        datagram = build_udp(pack_host(src.host), pack_host(dst.host), src.port, dst.port, octets)
        return self.ip(self.wrap(src, dst, UDP, datagram, sa), point)

    def tcp(
        self,
        src: Endpoint,
        dst: Endpoint,
        data: bytes | str = b"",
        flags: int = ACK | PSH,
        sa: Sa | None = None,
        *,
        seq: int | None = None,
        point: str = "",
    ) -> int:
        """One segment, behind the last one of that direction; a SYN starts it at 1000. seq: another place."""
        octets = data.encode() if isinstance(data, str) else data
        key = (src, dst)
        if flags & SYN:
            self._sequence[key] = 1000
        at = self._sequence.setdefault(key, 5000) if seq is None else seq
        segment = build_tcp(
            pack_host(src.host), pack_host(dst.host), src.port, dst.port, seq=at, flags=flags, data=octets
        )
        if seq is None:
            self._sequence[key] = at + len(octets) + (1 if flags & SYN else 0)
        return self.ip(self.wrap(src, dst, TCP, segment, sa), point)

    def trace(self, keys: KeyRing | None = None) -> Trace:
        """What a dissector makes of it."""
        return dissect(self.packets, keys)


def sip(first: str, *headers: str, body: str = "") -> str:
    """A SIP message with Content-Length."""
    return "\r\n".join([first, *headers, f"Content-Length: {len(body.encode())}", "", body])


def request(
    method: str, *headers: str, vias: int = 1, cseq: int = 1, call: str = "call-1", branch: str = "", body: str = ""
) -> str:
    """A request of the test subscriber that has come so far."""
    return sip(
        f"{method} sip:{REALM} SIP/2.0",
        *(
            f"Via: SIP/2.0/UDP hop{via}.example;branch=z9hG4bK-{branch or call}-{cseq}-{via}"
            for via in range(vias, 0, -1)
        ),
        f"From: <{IMPU}>;tag=f",
        f"To: <{IMPU}>",
        f"Call-ID: {call}",
        f"CSeq: {cseq} {method}",
        *headers,
        body=body,
    )


def response(
    status: int, reason: str, method: str, *headers: str, vias: int = 1, cseq: int = 1, call: str = "call-1"
) -> str:
    """The answer to such a request."""
    lines = request(method, *headers, vias=vias, cseq=cseq, call=call).split("\r\n")
    return "\r\n".join([f"SIP/2.0 {status} {reason}", *lines[1:]])


def security_client(alg: str, ealg: str, name: str = "Security-Client") -> str:
    """What the UE offers."""
    return (
        f"{name}: ipsec-3gpp;prot=esp;mod=trans;spi-c=1111111111;spi-s=2222222222;port-c=6001;port-s=6002"
        f";alg={alg};ealg={ealg}"
    )


def security_server(alg: str, ealg: str, *, name: str = "Security-Server", q: str = "") -> str:
    """What the P-CSCF chose."""
    return (
        f"{name}: ipsec-3gpp;{f'q={q};' if q else ''}prot=esp;mod=trans;spi-c=3333333333;spi-s=4222222222"
        f";port-c=7001;port-s=7002;alg={alg};ealg={ealg}"
    )


class Registration:
    """A registration of the test subscriber over UDP: everything that a capture at the P-CSCF shows.

    Each method puts one message on the wire and gives its frame.
    """

    def __init__(
        self, wire: Wire, alg: str = "hmac-sha-1-96", ealg: str = "aes-cbc", *, call: str = "call-1", sqn: int = 32
    ) -> None:
        self.wire = wire
        self.alg, self.ealg = alg, ealg
        self.call = call
        self.cseq = 1
        rand = sqn.to_bytes(2, "big") * 8
        self.vector: Vector = generate(Milenage(K, OPC), rand, sqn, b"\x80\0")
        self.uc, self.us = Endpoint(UE.host, 6001), Endpoint(UE.host, 6002)
        self.pc, self.ps = Endpoint(PCSCF.host, 7001), Endpoint(PCSCF.host, 7002)
        keys = (alg, ealg, self.vector.ik, self.vector.ck)
        self.sas = (
            Sa(4222222222, self.uc, self.ps, *keys),
            Sa(1111111111, self.ps, self.uc, *keys),
            Sa(2222222222, self.pc, self.us, *keys),
            Sa(3333333333, self.us, self.pc, *keys),
        )

    @property
    def challenge(self) -> str:
        """WWW-Authenticate without keys."""
        nonce = f'nonce="{self.vector.nonce}"'
        return f'WWW-Authenticate: Digest realm="{REALM}",{nonce},algorithm=AKAv1-MD5,qop="auth,auth-int"'

    @property
    def challenge_with_keys(self) -> str:
        """The same as on Mw."""
        return f'{self.challenge},ck="{self.vector.ck.hex()}",ik="{self.vector.ik.hex()}"'

    def authorization(self, *, res: bytes | None = None, qop: str = "auth", auts: bytes = b"") -> str:
        """The answer to the challenge."""
        more = f',auts="{b64encode(auts).decode()}"' if auts else ""
        protection = f',qop={qop},nc=00000001,cnonce="c"' if qop else ""
        digest = digest_response(
            algorithm="AKAv1-MD5",
            username=IMPI,
            realm=REALM,
            password=self.vector.xres if res is None else res,
            nonce=self.vector.nonce,
            method="REGISTER",
            uri=f"sip:{REALM}",
            qop=qop,
            nc="00000001",
            cnonce="c",
            auts=more,
        )
        return (
            f'Authorization: Digest username="{IMPI}",realm="{REALM}",nonce="{self.vector.nonce}",uri="sip:{REALM}"'
            f',response="{digest}",algorithm=AKAv1-MD5{protection}{more}'
        )

    def first(self, *headers: str, expires: int = 600) -> int:
        """The first REGISTER, in clear."""
        return self.wire.udp(
            UE,
            PCSCF,
            request(
                "REGISTER",
                f'Authorization: Digest username="{IMPI}",realm="{REALM}",nonce="",uri="sip:{REALM}",response=""',
                f"Contact: <sip:{UE.host}:6002>;expires={expires}",
                security_client(self.alg, self.ealg),
                *headers,
                call=self.call,
                cseq=self.cseq,
            ),
        )

    def core_challenge(self) -> list[int]:
        """REGISTER and 401 on Mw, with ck and ik."""
        return [
            self.wire.udp(PCSCF, SCSCF, request("REGISTER", vias=2, call=self.call, cseq=self.cseq)),
            self.wire.udp(
                SCSCF,
                PCSCF,
                response(
                    401, "Unauthorized", "REGISTER", self.challenge_with_keys, vias=2, call=self.call, cseq=self.cseq
                ),
            ),
        ]

    def unauthorized(self, *servers: str, keys: bool = False) -> int:
        """The 401 to the UE."""
        return self.wire.udp(
            PCSCF,
            UE,
            response(
                401,
                "Unauthorized",
                "REGISTER",
                self.challenge_with_keys if keys else self.challenge,
                *(servers or (security_server(self.alg, self.ealg),)),
                call=self.call,
                cseq=self.cseq,
            ),
        )

    def second(self, *, res: bytes | None = None, qop: str = "auth", sa: bool = True, expires: int = 600) -> int:
        """The REGISTER that answers, inside the SA uc → ps."""
        self.cseq += 1
        text = request(
            "REGISTER",
            self.authorization(res=res, qop=qop),
            f"Contact: <sip:{UE.host}:6002>;expires={expires}",
            security_client(self.alg, self.ealg),
            call=self.call,
            cseq=self.cseq,
        )
        return self.wire.udp(self.uc, self.ps, text, self.sas[0] if sa else None)

    def final(self, status: int = 200, reason: str = "OK", *headers: str) -> int:
        """The final answer, inside the SA pc → us."""
        text = response(status, reason, "REGISTER", *headers, call=self.call, cseq=self.cseq)
        return self.wire.udp(self.pc, self.us, text, self.sas[2])

    def whole(self) -> Registration:
        """All of it."""
        self.first()
        self.core_challenge()
        self.unauthorized()
        self.second()
        self.final()
        return self

    def key_ring(self) -> KeyRing:
        """A ring that knows the subscriber."""
        ring = KeyRing()
        ring.add_milenage(K, opc=OPC)
        return ring


def maa(vector: Vector, *, keys: bool = True) -> bytes:
    """An MAA with one vector, written AVP by AVP."""

    def avp(code: int, data: bytes, vendor: int = 10415) -> Avp:
        return Avp(code, vendor, 0xC0 if vendor else 0x40, data)

    item = [avp(609, vector.rand + vector.autn), avp(610, vector.xres)]
    if keys:
        item += [avp(625, vector.ck), avp(626, vector.ik)]
    return cx(303, avp(1, IMPI.encode(), 0), Avp.grouped(612, item, 10415, 0xC0), request=False)


def cx(command: int, *avps: Avp, request: bool = True, hop_by_hop: int = 1) -> bytes:
    """A Cx message."""
    return DiameterMessage(
        command, 16777216, request=request, proxiable=True, hop_by_hop=hop_by_hop, avps=list(avps)
    ).encode()
