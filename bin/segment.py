#!/usr/bin/env python3
"""Door to `paraformer.programs.segment`."""

import sys

from paraformer.programs.segment import main

sys.exit(main())
