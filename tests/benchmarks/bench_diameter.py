"""Diameter: an MAA with one vector, encoded and decoded, against scapy.contrib.diameter in the same run."""

from __future__ import annotations

import warnings

from imslab.diameter.cx import MultimediaAuthAnswer
from imslab.diameter.message import DiameterMessage, StreamFramer, parse
from tests.benchmarks.table import Row, measure
from tests.diameter import samples

#: Times scapy. Measured: 65 decoding, 100 to 570 encoding; a codec that falls below this has lost its way.
_DECODE_TIMES = 30.0
_ENCODE_TIMES = 50.0


def run() -> list[Row]:
    """The rows of this benchmark."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.contrib.diameter import AVP, DiamAns, DiamG

    request = samples.mar().to_message(1, 2)
    answer = samples.maa()
    octets = answer.to_message(request).encode()
    stream = octets * 100

    def ours_decode() -> bytes | None:
        message = parse(octets)
        item = next(avp for avp in message.avps if avp.code == 612)
        return next(avp.data for avp in item.children if avp.code == 609)

    def ours_encode() -> bytes:
        return answer.to_message(request).encode()

    def plain_encode() -> bytes:
        message = DiameterMessage(303, 16777216, False, True, hop_by_hop=1, end_to_end=2)
        message.avps = list(parsed.avps)
        return message.encode()

    def scapy_encode() -> bytes:
        item = [
            AVP([613, 10415], val=1),
            AVP([608, 10415], val="Digest-AKAv1-MD5"),
            AVP([609, 10415], val=samples.RAND + samples.AUTN),
            AVP([610, 10415], val=samples.XRES),
            AVP([625, 10415], val=samples.CK),
            AVP([626, 10415], val=samples.IK),
        ]
        application = [AVP(266, val=10415), AVP(258, val=16777216)]
        return bytes(
            DiamAns(
                303,
                drAppId=16777216,
                drHbHId=1,
                drEtEId=2,
                avpList=[
                    AVP(263, val="scscf;1;2"),
                    AVP(260, val=application),
                    AVP(268, val=2001),
                    AVP(277, val=1),
                    AVP(264, val=f"hss.{samples.REALM}"),
                    AVP(296, val=samples.REALM),
                    AVP(1, val=samples.IMPI),
                    AVP([601, 10415], val=samples.IMPU),
                    AVP([607, 10415], val=1),
                    AVP([612, 10415], val=item),
                ],
            )
        )

    parsed = parse(octets)
    assert scapy_encode() == octets
    assert ours_decode() == samples.RAND + samples.AUTN
    their_decode, their_encode = measure(lambda: DiamG(octets)), measure(scapy_encode)
    return [
        Row("MAA decode, vector taken out", measure(ours_decode), "scapy", their_decode, target=_DECODE_TIMES),
        Row("MAA encode, from AVPs", measure(plain_encode), "scapy", their_encode, target=_ENCODE_TIMES),
        Row("MAA encode, from its dataclass", measure(ours_encode), "scapy", their_encode, target=_ENCODE_TIMES),
        Row(
            "MAA decode, to its dataclass",
            measure(lambda: MultimediaAuthAnswer.from_message(parse(octets))),
            "scapy",
            their_decode,
        ),
        Row("MAA framing, 100 in one feed", 100 * measure(lambda: StreamFramer().feed(stream))),
    ]
