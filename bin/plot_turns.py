#!/usr/bin/env python3
"""Door to `paraformer.programs.plot_turns`."""

import sys

from paraformer.programs.plot_turns import main

sys.exit(main())
