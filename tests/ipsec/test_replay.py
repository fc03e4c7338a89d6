"""The anti-replay window: its edges, and agreement with a set that forgets nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.errors import LocalError
from imslab.ipsec.replay import LAST_SEQUENCE, ReplayWindow


def received(*sequences: int, size: int = 64) -> ReplayWindow:
    window = ReplayWindow(size)
    for sequence in sequences:
        assert window.check(sequence)
        window.update(sequence)
    return window


def test_default_is_64_and_less_than_32_is_refused() -> None:
    assert ReplayWindow().size == 64
    assert ReplayWindow(32).size == 32
    with pytest.raises(LocalError, match="at least 32"):
        ReplayWindow(31)


def test_first_number_is_1_and_0_never_passes() -> None:
    assert not ReplayWindow().check(0)
    assert received(1).highest == 1
    assert not received(1).check(0)
    assert not received(5).check(0)


def test_check_changes_nothing() -> None:
    window = received(10)
    assert window.check(1000)
    assert window.check(1000)
    assert window.highest == 10
    assert window.check(9)
    assert window.check(9)


def test_the_left_edge() -> None:
    window = received(100)
    assert window.check(37)  # 100 - 63: the last of 64
    assert not window.too_old(37)
    assert not window.check(36)
    assert window.too_old(36)
    window.update(37)
    assert not window.check(37)
    assert window.check(38)


def test_a_step_moves_the_edge_by_one() -> None:
    window = received(37, 100, 101)
    assert not window.check(37)
    assert window.too_old(37)
    assert window.check(38)


def test_a_jump_forgets_what_it_leaves_behind() -> None:
    window = received(100, 600)
    assert not window.check(100)
    assert window.check(599)
    assert window.check(537)
    assert not window.check(536)
    assert not window.check(600)


def test_a_jump_to_the_very_edge_keeps_one_bit() -> None:
    window = received(100, 163)
    assert not window.check(100)
    assert not window.too_old(100)
    assert window.check(101)


def test_the_last_number_and_a_jump_over_all() -> None:
    window = received(1, LAST_SEQUENCE)
    assert not window.check(LAST_SEQUENCE)
    assert window.check(LAST_SEQUENCE - 1)
    assert not window.check(1)


@settings(max_examples=200)
@given(st.sampled_from([32, 64, 100]), st.lists(st.integers(0, 300), max_size=60))
def test_agrees_with_a_set(size: int, sequences: list[int]) -> None:
    window = ReplayWindow(size)
    seen: set[int] = set()
    for sequence in sequences:
        fresh = sequence > 0 and sequence not in seen and sequence > max(seen, default=0) - size
        assert window.check(sequence) == fresh
        if fresh:
            window.update(sequence)
            seen.add(sequence)
    assert window.highest == max(seen, default=0)
