#!/usr/bin/env python3
"""Door to `paraformer.programs.find_lr`."""

import sys

from paraformer.programs.find_lr import main

sys.exit(main())
