#!/usr/bin/env python3
"""Door to `paraformer.programs.train_vad`."""

import sys

from paraformer.programs.train_vad import main

sys.exit(main())
