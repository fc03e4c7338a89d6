"""A live run and its capture file give the same Trace: whoever has the file knows what the lab knew."""

from __future__ import annotations

import io
from typing import Any

import pytest

from imslab.ipsec.packet import ESP, parse_ip
from imslab.lab import EPOCH
from imslab.report.summary import summarise
from imslab.rules.judge import judge
from imslab.trace.decrypt import decrypt
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing, esp_sa_file
from imslab.trace.live import recorded_packets
from imslab.trace.model import DiameterRecord, EspRecord, Icv, NodeRecord, Record, SipRecord
from imslab.trace.pcap import read
from imslab.trace.registration import Outcome, verdict
from imslab.trace.trace import Trace
from tests.flows.labs import Job, Play, first, job, play, subscriber

SETTINGS: dict[str, dict[str, Any]] = {
    "IPv4": {},
    "IPv6": {"ip": 6},
    "UDP": {"ue__transport": "udp"},
    "TCP": {"ue__transport": "tcp", "ip": 6},
    "GCM": first("null", "aes-gcm"),
    "GMAC": first("aes-gmac", "null"),
    "a bad network": {"seed": 5, "links__gm__loss": 0.1, "links__gm__duplicate": 0.1, "links__gm__reorder": 0.2},
    "a wrong P-CSCF": {"pcscf__faults": ("pcscf-keys-on-gm", "pcscf-one-entry-server")},
}


def picture(record: Record) -> Any:
    """Everything that a record says, so that two can be compared."""
    common = record.frames, record.copies, round(record.time, 6), record.point
    match record:
        case SipRecord(src=src, dst=dst, transport=transport, message=message, spi=spi):
            place = record.hop, record.sender, record.receiver
            return "SIP", common, src, dst, transport, message.octets, spi, place
        case DiameterRecord(src=src, dst=dst, message=message):
            return "Diameter", common, src, dst, message.encode(), record.sender, record.receiver
        case EspRecord():
            return "ESP", common, record.spi, record.sequence, record.icv, record.replayed, record.inner_dst_port
        case _:
            return type(record).__name__, common


def on_the_wire(trace: Trace) -> list[Any]:
    """What of a trace is in a capture too."""
    return [picture(record) for record in trace.records if not isinstance(record, NodeRecord)]


def captured(done: Play, keys: KeyRing | None = None) -> Trace:
    """The trace of the run's capture file, read back."""
    return dissect(read(io.BytesIO(done.capture())), keys)


