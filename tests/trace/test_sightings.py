"""Copies and repeats."""

from __future__ import annotations

from imslab.trace import sightings
from imslab.trace.sightings import Sightings

KEY = ("a", "b", 1, b"octets")


def test_the_same_packet_at_other_points_is_a_copy() -> None:
    seen = Sightings()
    first = seen.see(KEY, (1,), 0.0, "A", cooked=False)
    assert first is not None
    assert seen.see(KEY, (2,), 0.001, "B", cooked=False) is None
    assert seen.see(KEY, (3, 4), 0.002, "C", cooked=False) is None
    assert first.frames == (1,)
    assert first.copies == [2, 3, 4]


def test_the_same_packet_at_one_point_was_sent_twice() -> None:
    seen = Sightings()
    assert seen.see(KEY, (1,), 0.0, "A", cooked=False) is not None
    assert seen.see(KEY, (2,), 0.0005, "A", cooked=False) is not None


def test_on_a_cooked_capture_microseconds_make_a_copy() -> None:
    seen = Sightings()
    assert seen.see(KEY, (1,), 0.0, "A", cooked=True) is not None
    assert seen.see(KEY, (2,), 0.0005, "A", cooked=True) is None
    assert seen.see(KEY, (3,), 0.3, "A", cooked=True) is not None


def test_repeats_at_two_points_are_matched_newest_first() -> None:
    seen = Sightings()
    one = seen.see(KEY, (1,), 0.0, "A", cooked=False)  # lost on its way to B
    two = seen.see(KEY, (2,), 0.5, "A", cooked=False)
    assert seen.see(KEY, (3,), 0.501, "B", cooked=False) is None
    assert one is not None
    assert two is not None
    assert one.copies is None
    assert two.copies == [3]
    # the replay that only B sees
    assert seen.see(KEY, (4,), 0.502, "B", cooked=False) is None
    assert seen.see(KEY, (5,), 0.503, "B", cooked=False) is not None


def test_bursts_at_one_point_after_the_other() -> None:
    seen = Sightings()
    first = [seen.see(KEY, (frame,), 0.0, "A", cooked=False) for frame in (1, 2)]
    assert None not in first
    assert [seen.see(KEY, (frame,), 0.01, "B", cooked=False) for frame in (3, 4)] == [None, None]
    assert seen.see(KEY, (5,), 0.02, "B", cooked=False) is not None


def test_after_a_second_it_is_another_packet() -> None:
    seen = Sightings()
    assert seen.see(KEY, (1,), 0.0, "A", cooked=False) is not None
    assert seen.see(KEY, (2,), 1.5, "B", cooked=False) is not None


def test_copies_are_found_across_a_change_of_generations() -> None:
    seen = Sightings()
    first = seen.see(KEY, (1,), 10.0, "A", cooked=False)
    for number in range(sightings.GENERATION):
        seen.see((number,), (number + 2,), 10.0, "A", cooked=False)
    assert seen.see(KEY, (9,), 10.1, "B", cooked=False) is None
    assert first is not None
    assert first.copies == [9]


def test_memory_is_bounded() -> None:
    seen = Sightings()
    for number in range(3 * sightings.GENERATION):
        seen.see((number,), (number,), 10.0, "A", cooked=False)
        seen.see(KEY, (number,), 10.0, "A", cooked=False)
    assert len(seen._new) <= sightings.GENERATION + 1
    assert len(seen._old) <= sightings.GENERATION + 1
    alike = seen._new[KEY]
    assert isinstance(alike, list)
    assert len(alike) <= sightings.ALIKE


def test_how_often_a_fragmented_packet_was_seen() -> None:
    seen = Sightings()
    first = seen.see(KEY, (1, 2, 3), 0.0, "A", cooked=False)
    seen.see(KEY, (4, 5, 6), 0.0, "B", cooked=False)
    assert first is not None
    assert first.times_seen == 2
