"""The recorder that keeps everything, and that it is one."""

from __future__ import annotations

from imslab.trace.record import ListRecorder, RecordedPacket, Recorder


def test_everything_is_kept_in_order() -> None:
    kept = ListRecorder()
    recorder: Recorder = kept
    recorder.node(0.0, "ue", "started", "", {})
    recorder.packet(0.5, "Gm", b"one")
    recorder.packet(0.5, "Mw", b"two")
    recorder.node(0.7, "ue", "registered", "as alice", {"impu": "sip:alice@example"})
    assert kept.packets == [RecordedPacket(0.5, "Gm", b"one"), RecordedPacket(0.5, "Mw", b"two")]
    assert [event[:5] for event in kept.events] == [
        (0.0, "ue", "started", "", {}),
        (0.7, "ue", "registered", "as alice", {"impu": "sip:alice@example"}),
    ]
    # Between which packets something happened: times alone do not say it, where many things happen at one.
    assert [event.after for event in kept.events] == [0, 2]


def test_two_recorders_share_nothing() -> None:
    ListRecorder().packet(0.0, "Gm", b"x")
    assert ListRecorder().packets == []
