#!/usr/bin/env python3
"""Door to `paraformer.programs.train_speaker`."""

import sys

from paraformer.programs.train_speaker import main

sys.exit(main())
