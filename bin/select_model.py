#!/usr/bin/env python3
"""Door to `paraformer.programs.select_model`."""

import sys

from paraformer.programs.select_model import main

sys.exit(main())
