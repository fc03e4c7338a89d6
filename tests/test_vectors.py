"""vectors/README.md tells the truth about the files beside it."""

from __future__ import annotations

import json
import re

from tests.require import PROJECT

VECTORS = PROJECT / "vectors"


def test_one_row_per_file_with_the_right_count() -> None:
    rows = re.findall(r"^\| (\S+\.json) \| [^|]+ \| (\d+) \|", (VECTORS / "README.md").read_text(), re.MULTILINE)
    counts = {path.name: len(json.loads(path.read_text())["vectors"]) for path in VECTORS.glob("*.json")}
    assert {name: int(count) for name, count in rows} == counts
    assert len(rows) == len(counts)


def test_every_entry_has_an_id_of_its_own_a_provenance_and_a_verifier() -> None:
    for path in VECTORS.glob("*.json"):
        content = json.loads(path.read_text())
        assert content["title"], path.name
        assert content["licence_remark"], path.name
        ids = [entry["id"] for entry in content["vectors"]]
        assert len(set(ids)) == len(ids), path.name
        for entry in content["vectors"]:
            assert entry["provenance"], (path.name, entry["id"])
            assert entry["verified"], (path.name, entry["id"])
