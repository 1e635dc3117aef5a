"""`python -m bench [NAME …]`: run the measurements named, or all."""

from __future__ import annotations

import importlib
import sys

NAMES = ("start", "second", "idle", "api")

for name in sys.argv[1:] or NAMES:
    importlib.import_module(f"bench.{name}").main()
