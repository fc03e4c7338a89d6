"""The ladder of a small trace, line by line, and what hostile or odd input makes of it."""

from __future__ import annotations

import pytest

from imslab.core.flow import Endpoint
from imslab.diameter.avp import Avp
from imslab.report.ladder import build, draw, mermaid
from imslab.trace.model import Role, SipRecord
from imslab.trace.trace import Trace
from tests.report.build import PCSCF, UE, register, sip, trace

EXPECTED = """
                  UE 192.0.2.2  P-CSCF        S-CSCF        HSS
    0.000      1  │─ REGISTER ─▶│             │             │  UDP
    0.010      2  │             │─ REGISTER ─▶│             │  UDP
    0.020      3  │             │             │─── MAR ────▶│
    0.030      4  │             │             │◀─ MAA 2001 ─│
    0.040      5  │             │◀ 401 REGIS… │             │  UDP
    0.045         │             ●             │             │  install-sas:…
    0.050      6  │◀ 401 REGIS… │             │             │  UDP
    0.060      7  │═ REGISTER ═▶│             │             │  ESP 0x000010…
    0.070      8  │◀─── SIP? ───│             │             │  no start line
"""


def test_it_is_drawn_as_people_read_it() -> None:
    assert "\n" + "\n".join(draw(build(trace()), width=76)) + "\n" == EXPECTED


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80])
def test_no_line_is_wider_than_the_terminal_nor_is_the_head(width: int) -> None:
    assert max(map(len, draw(build(trace()), width=width))) <= width


def test_without_a_terminal_it_is_as_wide_as_its_labels_need() -> None:
    lines = list(draw(build(trace())))
    assert any("◀ 401 REGISTER " in line for line in lines)
    assert any(line.endswith("install-sas: set 1, \\x1b[31m four SAs") for line in lines), (
        "what it would do to a terminal"
    )


def test_columns_stand_in_the_order_of_the_reference_points() -> None:
    roles = [each.role for each in build(trace()).participants]
    assert roles == [Role.UE, Role.PCSCF, Role.SCSCF, Role.HSS]


def test_a_filter_leaves_out_what_it_refuses() -> None:
    ladder = build(trace(), only=lambda record: isinstance(record, SipRecord))
    assert len(ladder.arrows) == 5
    assert ladder.start == 0.0


def test_a_retransmission_says_so() -> None:
    twice = Trace([sip(0.0, 1, UE, PCSCF, register()), sip(0.5, 2, UE, PCSCF, register())])
    assert [arrow.again for arrow in build(twice).arrows] == [False, True]
    assert list(draw(build(twice)))[2].endswith("UDP again")


def test_an_empty_trace_says_so() -> None:
    assert list(draw(build(Trace([])))) == ["(nothing that a ladder could show)"]


def test_more_boxes_than_anybody_can_read_share_a_column() -> None:
    hosts = [Endpoint(f"192.0.2.{number}", 5060) for number in range(100, 200)]
    lines = list(draw(build(Trace([sip(0.0, 1, host, PCSCF, register()) for host in hosts]))))
    assert lines[0].split() == ["UE", "P-CSCF"]
    assert lines[1].endswith("192.0.2.100 UDP")


def test_mermaid_has_every_arrow_and_nothing_it_could_trip_over() -> None:
    lines = list(mermaid(build(trace())))
    assert lines[0] == "sequenceDiagram"
    assert "    participant p0 as UE 192.0.2.2" in lines
    assert "    p0-)p1: REGISTER [ESP]" in lines
    assert sum("->>" in line or "-)" in line for line in lines) == 8
    assert not any("\x1b" in line or ";" in line or "#" in line for line in lines)


def test_an_answer_whose_result_cannot_be_read() -> None:
    spoilt = trace()
    answer = spoilt.diameter(request=False)[0].message
    answer.avps = [avp._replace(data=b"") if avp.code == 268 else avp for avp in answer.avps]
    assert [arrow.label for arrow in build(spoilt).arrows if arrow.label.startswith("MAA")] == ["MAA ?"]
    answer.avps = [Avp(297, 0, 0x40, b"\0\0\1\x0a")]
    assert [arrow.label for arrow in build(spoilt).arrows if arrow.label.startswith("MAA")] == ["MAA ?"]
