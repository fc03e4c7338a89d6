"""Whole processes, timed as the operating system counts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
#: The command as it is installed beside this interpreter.
IMSLAB = str(Path(sys.executable).with_name("imslab"))


def seconds(command: Sequence[str], *, runs: int = 3, environment: Mapping[str, str] | None = None) -> float:
    """CPU seconds (user and system) of the fastest of `runs`. Raises RuntimeError when one ends with a code but 0."""
    best = float("inf")
    # Byte code is cached, as it is for users.
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(runs):
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**known, **(environment or {})}
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:4])} … ended with {process.returncode}")
        best = min(best, usage.ru_utime + usage.ru_stime)
    return best
