"""`python -m imslab.cli`, the same as `imslab`."""

from __future__ import annotations

import sys

from imslab.cli.main import main

sys.exit(main())
