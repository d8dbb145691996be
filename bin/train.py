#!/usr/bin/env python3
"""Door to `paraformer.programs.train`."""

import sys

from paraformer.programs.train import main

sys.exit(main())
