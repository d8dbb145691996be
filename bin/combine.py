#!/usr/bin/env python3
"""Door to `paraformer.programs.combine`."""

import sys

from paraformer.programs.combine import main

sys.exit(main())
