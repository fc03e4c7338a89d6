"""SAs and policies of one host: what is sealed, what is let in, and under which name the rest is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.core.flow import pack_host
from imslab.core.sa import Sa, SaSet
from imslab.ipsec.packet import SCTP, TCP, UDP, build_udp
from imslab.net.sadb import SaDatabase, selector_of
from tests.net.toys import PC, PCSCF4, PS, UC, UE4, US, sas_of

UE, PCSCF = pack_host(UE4), pack_host(PCSCF4)


class Ends:
    """The databases of both ends, with the same set in them."""

    def __init__(self) -> None:
        self.ue_counters: Counter[str] = Counter()
        self.pcscf_counters: Counter[str] = Counter()
        self.ue = SaDatabase(SeededEntropy(1), self.ue_counters)
        self.pcscf = SaDatabase(SeededEntropy(2), self.pcscf_counters)
        self.ue.install(sas_of(UE4))
        self.pcscf.install(sas_of(PCSCF4))

    def sealed(self, protocol: int = UDP, payload: bytes | None = None) -> bytes:
        """An ESP packet from uc to ps."""
        outbound = self.ue.outbound((UE, UC, PCSCF, PS))
        assert outbound is not None
        packet = self.ue.seal(outbound, protocol, payload or build_udp(UE, PCSCF, UC, PS, b"data"))
        assert packet is not None
        return packet


@pytest.fixture
def ends() -> Ends:
    return Ends()


def with_sa(sas: SaSet, index: int, sa: Sa) -> SaSet:
    four = list(sas.sas)
    four[index] = sa
    return replace(sas, sas=tuple(four))


class TestInstall:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda sas: sas, "installed already"),
            (lambda sas: replace(sas, number=2), "exists already"),
            (lambda sas: with_sa(replace(sas, number=2), 0, replace(sas.sas[3], spi=1004)), "exists already"),
            (lambda sas: replace(sas_of(UE4, 2, first_spi=2001), local="10.9.9.9"), "neither leaves nor reaches"),
            (lambda sas: with_sa(sas_of(UE4, 2, first_spi=2001), 3, replace(sas.sas[3], spi=255)), "SPI 255"),
            (lambda sas: with_sa(sas_of(UE4, 2, first_spi=2001), 3, replace(sas.sas[3], alg="")), "Annex H"),
            (lambda sas: with_sa(sas_of(UE4, 2, first_spi=2001), 3, replace(sas.sas[3], ik=b"short")), "16"),
        ],
    )
    def test_whole_or_not_at_all(self, ends: Ends, change: object, reason: str) -> None:
        assert callable(change)
        before = (set(ends.ue._by_spi), set(ends.ue._inbound), set(ends.ue._outbound), dict(ends.ue._protected))
        with pytest.raises(LocalError, match=reason):
            ends.ue.install(change(sas_of(UE4)))
        assert (set(ends.ue._by_spi), set(ends.ue._inbound), set(ends.ue._outbound), dict(ends.ue._protected)) == before
        assert list(ends.ue.sets) == [1]

    def test_the_same_spi_twice_in_one_set(self) -> None:
        sas = sas_of(UE4)
        twice = with_sa(sas, 2, replace(sas.sas[2], spi=sas.sas[1].spi))
        with pytest.raises(LocalError, match="exists already"):
            SaDatabase(SeededEntropy(1), Counter()).install(twice)

    def test_a_removed_set_leaves_its_ports_protected_and_nothing_else(self, ends: Ends) -> None:
        assert ends.ue.remove(1) == sas_of(UE4)
        assert ends.ue.remove(1) is None
        assert not ends.ue.sets
        assert not ends.ue._by_spi
        assert not ends.ue._inbound
        assert not ends.ue._outbound
        assert ends.ue.protects((UE, UC))
        assert ends.ue.protects((UE, US))
        assert not ends.ue.protects((PCSCF, PS))
        ends.ue.install(sas_of(UE4))

    def test_release_frees_a_port_at_once_or_with_its_last_sa(self, ends: Ends) -> None:
        ends.ue.install(sas_of(UE4, 2, uc=UC + 10, pc=PC + 10, first_spi=2001))
        ends.ue.release((UE, US))
        ends.ue.release((UE, 9))  # never protected
        ends.ue.remove(1)
        assert ends.ue.protects((UE, US))
        ends.ue.remove(2)
        assert not ends.ue.protects((UE, US))
        assert ends.ue.protects((UE, UC))
        ends.ue.release((UE, UC))
        assert not ends.ue.protects((UE, UC))

    def test_a_port_in_use_again_is_protected_again(self, ends: Ends) -> None:
        ends.ue.release((UE, US))
        ends.ue.install(sas_of(UE4, 2, uc=UC + 10, pc=PC + 10, first_spi=2001))
        ends.ue.remove(1)
        ends.ue.remove(2)
        assert ends.ue.protects((UE, US))


class TestOutbound:
    def test_only_exact_selectors(self, ends: Ends) -> None:
        assert ends.ue.outbound((UE, UC, PCSCF, PS)) is not None
        assert ends.ue.outbound((UE, US, PCSCF, PC)) is not None
        for selector in ((UE, UC, PCSCF, PC), (UE, US, PCSCF, PS), (UE, 5060, PCSCF, 5060), (PCSCF, PS, UE, UC)):
            assert ends.ue.outbound(selector) is None

    def test_the_newest_of_two_with_the_same_selectors(self, ends: Ends) -> None:
        ends.ue.install(sas_of(UE4, 2, first_spi=2001))
        newest = ends.ue.outbound((UE, UC, PCSCF, PS))
        assert newest is not None
        assert newest.number == 2
        ends.ue.remove(2)
        older = ends.ue.outbound((UE, UC, PCSCF, PS))
        assert older is not None
        assert older.number == 1
        assert not ends.ue.admits_clear(PCSCF, UE, build_udp(PCSCF, UE, PC, US, b""))
        assert ends.ue_counters["XfrmInTmplMismatch"] == 1

    def test_sequence_numbers_run_out(self, ends: Ends) -> None:
        outbound = ends.ue.outbound((UE, UC, PCSCF, PS))
        assert outbound is not None
        outbound.sealer(SeededEntropy(1)).sequence = 0xFFFFFFFF
        assert ends.ue.seal(outbound, UDP, b"data") is None
        assert ends.ue_counters == {"XfrmOutStateSeqError": 1}


class TestInbound:
    def test_opened(self, ends: Ends) -> None:
        datagram = build_udp(UE, PCSCF, UC, PS, b"data")
        assert ends.pcscf.open(UE, PCSCF, ends.sealed()) == (UDP, datagram, 1)
        assert not ends.pcscf_counters

    @pytest.mark.parametrize(
        ("spoil", "counter"),
        [
            (lambda packet: b"\x00\x00\x11\x11" + packet[4:], "XfrmInNoStates"),
            (lambda packet: b"", "XfrmInNoStates"),
            (lambda packet: packet[:-1] + bytes((packet[-1] ^ 1,)), "XfrmInStateProtoError"),
            (lambda packet: packet[:12], "XfrmInStateProtoError"),
        ],
    )
    def test_dropped(self, ends: Ends, spoil: object, counter: str) -> None:
        assert callable(spoil)
        packet = ends.sealed()
        assert ends.pcscf.open(UE, PCSCF, spoil(packet)) is None
        assert ends.pcscf_counters == {counter: 1}
        assert ends.pcscf.open(UE, PCSCF, packet) is not None  # and it did no harm

    def test_replayed(self, ends: Ends) -> None:
        packet = ends.sealed()
        ends.pcscf.open(UE, PCSCF, packet)
        assert ends.pcscf.open(UE, PCSCF, packet) is None
        assert ends.pcscf_counters == {"XfrmInStateSeqError": 1}

    def test_an_outbound_spi_is_not_for_us(self, ends: Ends) -> None:
        assert ends.ue.open(UE, PCSCF, ends.sealed()) is None
        assert ends.ue_counters == {"XfrmInNoStates": 1}

    @pytest.mark.parametrize(
        ("protocol", "ports"),
        [(UDP, (UC, PC)), (UDP, (US, PS)), (UDP, (US, PC)), (SCTP, (UC, PS)), (TCP, (UC, 5060))],
    )
    def test_what_is_inside_must_match(self, ends: Ends, protocol: int, ports: tuple[int, int]) -> None:
        packet = ends.sealed(protocol, build_udp(UE, PCSCF, *ports, b"data"))
        assert ends.pcscf.open(UE, PCSCF, packet) is None
        assert ends.pcscf_counters == {"XfrmInStateMismatch": 1}

    def test_another_source_address(self, ends: Ends) -> None:
        assert ends.pcscf.open(pack_host("10.0.0.9"), PCSCF, ends.sealed()) is None
        assert ends.pcscf_counters == {"XfrmInStateMismatch": 1}

    @pytest.mark.parametrize(
        ("ports", "counter"),
        [
            ((UC, PS), "XfrmInTmplMismatch"),
            ((US, PC), "XfrmInTmplMismatch"),
            ((5060, PS), "XfrmInNoPols"),
            ((UC, PC), "XfrmInNoPols"),
            ((UC, 5060), None),
        ],
    )
    def test_in_clear(self, ends: Ends, ports: tuple[int, int], counter: str | None) -> None:
        payload = build_udp(UE, PCSCF, *ports, b"data")
        assert ends.pcscf.admits_clear(UE, PCSCF, payload) is (counter is None)
        assert ends.pcscf_counters == ({counter: 1} if counter else {})

    def test_in_clear_after_the_set_is_gone(self, ends: Ends) -> None:
        ends.pcscf.remove(1)
        assert not ends.pcscf.admits_clear(UE, PCSCF, build_udp(UE, PCSCF, UC, PS, b""))
        assert ends.pcscf_counters == {"XfrmInNoPols": 1}


def test_most_data_leaves_room_for_esp() -> None:
    for alg, ealg in (("hmac-sha-1-96", "aes-cbc"), ("null", "aes-gcm"), ("hmac-md5-96", "null")):
        database = SaDatabase(SeededEntropy(1), Counter())
        database.install(sas_of(UE4, alg=alg, ealg=ealg))
        selector = selector_of(sas_of(UE4).sas[0])
        assert selector == (UE, UC, PCSCF, PS)
        outbound = database.outbound(selector)
        assert outbound is not None
        room = 1480
        most = database.most_data(selector, room)
        fits = database.seal(outbound, TCP, bytes(20 + most))
        assert fits is not None
        assert room - 16 < len(fits) <= room
        too_long = database.seal(outbound, TCP, bytes(20 + most + 1))
        assert too_long is not None
        assert len(too_long) > room
        assert database.most_data((UE, 1, PCSCF, 2), room) == 1460
