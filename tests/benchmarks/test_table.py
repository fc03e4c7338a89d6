"""The table that benchmarks print."""

from __future__ import annotations

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.table import Row, measure, print_table


def test_ratio() -> None:
    assert Row("a", 10.0, "b", 4.0).ratio == 2.5
    assert Row("a", 10.0).ratio is None


def test_measure_counts_calls() -> None:
    calls = []
    assert measure(lambda: calls.append(1), seconds=0.003) > 0
    assert calls


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Row("fast", 123456.0, "peer", 1000.0, target=2.0), Row("alone", 1.5, unit="s")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "ours", "unit", "peer", "its", "figure", "ratio", "target"]
    assert lines[2].split() == ["fast", "123,456", "/s", "peer", "1,000", "123.5", "x", ">=", "2", "x"]
    assert lines[3].split() == ["alone", "1.5", "s"]


def test_names_that_are_no_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
