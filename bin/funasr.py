#!/usr/bin/env python3
"""Door to `paraformer.cli.main`, for a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paraformer.cli.main import main  # noqa: E402

if __name__ == "__main__":  # processes that share a list import this file too
    sys.exit(main())
