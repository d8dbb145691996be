#!/usr/bin/env python3
"""Door to `paraformer.programs.align`."""

import sys

from paraformer.programs.align import main

sys.exit(main())
