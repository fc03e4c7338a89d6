"""33.102 Annex C: what the authentication centre hands out, and what the card takes."""

from __future__ import annotations

import pytest

from imslab.aka.sqn import (
    DELTA,
    SEQ_MAX,
    SQN_MAX,
    Freshness,
    SqnGenerator,
    SqnWindow,
    join_sqn,
    split_sqn,
    sqn_text,
)
from imslab.core.errors import LocalError


def test_seq_and_ind() -> None:
    assert split_sqn(0x20) == (1, 0)
    assert split_sqn(SQN_MAX) == (SEQ_MAX, 31)
    assert join_sqn(1, 0) == 32
    assert join_sqn(SEQ_MAX, 31) == SQN_MAX
    assert sqn_text(0x20) == "000000000020"


@pytest.mark.parametrize("sqn", [-1, SQN_MAX + 1])
def test_48_bits_and_no_more(sqn: int) -> None:
    with pytest.raises(LocalError, match="SQN"):
        split_sqn(sqn)


@pytest.mark.parametrize(("seq", "ind"), [(-1, 0), (SEQ_MAX + 1, 0), (0, -1), (0, 32)])
def test_43_and_5_bits(seq: int, ind: int) -> None:
    with pytest.raises(LocalError):
        join_sqn(seq, ind)


class TestGenerator:
    def test_seq_rises_by_one_and_ind_goes_round(self) -> None:
        generator = SqnGenerator()
        handed_out = [split_sqn(generator.next()) for _ in range(70)]
        assert [seq for seq, _ in handed_out] == list(range(1, 71))
        assert [ind for _, ind in handed_out] == [(1 + i) % 32 for i in range(70)]

    def test_peek_changes_nothing(self) -> None:
        generator = SqnGenerator(join_sqn(9, 3))
        assert generator.peek() == generator.peek() == join_sqn(10, 4)
        assert generator.sqn == join_sqn(9, 3)

    def test_it_goes_on_from_what_was_stored(self) -> None:
        first = SqnGenerator()
        expected = [first.next() for _ in range(10)]
        second = SqnGenerator()
        got = [second.next() for _ in range(4)]
        third = SqnGenerator(second.sqn)
        assert got + [third.next() for _ in range(6)] == expected

    def test_a_domain_keeps_to_its_slots(self) -> None:
        ims = SqnGenerator(0, range(16, 32))
        assert [split_sqn(ims.next())[1] for _ in range(18)] == [*range(16, 32), 16, 17]
        only = SqnGenerator(join_sqn(3, 9), range(7, 8))
        assert [split_sqn(only.next()) for _ in range(2)] == [(4, 7), (5, 7)]

    @pytest.mark.parametrize("inds", [range(0), range(33), range(-1, 4), range(30, 34)])
    def test_slots_that_do_not_exist(self, inds: range) -> None:
        with pytest.raises(LocalError, match="IND"):
            SqnGenerator(0, inds)

    def test_an_sqn_that_does_not_exist(self) -> None:
        with pytest.raises(LocalError, match="SQN"):
            SqnGenerator(SQN_MAX + 1)

    def test_the_end_of_the_numbers(self) -> None:
        generator = SqnGenerator(join_sqn(SEQ_MAX - 1, 31))
        assert generator.next() == join_sqn(SEQ_MAX, 0)
        with pytest.raises(LocalError, match="used up"):
            generator.next()
        assert generator.sqn == join_sqn(SEQ_MAX, 0)

    def test_a_card_that_is_ahead_is_followed(self) -> None:
        generator = SqnGenerator(join_sqn(5, 5))
        assert generator.resynchronise(join_sqn(1000, 8)) is True
        assert generator.next() == join_sqn(1001, 9)

    def test_a_card_whose_seq_is_just_our_next_is_followed(self) -> None:
        generator = SqnGenerator(join_sqn(5, 5))
        assert generator.resynchronise(join_sqn(6, 1)) is True
        assert split_sqn(generator.next())[0] == 7

    def test_a_card_that_is_behind_needs_no_reset(self) -> None:
        # 33.102 6.3.5: our next one is in range for it.
        generator = SqnGenerator(join_sqn(5, 5))
        assert generator.resynchronise(join_sqn(5, 2)) is False
        assert generator.sqn == join_sqn(5, 5)

    def test_a_card_that_is_too_far_behind_is_met(self) -> None:
        generator = SqnGenerator(join_sqn(DELTA + 10, 5))
        assert generator.resynchronise(join_sqn(10, 2)) is True
        assert split_sqn(generator.next())[0] == 11
        at_the_edge = SqnGenerator(join_sqn(DELTA + 9, 5))
        assert at_the_edge.resynchronise(join_sqn(10, 2)) is False

    @pytest.mark.parametrize("sqn_he", [0, join_sqn(999, 0), join_sqn(1000, 4), join_sqn(DELTA * 3, 1)])
    def test_after_it_the_card_accepts_at_once(self, sqn_he: int) -> None:
        window = SqnWindow.at(join_sqn(1000, 4))
        generator = SqnGenerator(sqn_he)
        generator.resynchronise(window.sqn_ms)
        assert window.accept(generator.next()) is Freshness.FRESH

    def test_an_sqn_ms_that_does_not_exist(self) -> None:
        with pytest.raises(LocalError, match="SQN"):
            SqnGenerator().resynchronise(SQN_MAX + 1)

    def test_repr(self) -> None:
        assert repr(SqnGenerator(0x21)) == "SqnGenerator(000000000021, range(0, 32))"


