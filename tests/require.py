"""What optional tests need: a skip with its reason, or a failure where IMSLAB_REQUIRE says it must be there.

IMSLAB_REQUIRE: names of Debian packages, blank- or comma-separated, that are promised to be installed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

#: Program → Debian package that brings it.
PACKAGES = {
    "tshark": "tshark",
    "osmo-auc-gen": "libosmocore-utils",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}


def require_program(program: str) -> str:
    """The path of an optional program. Skips the test when it is missing, or fails it when CI promised it."""
    found = shutil.which(program)
    if found:
        return found
    package = PACKAGES[program]
    reason = f"{program} is not installed (Debian package {package})"
    if package in re.split(r"[\s,]+", os.environ.get("IMSLAB_REQUIRE", "")):
        pytest.fail(f"{reason}, though IMSLAB_REQUIRE promises it")
    pytest.skip(reason)


def require_shared(relative: str) -> Path:
    """A file of the team's shared folder that lies beside the checkout; skips the test when it is not there."""
    path = PROJECT.parent / "shared" / relative
    if path.exists():
        return path
    pytest.skip(f"shared/{relative} is not beside this checkout: it is test data that the project may not contain")
