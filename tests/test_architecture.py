"""Who may import whom (docs/explanation/architecture.md), and where clocks, sockets and chance may appear.

Read from the source with `ast`, so that an import inside a function counts too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

CODECS = {"sip", "diameter", "aka", "ipsec"}
#: Folder or module of imslab (or "hss") → what it may import of ours, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "sip": {"core"},
    "diameter": {"core"},
    "aka": {"core"},
    "ipsec": {"core"},
    "roles": {"core"} | CODECS,
    "hss": {"core", "aka", "diameter"},
    "trace": {"core"} | CODECS,
    "rules": {"core", "trace"} | CODECS,
    "report": {"core", "trace", "rules"} | CODECS,
    "net": {"core", "ipsec", "trace"},
    "config": {"core"} | CODECS,
    "lab": {"roles", "hss", "net", "trace", "config", "core"} | CODECS,
}
#: These may import anything of ours but tests and vectors.
FREE = {"cli"}

IMPURE = {"asyncio", "socket", "time", "random", "secrets", "subprocess"}
MAY_BE_IMPURE = {"net", "lab", "cli"}
#: The operating system's chance, through `os.urandom`, is SystemEntropy's alone.
URANDOM = {"imslab/core/entropy.py"}

SOURCES = sorted([*PROJECT.glob("imslab/**/*.py"), *PROJECT.glob("hss/**/*.py")])


def part_of(path: Path) -> str:
    """The folder, or the single module, that a file belongs to."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return "hss" if parts[0] == "hss" else parts[1]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from imslab import trace` names a part in the second half.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(names: set[str]) -> set[str]:
    """The parts of ours among dotted names."""
    parts: set[str] = set()
    for name in names:
        pieces = name.split(".")
        if pieces[0] == "imslab" and len(pieces) > 1:
            parts.add(pieces[1])
        elif pieces[0] in ("hss", "tests", "vectors"):
            parts.add(pieces[0])
    return parts - {"__version__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        allowed: set[str] = set()
    elif part in FREE:
        allowed = {*MAY_IMPORT, *FREE}
    else:
        assert part in MAY_IMPORT, f"{part} has no place in the architecture: say in this test what it may import"
        allowed = MAY_IMPORT[part] | {part}
    assert ours(imports(path)) <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_clock_chance_and_sockets_stay_outside(path: Path) -> None:
    if part_of(path) in MAY_BE_IMPURE:
        return
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE
    if str(path.relative_to(PROJECT)) not in URANDOM:
        assert "urandom" not in path.read_text()


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from imslab.roles import ue\n    import imslab.net.simulated\n    import time\n")
    assert ours(imports(bad)) == {"roles", "net"}
    assert "time" in imports(bad)
