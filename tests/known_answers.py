"""The known answers of vectors/, one list of entries per file; what they are stands in vectors/README.md."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.require import PROJECT, require_shared


@cache
def load(name: str) -> list[dict[str, Any]]:
    """All entries of vectors/NAME.json."""
    entries: list[dict[str, Any]] = json.loads((PROJECT / "vectors" / f"{name}.json").read_text())["vectors"]
    return entries


def load_shared(name: str) -> dict[str, dict[str, Any]]:
    """The entries, by id, of a file that the project may not contain. Skips the test when it is not beside us."""
    return {entry["id"]: entry for entry in json.loads(require_shared(f"vectors/{name}.json").read_text())["vectors"]}


def each(name: str, count: int) -> pytest.MarkDecorator:
    """Parametrise a test over all entries of a file, by their ids; `count` notices a file that lost some."""
    entries = load(name)
    assert len(entries) == count, f"vectors/{name}.json: {len(entries)} entries, {count} were expected"
    return pytest.mark.parametrize("entry", entries, ids=[entry["id"] for entry in entries])
