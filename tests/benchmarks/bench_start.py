"""How soon a command answers: `imslab --help` within 0.2 s, `imslab run` within 1 s, Python's own start included."""

from __future__ import annotations

import sys
import tempfile

from tests.benchmarks.process import IMSLAB, seconds
from tests.benchmarks.table import Row


def run() -> list[Row]:
    """Runs per CPU second, against the limits that were set, and against Python that does nothing."""
    idle = seconds([sys.executable, "-c", "pass"], runs=5)
    told = seconds([IMSLAB, "--help"], runs=5)
    with tempfile.TemporaryDirectory() as folder:
        played = seconds([IMSLAB, "run", "--out", folder], runs=5)
    return [
        Row("imslab --help, whole process", 1 / told, "limit 0.2 s", 1 / 0.2, "runs/s", 1.0),
        Row("imslab --help, whole process", 1 / told, "python -c pass", 1 / idle, "runs/s"),
        Row("imslab run, whole process", 1 / played, "limit 1 s", 1.0, "runs/s", 1.0),
    ]
