#!/usr/bin/env python3
"""Door to paraformer/programs/make_tokens.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paraformer.programs.make_tokens import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
