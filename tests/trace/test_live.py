"""A recording is a Trace, and a capture that gives the same one."""

from __future__ import annotations

import io

from imslab.trace.dissect import dissect
from imslab.trace.live import recorded_packets, trace_of, write_capture
from imslab.trace.model import Role, SipRecord
from imslab.trace.pcap import read
from imslab.trace.record import ListRecorder
from tests.trace.wire import Registration, Wire


def _recording() -> ListRecorder:
    recorder = ListRecorder()
    recorder.node(0.0, "ue1", "started", "here I am", {})
    for packet in Registration(Wire()).whole().wire.packets:
        recorder.packet(packet.time - 1000, "Gm" if packet.number in (1, 4, 5, 6) else "Mw", packet.octets)
        if packet.number == 4:
            recorder.node(packet.time - 1000, "pcscf", "install-sas", "four", {"number": 1})
    recorder.node(9.0, "ue1", "registered", "done", {})
    return recorder


def test_nodes_and_packets_in_the_order_in_which_it_happened() -> None:
    trace = trace_of(_recording(), {"ue1": Role.UE}, hosts={"ue1": "192.0.2.10"}, epoch=1_600_000_000)
    kinds = [record.message.__class__.__name__ if isinstance(record, SipRecord) else "" for record in trace.records]
    assert kinds.count("Request") == 3
    shown = [(record.node, record.role, record.host, record.kind) for record in trace.node_records]
    assert shown == [
        ("ue1", Role.UE, "192.0.2.10", "started"),
        ("pcscf", Role.UNKNOWN, "", "install-sas"),
        ("ue1", Role.UE, "192.0.2.10", "registered"),
    ]
    assert trace.records[0] is trace.node_records[0]
    place = trace.records.index(trace.node_records[1])
    assert trace.records[place - 1].frames == (4,)
    assert trace.records[place + 1].frames == (5,)
    assert trace.records[0].time == 1_600_000_000
    assert {record.point for record in trace.sip_records} == {"Gm", "Mw"}


def test_the_capture_of_a_recording_gives_the_same_trace() -> None:
    recorder = _recording()
    stream = io.BytesIO()
    write_capture(recorder, stream, epoch=1_600_000_000, comment="a test")
    stream.seek(0)
    captured = list(read(stream))
    assert [(each.point, each.octets) for each in captured] == [
        (each.point, each.octets) for each in recorded_packets(recorder)
    ]
    live, read_back = trace_of(recorder, {}, epoch=1_600_000_000), dissect(captured)
    assert [record.frames for record in live.sip_records] == [record.frames for record in read_back.sip_records]
    assert [each.as_json()["sa"] for each in live.registrations] == [
        each.as_json()["sa"] for each in read_back.registrations
    ]
