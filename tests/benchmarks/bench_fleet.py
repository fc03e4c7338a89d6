"""Many UEs registered in one simulated network: time and memory for each, and that 10,000 cost as much each as 1,000.

Each size is a process of its own. The memory is the process's peak: what transactions keep for 64·T1 is in it, and
nobody's has ended when the last UE has registered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.benchmarks.process import PROJECT
from tests.benchmarks.table import Row

FEW, MANY = 1_000, 10_000


def run() -> list[Row]:
    """UEs per CPU second and per megabyte; as many as at the smaller size, if growth is linear."""
    few, many = cost(FEW), cost(MANY)
    rows = []
    for size, each in ((FEW, few), (MANY, many)):
        milliseconds = 1000 * each["registering"] / each["count"]
        rows.append(Row(f"registering {size:,} UEs: one in {milliseconds:.1f} ms", speed(each), unit="UEs/s"))
        rows.append(Row(f"… and {each['kilobytes'] / each['count']:.0f} kB each", density(each), unit="UEs/MB"))
    return [
        *rows,
        Row("speed at 10,000 UEs", speed(many), "at 1,000", speed(few), "UEs/s", 0.8),
        Row("memory at 10,000 UEs", density(many), "at 1,000", density(few), "UEs/MB", 0.8),
    ]


def cost(count: int) -> dict[str, Any]:
    """What one size costs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fleet", str(count)], cwd=PROJECT, capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["registered"] != count:
        raise RuntimeError(f"only {found['registered']} of {count} UEs registered")
    return found


def speed(each: dict[str, Any]) -> float:
    """UEs registered per CPU second."""
    return float(each["count"] / each["registering"])


def density(each: dict[str, Any]) -> float:
    """UEs per megabyte."""
    return float(1024 * each["count"] / each["kilobytes"])
