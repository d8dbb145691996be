#!/usr/bin/env python3
"""Door to `paraformer.programs.extend_model`."""

import sys

from paraformer.programs.extend_model import main

sys.exit(main())