def rounded(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its times to the microsecond, which is what a capture file has."""
    for registration in document["registrations"]:
        for step in registration["steps"]:
            step["time"] = round(step["time"], 5)
    return document


@pytest.mark.parametrize("name", SETTINGS)
def test_with_the_subscribers_keys(name: str) -> None:
    done = job(**SETTINGS[name])
    trace = captured(done, done.lab.keys)
    assert on_the_wire(trace) == on_the_wire(done.trace)
    assert rounded(summarise(trace, judge(trace))) == rounded(summarise(done.trace, done.findings))
    assert trace.packets == done.trace.packets == len(done.lab.recording.packets)
    assert [(each.spi, each.alg, each.ealg, each.packets) for each in trace.sas] == [
        (each.spi, each.alg, each.ealg, each.packets) for each in done.trace.sas
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_without_any_key(name: str) -> None:
    """CK and IK are in the capture itself, on Mw and Cx; only what K alone can tell is unknown."""
    done = job(**SETTINGS[name])
    trace = captured(done)
    assert on_the_wire(trace) == on_the_wire(done.trace)
    ours, theirs = (rounded(summarise(each, judge(each))) for each in (done.trace, trace))
    told = {registration.pop("autn") for registration in theirs["registrations"]}
    assert told == {"unknown-key"}
    for registration in ours["registrations"]:
        del registration["autn"]
    assert theirs["registrations"] == ours["registrations"]
    assert theirs["verdict"] == ours["verdict"] == "pass"
    assert theirs["findings"] == ours["findings"]


def test_a_wrong_box_is_found_in_both() -> None:
    """So that equal findings are not only two empty lists."""
    done = job(**SETTINGS["a wrong P-CSCF"])
    found = {finding.rule for finding in judge(captured(done))}
    assert found == {finding.rule for finding in done.findings}
    assert "CHL-10" in found


class TestGmAlone:
    """A capture of the air interface: nothing in it shows a key."""

    def packets(self, done: Play) -> list[Any]:
        return [packet for packet in recorded_packets(done.lab.recording, EPOCH) if packet.point == "Gm"]

    def test_without_keys_it_stays_closed(self) -> None:
        trace = dissect(self.packets(job()))
        assert {record.icv for record in trace.esp_records} == {Icv.UNCHECKED}
        assert {each.outcome for each in trace.registrations} == {Outcome.CHALLENGE_UNANSWERED}
        assert verdict(trace) == "inconclusive"
        assert trace.sip(method="MESSAGE") == []

    def test_with_k(self) -> None:
        """The nonce and K give CK and IK."""
        done = job()
        trace = dissect(self.packets(done), done.lab.keys)
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert [each.outcome for each in trace.registrations] == [each.outcome for each in done.trace.registrations]
        assert verdict(trace) == "pass"
        assert len(trace.sip(method="MESSAGE", request=True)) == 4

    def test_with_the_esp_sa_file(self) -> None:
        done = job()
        keys = KeyRing()
        installed = [event.data["sas"] for event in done.lab.recording.events if event.kind == "install-sas"]
        keys.read(esp_sa_file([sa for each in installed for sa in each.sas]))
        trace = dissect(self.packets(done), keys)
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert len(trace.sip(method="MESSAGE", request=True)) == 4

    def test_with_the_key_of_somebody_else(self) -> None:
        keys = play(subscribers=[subscriber(7)]).lab.keys
        trace = dissect(self.packets(job()), keys)
        assert {record.icv for record in trace.esp_records} == {Icv.UNCHECKED}
        assert verdict(trace) in ("inconclusive", "fail")

    def test_nobody_is_blamed_for_what_went_round_through_the_core(self) -> None:
        """A MESSAGE from one UE to the other leaves the P-CSCF for the core and comes back to it; Gm shows its ends."""
        done = job()
        trace = dissect(self.packets(done), done.lab.keys)
        assert [finding.rule for finding in judge(trace)] == []


def test_a_run_that_went_on_after_a_part_of_it_was_looked_at() -> None:
    """A trace is of its moment; the later one has what the earlier one had."""
    here = play()
    here.register()
    before = on_the_wire(here.trace)
    assert here.ask(here.ue, "reregister", "sas-switched")
    assert on_the_wire(here.trace)[: len(before)] == before


@pytest.mark.parametrize("name", ["IPv4", "UDP", "TCP"])
def test_the_decrypted_capture(name: str) -> None:
    """The same messages, in clear; each at its time and capture point."""
    done: Job = job(**SETTINGS[name])
    stream = io.BytesIO()
    decrypt(recorded_packets(done.lab.recording, EPOCH), done.trace, stream)
    stream.seek(0)
    trace = dissect(read(stream))
    assert trace.esp_records == []
    assert [(record.message.octets, record.src, record.dst, record.point) for record in trace.sip_records] == [
        (record.message.octets, record.src, record.dst, record.point) for record in done.trace.sip_records
    ]


class TestPartOfIt:
    """Whoever sees only a part of a sane run blames nobody for what lies outside. ESP-03 notes SAs of before."""

    def blamed(self, packets: list[Any], keys: KeyRing | None) -> set[str]:
        return {finding.rule for finding in judge(dissect(packets, keys))} - {"ESP-03", "TRN-02"}

    @pytest.mark.parametrize("name", ["IPv4", "UDP", "TCP"])
    @pytest.mark.parametrize("points", ["Gm", "Mw", "Cx", "Gm Mw", "Gm Cx", "Mw Cx"])
    def test_some_links(self, points: str, name: str) -> None:
        done = job(**SETTINGS[name])
        packets = [each for each in recorded_packets(done.lab.recording, EPOCH) if each.point in points.split()]
        for keys in (None, done.lab.keys):
            assert self.blamed(packets, keys) == set()

    @pytest.mark.parametrize("name", ["IPv4", "UDP", "TCP"])
    def test_from_here_and_up_to_there(self, name: str) -> None:
        done = job(**SETTINGS[name])
        packets = list(recorded_packets(done.lab.recording, EPOCH))
        for place in range(0, len(packets), 19):
            for part in (packets[place:], packets[:place]):
                assert self.blamed(part, done.lab.keys) == set()


def test_a_capture_taken_with_a_filter_that_leaves_esp_out_is_no_failure() -> None:
    """`tcpdump port 5060`: Gm ends with the 401, while Mw shows that the UE went on."""
    recording = job().lab.recording
    clear = [packet for packet in recorded_packets(recording, EPOCH) if parse_ip(packet.octets).protocol != ESP]
    trace = dissect(clear)
    assert {each.outcome for each in trace.registrations} == {Outcome.CHALLENGE_UNANSWERED}
    assert verdict(trace) == "inconclusive"


def test_a_capture_that_ends_in_the_middle_is_no_failure() -> None:
    recording = job().lab.recording
    beginning = list(recorded_packets(recording, EPOCH))[:20]
    assert verdict(dissect(beginning)) == "inconclusive"