class TestWindow:
    def test_in_order(self) -> None:
        window, generator = SqnWindow(), SqnGenerator()
        for _ in range(100):
            sqn = generator.next()
            assert window.accept(sqn) is Freshness.FRESH
            assert window.sqn_ms == sqn

    def test_a_new_card_knows_seq_0(self) -> None:
        assert SqnWindow().accept(join_sqn(0, 7)) is Freshness.REPLAYED
        assert SqnWindow().sqn_ms == 31  # the highest of 32 slots at SEQ 0
        assert SqnWindow().accept(join_sqn(1, 0)) is Freshness.FRESH

    def test_nothing_twice(self) -> None:
        window = SqnWindow()
        sqn = join_sqn(40, 3)
        assert [window.accept(sqn) for _ in range(3)] == [Freshness.FRESH, Freshness.REPLAYED, Freshness.REPLAYED]

    def test_overtaken_ones_are_good_once(self) -> None:
        generator = SqnGenerator()
        vectors = [generator.next() for _ in range(32)]
        window = SqnWindow()
        assert [window.accept(sqn) for sqn in reversed(vectors)] == [Freshness.FRESH] * 32
        assert window.sqn_ms == vectors[-1]
        assert [window.accept(sqn) for sqn in vectors] == [Freshness.REPLAYED] * 32

    def test_too_late_when_the_slot_has_been_used_again(self) -> None:
        window = SqnWindow()
        assert window.accept(join_sqn(33, 1)) is Freshness.FRESH
        assert window.accept(join_sqn(1, 1)) is Freshness.REPLAYED
        assert window.accept(join_sqn(33, 1)) is Freshness.REPLAYED
        assert window.accept(join_sqn(34, 1)) is Freshness.FRESH

    def test_check_changes_nothing(self) -> None:
        window = SqnWindow()
        assert window.check(join_sqn(5, 5)) is Freshness.FRESH
        assert window.check(join_sqn(5, 5)) is Freshness.FRESH
        assert window.seqs == [0] * 32

    def test_delta(self) -> None:
        window = SqnWindow.at(join_sqn(100, 0))
        assert window.check(join_sqn(100 + DELTA, 0)) is Freshness.FRESH
        assert window.accept(join_sqn(101 + DELTA, 0)) is Freshness.TOO_FAR_AHEAD
        assert window.sqn_ms == join_sqn(100, 0)
        assert SqnWindow(delta=10).accept(join_sqn(11, 0)) is Freshness.TOO_FAR_AHEAD

    def test_age_limit(self) -> None:
        window = SqnWindow(age_limit=10)
        assert window.accept(join_sqn(100, 0)) is Freshness.FRESH
        assert window.accept(join_sqn(90, 1)) is Freshness.FRESH
        assert window.accept(join_sqn(89, 2)) is Freshness.TOO_OLD
        assert SqnWindow([100] + [0] * 31).accept(join_sqn(1, 2)) is Freshness.FRESH  # no limit unless one is set

    def test_stored_and_taken_up_again(self) -> None:
        window = SqnWindow()
        for sqn in (join_sqn(7, 3), join_sqn(9, 5), join_sqn(8, 4)):
            window.accept(sqn)
        again = SqnWindow(window.seqs)
        assert again.sqn_ms == window.sqn_ms == join_sqn(9, 5)
        assert again.check(join_sqn(8, 4)) is Freshness.REPLAYED
        assert again.check(join_sqn(8, 6)) is Freshness.FRESH

    def test_the_highest_is_the_same_after_storing_when_slots_are_level(self) -> None:
        window = SqnWindow()
        for ind in (5, 3, 7, 6):
            assert window.accept(join_sqn(9, ind)) is Freshness.FRESH
        assert window.sqn_ms == SqnWindow(window.seqs).sqn_ms == join_sqn(9, 7)

    def test_a_card_of_which_only_sqn_ms_is_known(self) -> None:
        window = SqnWindow.at(join_sqn(50, 7))
        assert window.sqn_ms == join_sqn(50, 7)
        assert window.check(join_sqn(50, 8)) is Freshness.REPLAYED
        assert window.check(join_sqn(51, 7)) is Freshness.FRESH

    def test_an_array_of_another_size(self) -> None:
        with pytest.raises(LocalError, match="expected 32 entries, got 31"):
            SqnWindow([0] * 31)

    def test_repr(self) -> None:
        assert repr(SqnWindow.at(0x21)) == "SqnWindow(SQN_MS 000000000021)"
