#!/usr/bin/env python3
"""Door to `paraformer.programs.average_model`."""

import sys

from paraformer.programs.average_model import main

sys.exit(main())
