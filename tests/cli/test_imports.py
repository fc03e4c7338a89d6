"""What `imslab run` imports is what its user waits for. (--help: test_main.py; `pcap verify`: test_pcap.py.)"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: What a run with ESP in user space has no need of (docs/explanation/architecture.md), by top-level package.
HEAVY = {"scapy", "pyroute2", "sqlalchemy", "starlette", "fastapi", "uvicorn", "textual", "prompt_toolkit", "rich"}

_RUN = """
import json, sys
from imslab.cli.main import main
code = main(["run", "--ipsec", "user", "--out", sys.argv[1]])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All that a process of its own had imported when its run was over."""
    out = tmp_path_factory.mktemp("out")
    done = subprocess.run([sys.executable, "-c", _RUN, str(out)], capture_output=True, text=True, timeout=120)
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert Path(out, "report.html").exists()
    return set(names)


def test_a_run_in_user_space_imports_nothing_heavy(modules: set[str]) -> None:
    assert not HEAVY & {name.partition(".")[0] for name in modules}


def test_a_simulated_network_needs_no_event_loop_and_no_sockets(modules: set[str]) -> None:
    assert not {"asyncio", "imslab.net.sockets", "imslab.net.kernel"} & modules


def test_what_was_looked_at_is_a_whole_run(modules: set[str]) -> None:
    assert {"imslab.lab", "imslab.net.simulated", "imslab.rules.judge", "imslab.report.html", "jinja2"} <= modules
