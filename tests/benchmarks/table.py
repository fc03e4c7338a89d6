"""One table for all benchmarks: what, how fast, how fast a peer in the same run, the ratio between them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line. ours and peer: in `unit`, the higher the better; peer 0: there is none. target: the ratio wanted."""

    what: str
    ours: float
    peer_name: str = ""
    peer: float = 0.0
    unit: str = "/s"
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's; None without a peer."""
        return self.ours / self.peer if self.peer else None


def measure(work: Callable[[], object], seconds: float = 0.5) -> float:
    """How often per second `work` runs: the best of three stretches of `seconds` / 3, in CPU time."""
    work()
    rounds = 1
    while True:
        spent = _time(work, rounds)
        if spent > 0.01:
            break
        rounds *= 4
    rounds = max(1, int(rounds * seconds / 3 / spent))
    return max(rounds / max(_time(work, rounds), 1e-9) for _ in range(3))


def _time(work: Callable[[], object], rounds: int) -> float:
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(rounds):
            work()
        return time.process_time() - start
    finally:
        if enabled:
            gc.enable()


def print_table(rows: Iterable[Row]) -> None:
    """The rows, aligned."""
    head = ("what", "ours", "unit", "peer", "its figure", "ratio", "target")
    lines = [head]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.1f} x"
        peer = "" if row.ratio is None else _figure(row.peer)
        target = "" if row.target is None else f">= {row.target:g} x"
        lines.append((row.what, _figure(row.ours), row.unit, row.peer_name, peer, ratio, target))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    numeric = {1, 4, 5, 6}
    for index, line in enumerate(lines):
        cells = [
            text.rjust(width) if column in numeric else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if index == 0:
            print("  ".join("-" * width for width in widths))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
