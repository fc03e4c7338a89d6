"""SIP: protected REGISTERs of 1.5 kB from a thousand subscribers in turn, against sipmessage."""

from __future__ import annotations

from itertools import cycle

from sipmessage import Message as PeerMessage
from sipmessage import Via as PeerVia

from imslab.sip.fields.via import Via
from imslab.sip.parser import StreamFramer, parse
from tests.benchmarks.table import Row, measure

#: One mechanism for each algorithm, as many handsets offer them.
_OFFER = (
    "ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;prot=esp;mod=trans;spi-c=0000768058;spi-s=0000768059;"
    "port-c=38003;port-s=39002"
)
REGISTER = "\r\n".join(
    [
        "REGISTER sip:ims.mnc001.mcc001.3gppnetwork.org SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.17:39002;branch=z9hG4bK7b1c9a5e2f60d384;rport",
        "Max-Forwards: 70",
        "Route: <sip:pcscf.ims.mnc001.mcc001.3gppnetwork.org:6100;lr>",
        "From: <sip:001010000000001@ims.mnc001.mcc001.3gppnetwork.org>;tag=5d1e0a77",
        "To: <sip:001010000000001@ims.mnc001.mcc001.3gppnetwork.org>",
        "Call-ID: 2f8a7c1b9e4d4f0fa3b6@192.0.2.17",
        "CSeq: 2 REGISTER",
        'Contact: <sip:192.0.2.17:39002>;+sip.instance="<urn:gsma:imei:35666610-000000-0>"'
        ';+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";+g.3gpp.smsip;expires=600000',
        'Authorization: Digest username="001010000000001@ims.mnc001.mcc001.3gppnetwork.org",'
        ' realm="ims.mnc001.mcc001.3gppnetwork.org", nonce="I1PLvqliN2idjE9dkDO2ZvJdX2o2EoAASpRPHsCtmRw=",'
        ' uri="sip:ims.mnc001.mcc001.3gppnetwork.org", response="63175c06a7a88bd479f5c9f714487476",'
        ' algorithm=AKAv1-MD5, cnonce="0a4f113b", qop=auth, nc=00000001',
        f"Security-Client: {_OFFER}",
        f"Security-Verify: {_OFFER}",
        "Require: sec-agree",
        "Proxy-Require: sec-agree",
        "Supported: path, gruu, sec-agree",
        "Allow: INVITE, ACK, CANCEL, BYE, MESSAGE, OPTIONS, NOTIFY, PRACK, UPDATE",
        "P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000101",
        "Expires: 600000",
        "User-Agent: imslab",
        "Content-Length: 0",
        "",
        "",
    ]
).encode()
#: Both sides get them in turn: who remembers what he read before (we do, for URIs) remembers a population.
_TURN = cycle([REGISTER.replace(b"001010000000001", b"%015d" % (1010000000001 + n)) for n in range(1000)])
_PEER_TURN = cycle([REGISTER.replace(b"001010000000001", b"%015d" % (1010000000001 + n)) for n in range(1000)])
_VIA = "SIP/2.0/UDP 192.0.2.1:4060;branch=z9hG4bK5f0c"


def unchanged() -> bytes:
    """Octets in, message, octets out."""
    return parse(next(_TURN)).encode()


def unchanged_peer() -> bytes:
    """The same with the peer."""
    return bytes(PeerMessage.parse(next(_PEER_TURN)))


def touched() -> bytes:
    """The same with one row changed, so that the message is really written."""
    message = parse(next(_TURN))
    message.set("Max-Forwards", "69")
    return message.encode()


def touched_peer() -> bytes:
    """The same with the peer."""
    message = PeerMessage.parse(next(_PEER_TURN))
    message.headers.set("Max-Forwards", "69")
    return bytes(message)


def proxied() -> bytes:
    """What a proxy does: read where it came from and what it belongs to, count the hop, add a Via, write."""
    message = parse(next(_TURN))
    _ = message.via[0].branch, message.from_.tag, message.to.tag, message.call_id, message.cseq, message.route
    message.set("Max-Forwards", str((message.max_forwards or 70) - 1))
    message.prepend("Via", str(Via.parse(_VIA)))
    return message.encode()


def proxied_peer() -> bytes:
    """The same with the peer."""
    message = PeerMessage.parse(next(_PEER_TURN))
    _ = message.from_address.parameters, message.to_address.parameters, message.call_id, message.cseq, message.route
    message.max_forwards = (message.max_forwards or 70) - 1
    message.via = [PeerVia.parse(_VIA), *message.via]
    return bytes(message)


def credentials() -> object:
    """Read the digest and both security lists."""
    message = parse(next(_TURN))
    return message.authorization, message.security_client, message.security_verify


def framed() -> list[bytes]:
    """One message out of a stream."""
    return StreamFramer().feed(REGISTER)


def run() -> list[Row]:
    """The rows of the table. Both sides are checked to do the same work before they are timed."""
    assert unchanged() == REGISTER
    assert len(touched()) == len(REGISTER)
    assert b"Max-Forwards: 69" in touched()
    assert b"Max-Forwards: 69" in touched_peer()
    assert proxied().count(b"\r\nVia: ") == proxied_peer().count(b"\r\nVia: ") == 2
    size = f"SIP REGISTER {len(REGISTER)} B"
    return [
        Row(f"{size}: parse + serialise", measure(unchanged), "sipmessage", measure(unchanged_peer), target=2.0),
        Row(f"{size}: parse + change + serialise", measure(touched), "sipmessage", measure(touched_peer), target=2.0),
        Row(f"{size}: as a proxy", measure(proxied), "sipmessage", measure(proxied_peer), target=2.0),
        Row(f"{size}: parse + digest + security lists", measure(credentials)),
        Row(f"{size}: cut from a stream", measure(framed)),
    ]
