"""The contract's plain data: addresses, errors, entropy, SA sets."""

from __future__ import annotations

import pytest

from imslab.core.entropy import SeededEntropy, SystemEntropy, random_int, token
from imslab.core.errors import OCTETS_KEPT, PeerError, unknown
from imslab.core.flow import Endpoint, Flow, Transport, canonical_host, pack_host, unpack_host
from imslab.core.sa import Sa, SaSet

UE, PCSCF = "192.0.2.2", "192.0.2.1"


def a_set(local: str) -> SaSet:
    def sa(spi: int, src: tuple[str, int], dst: tuple[str, int]) -> Sa:
        return Sa(spi, Endpoint(*src), Endpoint(*dst), "hmac-sha-1-96", "aes-cbc", b"I" * 16, b"C" * 16)

    uc, us, pc, ps = (UE, 5062), (UE, 5063), (PCSCF, 5100), (PCSCF, 6100)
    return SaSet(1, local, (sa(1001, uc, ps), sa(2001, ps, uc), sa(2002, pc, us), sa(1002, us, pc)), 240.0)


def test_a_peer_error_shows_the_place_the_clause_and_few_octets() -> None:
    error = PeerError("Expires is no number", clause="RFC 3261 20.19", octets=b"x" * 500, offset=12)
    assert str(error) == "Expires is no number (at octet 12) [RFC 3261 20.19]"
    assert error.octets == b"x" * OCTETS_KEPT
    assert str(PeerError("plain")) == "plain"


def test_endpoints_and_flows_are_written_as_people_write_them() -> None:
    flow = Flow(Transport.TCP, Endpoint("2001:db8::1", 5060), Endpoint("192.0.2.1", 6100))
    assert str(flow) == "tcp [2001:db8::1]:5060 → 192.0.2.1:6100"
    assert flow.reversed == Flow(Transport.TCP, flow.remote, flow.local)
    assert flow.reversed.reversed == flow


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("192.0.2.1", "192.0.2.1"), ("[2001:DB8:0::1]", "2001:db8::1"), ("2001:0db8::0:1", "2001:db8::1")],
)
def test_hosts_have_one_spelling_and_survive_packing(text: str, canonical: str) -> None:
    assert canonical_host(text) == canonical
    assert unpack_host(pack_host(canonical)) == canonical


@pytest.mark.parametrize("text", ["", "pcscf.example", "192.0.2", "1::2::3"])
def test_what_is_no_address_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|IPv"):
        canonical_host(text)


def test_only_datagrams_have_boundaries() -> None:
    assert [each for each in Transport if not each.is_stream] == [Transport.UDP]


def test_a_set_knows_its_directions_from_either_end() -> None:
    ue, pcscf = a_set(UE), a_set(PCSCF)
    assert [sa.spi for sa in ue.outbound] == [sa.spi for sa in pcscf.inbound] == [1001, 1002]
    assert [sa.spi for sa in ue.inbound] == [sa.spi for sa in pcscf.outbound] == [2001, 2002]


def test_a_set_shows_no_key() -> None:
    assert "III" not in repr(a_set(UE))
    assert "CCC" not in repr(a_set(UE))


def test_a_seed_gives_the_same_octets_however_they_are_asked_for() -> None:
    one, other = SeededEntropy(7, "ue1"), SeededEntropy(7, "ue1")
    assert one.octets(100) == b"".join(other.octets(count) for count in (1, 31, 32, 33, 3))
    assert SeededEntropy(7, "ue1").octets(32) != SeededEntropy(7, "ue2").octets(32)
    assert SeededEntropy(7, "ue1").octets(32) != SeededEntropy(8, "ue1").octets(32)
    assert len(SeededEntropy("\udcff").octets(32)) == 32  # what an argument that is no UTF-8 comes as


def test_the_system_gives_as_many_octets_as_asked() -> None:
    assert len(SystemEntropy().octets(33)) == 33
    assert SystemEntropy().octets(16) != SystemEntropy().octets(16)


def test_numbers_stay_within_their_bounds_and_use_them() -> None:
    entropy = SeededEntropy("bounds")
    assert {random_int(entropy, 3, 6) for _ in range(200)} == {3, 4, 5}


def test_a_token_is_hex_of_the_wanted_length() -> None:
    text = token(SeededEntropy(1), 5)
    assert len(text) == 10
    assert bytes.fromhex(text)


def test_an_unknown_name_gets_those_that_look_like_it() -> None:
    known = ("pcscf-keys-on-gm", "pcscf-late-sas", "ue-no-path")
    assert str(unknown("fault", "pcscf-key-on-gm", known, "the page")) == (
        "unknown fault 'pcscf-key-on-gm': did you mean pcscf-keys-on-gm? the page lists them all"
    )
    assert str(unknown("fault", "zzz", known, "the page")) == "unknown fault 'zzz': the page lists them all"
