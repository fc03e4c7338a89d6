"""Links by chance and faults on purpose."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from imslab.core.errors import LocalError
from imslab.net.host import Host
from imslab.net.link import Fault, Link, Transit, Way, spoil

HERE, THERE = cast(Host, object()), cast(Host, object())


def transit(octets: bytes = b"packet", way: Way | None = None) -> Transit:
    return Transit(0.0, "Gm", way or Way(HERE, THERE), octets, b"")


class TestLink:
    def test_a_good_link(self) -> None:
        assert Link("Gm", "seed", delay=0.25).delays() == (0.25,)

    def test_shares_are_kept(self) -> None:
        link = Link("Gm", "seed", delay=0.01, loss=0.1, duplicate=0.2, reorder=0.3)
        draws = [link.delays() for _ in range(10_000)]
        copies = Counter(len(draw) for draw in draws)
        assert copies[0] == pytest.approx(1000, abs=150)
        assert copies[2] == pytest.approx(1800, abs=200)
        delays = [delay for draw in draws for delay in draw]
        late = [delay for delay in delays if delay > 0.01]
        assert len(late) / len(delays) == pytest.approx(0.3, abs=0.03)
        assert 0.02 <= min(late) <= max(late) <= 0.06

    def test_a_range_of_delays(self) -> None:
        link = Link("Gm", "seed", delay=(0.1, 0.2))
        delays = [link.delays()[0] for _ in range(1000)]
        assert 0.1 <= min(delays) < 0.11
        assert 0.19 < max(delays) <= 0.2

    def test_its_seed_decides(self) -> None:
        def draws(seed: str) -> list[tuple[float, ...]]:
            link = Link("Gm", seed, loss=0.5)
            return [link.delays() for _ in range(100)]

        assert draws("a") == draws("a") != draws("b")

    @pytest.mark.parametrize(
        "wrong", [{"loss": 1.1}, {"duplicate": -0.1}, {"reorder": 2}, {"delay": -1}, {"delay": (-1, 1)}, {"mtu": 575}]
    )
    def test_nonsense(self, wrong: dict[str, float]) -> None:
        with pytest.raises(LocalError):
            Link("Gm", "seed", **wrong)  # type: ignore[arg-type]


class TestFault:
    def test_the_nth_only_and_once(self) -> None:
        active: list[Fault] = []
        fault = Fault(active, lambda packet: [], None, 2, None)
        assert fault.treat(transit()) is None
        assert fault.treat(transit()) == []
        assert active == []
        assert (fault.seen, fault.hits) == (2, 1)
        fault.cancel()

    def test_every_one_while_the_block_lasts(self) -> None:
        active: list[Fault] = []
        with Fault(active, lambda packet: [(1.0, packet.octets)], None, None, None) as fault:
            assert [fault.treat(transit()) for _ in range(3)] == [[(1.0, b"packet")]] * 3
            assert active == [fault]
        assert active == []
        assert fault.hits == 3

    def test_only_its_way_and_what_matches(self) -> None:
        fault = Fault([], lambda packet: [], Way(HERE, THERE), 1, lambda packet: b"401" in packet.octets)
        assert fault.treat(transit(b"401", Way(THERE, HERE))) is None
        assert fault.treat(transit(b"200")) is None
        assert fault.treat(transit(b"401")) == []

    def test_nth_counts_from_1(self) -> None:
        with pytest.raises(LocalError):
            Fault([], lambda packet: [], None, 0, None)


def test_spoil() -> None:
    assert spoil(b"ab") == b"ac"
