"""Run all benchmarks, or those named: `python -m tests.benchmarks [sip …]` runs bench_sip.py, …"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tests.benchmarks.table import Row, print_table


def main(names: list[str]) -> int:
    """Print one table of all rows. Returns 1 when a target is missed, 2 for a name that is no benchmark."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or known:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"tests.benchmarks.bench_{name}").run()
    print_table(rows)
    missed = [row for row in rows if row.target is not None and row.ratio is not None and row.ratio < row.target]
    for row in missed:
        print(f"below its target: {row.what}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
