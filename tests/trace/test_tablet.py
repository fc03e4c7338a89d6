"""The registration of a real tablet with a real core, as captures/README.md of the shared folder describes it."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.trace.decrypt import decrypt
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing, esp_sa_file
from imslab.trace.model import Hop, Icv, Role
from imslab.trace.pcap import read
from imslab.trace.registration import Autn, Outcome, Response, verdict
from imslab.trace.trace import Trace
from tests.require import require_program, require_shared

K, OP = bytes.fromhex("8baf473f2f8fd09487cccbd7097c6862"), b"\x11" * 16
IMPI = "001011234567893@ims.mnc001.mcc001.3gppnetwork.org"


@pytest.fixture(scope="module")
def capture() -> Path:
    return require_shared("captures/samsung-kamailio-ipsec-reg.pcapng")


@pytest.fixture(scope="module")
def trace(capture: Path) -> Trace:
    keys = KeyRing()
    keys.add_milenage(K, op=OP, impi=IMPI)
    return dissect(read(capture), keys)


def test_it_registered_and_both_proofs_are_right(trace: Trace) -> None:
    (registration,) = trace.registrations
    assert registration.impi == IMPI
    assert registration.impu == f"sip:{IMPI}"
    assert registration.outcome is Outcome.REGISTERED
    assert registration.algorithm == "AKAv1-MD5"
    assert registration.autn is Autn.OK
    assert registration.response is Response.OK
    assert registration.qop == "auth-int"
    assert verdict(trace) == "pass"
    assert trace.packets == 1071
    assert trace.problems == []


def test_without_keys_the_capture_holds_its_own(capture: Path) -> None:
    trace = dissect(read(capture))
    (registration,) = trace.registrations
    assert registration.autn is Autn.UNKNOWN_KEY
    assert registration.response is Response.OK  # XRES stands in the MAA
    assert sum(sa.icv_ok for sa in trace.sas) == 42
    assert verdict(trace) == "pass"


def test_a_wrong_key_is_told(capture: Path) -> None:
    keys = KeyRing()
    keys.add_milenage(bytes(16), op=OP)
    trace = dissect(read(capture), keys)
    (registration,) = trace.registrations
    assert registration.autn is Autn.MAC_FAILURE
    assert sum(sa.icv_ok for sa in trace.sas) == 42  # the capture knows better
    assert verdict(trace) == "fail"


def test_the_four_sas(trace: Trace) -> None:
    ue, pcscf = "192.168.101.5", "10.4.128.21"
    shown = [(sa.spi, sa.src, sa.dst) for sa in trace.sas]
    assert shown == [
        (101, Endpoint(ue, 6301), Endpoint(pcscf, 6100)),
        (25656, Endpoint(pcscf, 6100), Endpoint(ue, 6301)),
        (25657, Endpoint(pcscf, 5100), Endpoint(ue, 6300)),
        (100, Endpoint(ue, 6300), Endpoint(pcscf, 5100)),
    ]
    assert {(sa.alg, sa.ealg) for sa in trace.sas} == {("hmac-md5-96", "null")}
    assert [sa.packets for sa in trace.sas] == [21, 18, 3, 0]
    assert trace.registrations[0].sas == trace.sas
    assert [sa.spi for sa in trace.keyed_sas] == [101, 25656, 25657, 100]


def test_every_esp_frame_opens_and_none_is_a_replay(trace: Trace) -> None:
    assert sum(sa.packets for sa in trace.sas) == sum(sa.icv_ok for sa in trace.sas) == 42
    assert sum(sa.icv_bad + sa.replayed for sa in trace.sas) == 0
    assert len(trace.esp_records) == 14  # each at three capture points
    assert all(len(record.copies) == 2 * len(record.frames) for record in trace.esp_records)
    assert all(record.icv is Icv.OK and not record.replayed for record in trace.esp_records)
    sequences = [record.sequence for record in trace.esp_records if record.spi == 101]
    assert sequences == [1, 2, 3, 4, 5, 6, 7]


def test_frames_are_where_they_should_be(trace: Trace) -> None:
    def at(frame: int) -> list[object]:
        return [record for record in trace.sip_records if frame in (*record.frames, *record.copies)]

    (challenge,) = at(407)
    assert challenge in trace.sip(status=401, hop=Hop.GM)
    assert (*challenge.frames, *challenge.copies) == (406, 407, 408)
    assert challenge.message.www_authenticate[0].ck is not None
    (protected,) = at(459)
    assert protected.frames == (459, 460)  # two TCP segments inside ESP
    assert protected.transport is Transport.TCP
    assert protected.spi == 101
    (notify,) = at(691)
    assert notify in trace.sip(method="NOTIFY", hop=Hop.GM)
    assert notify.spi == 0x6439
    assert str(notify.message.via[0].port) == "5100"
    (answer,) = at(699)
    assert (answer.src.port, answer.dst.port, answer.spi) == (6301, 5100, None)
    assert trace.request_of(answer) is notify
    for frame in (944, 954):
        (options,) = at(frame)
        assert options.hop is Hop.GM
        assert options.spi is None


def test_who_is_who_on_one_host(trace: Trace) -> None:
    host = "10.4.128.21"
    roles = {port: trace.topology.role(Endpoint(host, port)) for port in (5060, 6100, 5100, 4060, 6060)}
    assert roles == {
        5060: Role.PCSCF,
        6100: Role.PCSCF,
        5100: Role.PCSCF,
        4060: Role.ICSCF,
        6060: Role.SCSCF,
    }
    cx = [
        (record.message.name, record.sender, record.receiver)
        for record in trace.diameter_records
        if record.message.application == 16777216
    ]
    assert cx == [
        ("UAR", Role.ICSCF, Role.HSS),
        ("UAA", Role.HSS, Role.ICSCF),
        ("MAR", Role.SCSCF, Role.HSS),
        ("MAA", Role.HSS, Role.SCSCF),
        ("SAR", Role.SCSCF, Role.HSS),
        ("SAA", Role.HSS, Role.SCSCF),
    ]


def test_a_register_is_followed_over_all_hops(trace: Trace) -> None:
    first = trace.registrations[0].requests[0]
    path = [first]
    while (following := trace.relayed(path[-1])) is not None:
        path.append(following)
    assert [record.frames for record in path] == [(279,), (291,), (357,)]
    assert trace.relayed_from(path[2]) is path[1]
    assert [record.frames for record in trace.responses_to(first)] == [(282,), (406,)]
    steps = trace.registrations[0].steps
    assert [step.summary.split(" (")[0] for step in steps if "UE" in (step.source, step.target)] == [
        "REGISTER",
        "100 Trying",
        "401 Unauthorized - Challenging the UE",
        "REGISTER",
        "100 Trying",
        "200 OK",
    ]
    assert [step.frame for step in steps if step.summary.startswith(("MAR", "MAA", "SAR", "SAA"))] == [
        358,
        402,
        488,
        670,
    ]


def test_records_are_in_order_of_time(trace: Trace) -> None:
    times = [record.time for record in trace.records]
    assert times == sorted(times)


def test_tshark_shows_the_sip_inside_what_decrypt_writes(trace: Trace, capture: Path, tmp_path: Path) -> None:
    tshark = require_program("tshark")
    path = tmp_path / "decrypted.pcapng"
    with path.open("wb") as stream:
        done = decrypt(read(capture), trace, stream)
    assert done == (1071, 42, 0)
    shown = _tshark(tshark, path, "sip", "frame.number", "sip.Status-Code", "sip.Method")
    frames = {line.split("\t")[0] for line in shown}
    assert {"460", "473", "674", "681", "691"} <= frames
    assert _tshark(tshark, path, "esp", "frame.number") == []
    bad = "_ws.malformed || ip.checksum.status == 0"
    assert _tshark(tshark, path, bad, "frame.number", options=["-o", "ip.check_checksum:TRUE"]) == []
    times = _tshark(tshark, path, "frame", "frame.time_epoch")
    assert times == _tshark(tshark, capture, "frame", "frame.time_epoch")


def test_tshark_opens_the_esp_with_our_key_file(trace: Trace, capture: Path) -> None:
    tshark = require_program("tshark")
    lines = [line for line in esp_sa_file(trace.keyed_sas).splitlines() if not line.startswith("#")]
    options = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for line in lines:
        options += ["-o", f"uat:esp_sa:{line}"]
    good = _tshark(tshark, capture, "esp.icv_good == 1", "frame.number", options=options)
    assert len(good) == 42
    assert "460" in _tshark(tshark, capture, "sip && esp", "frame.number", options=options)


def test_cut_short_it_is_judged_as_far_as_it_goes(capture: Path) -> None:
    octets = capture.read_bytes()
    trace = dissect(read(io.BytesIO(octets[:200_000])))
    assert trace.packets < 1071
    assert isinstance(trace.problems[0], PeerError)
    assert "ends inside" in trace.problems[0].reason
    assert trace.registrations[0].outcome is not Outcome.REJECTED


def _tshark(tshark: str, path: Path, filter_: str, *fields: str, options: list[str] | None = None) -> list[str]:
    arguments = [argument for field in fields for argument in ("-e", field)]
    done = subprocess.run(
        [tshark, "-r", path, "-Y", filter_, "-T", "fields", *arguments, *(options or [])],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()
