"""ESP without keys."""

from __future__ import annotations

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.esp import Sealer
from imslab.ipsec.packet import build_tcp, build_udp
from imslab.trace.blind import read_null

SRC, DST = b"\xc0\0\2\1", b"\xc0\0\2\2"


def _sealed(alg: str, ealg: str, next_header: int, payload: bytes) -> bytes:
    end = Endpoint("192.0.2.1", 1)
    return Sealer(Sa(5000, end, end, alg, ealg, b"I" * 16, b"C" * 16), SeededEntropy(1)).seal(next_header, payload)


@pytest.mark.parametrize("alg", ["hmac-md5-96", "hmac-sha-1-96", "aes-gmac"])
@pytest.mark.parametrize("length", range(6))
def test_unencrypted_packets_are_read(alg: str, length: int) -> None:
    datagram = build_udp(SRC, DST, 1, 2, b"x" * length)
    assert read_null(_sealed(alg, "null", 17, datagram), SRC, DST) == (17, datagram)
    segment = build_tcp(SRC, DST, 1, 2, seq=7, data=b"x" * length)
    assert read_null(_sealed(alg, "null", 6, segment), SRC, DST) == (6, segment)


def test_everything_else_is_not() -> None:
    datagram = build_udp(SRC, DST, 1, 2, b"some data")
    sealed = _sealed("hmac-md5-96", "null", 17, datagram)
    assert read_null(sealed, DST, b"\1\1\1\1") is None  # the checksum says no
    assert read_null(_sealed("hmac-md5-96", "null", 1, datagram), SRC, DST) is None
    assert read_null(_sealed("hmac-md5-96", "null", 17, b"short"), SRC, DST) is None
    assert read_null(_sealed("hmac-sha-1-96", "aes-cbc", 17, datagram), SRC, DST) is None
    assert read_null(sealed[:-13] + b"\x13" + sealed[-12:], SRC, DST) is None
    for length in range(len(sealed)):
        assert read_null(sealed[:length], SRC, DST) is None
