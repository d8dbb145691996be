#!/usr/bin/env python3
"""Door to `paraformer.programs.plot_alignment`."""

import sys

from paraformer.programs.plot_alignment import main

sys.exit(main())
