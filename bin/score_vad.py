#!/usr/bin/env python3
"""Door to `paraformer.programs.score_vad`."""

import sys

from paraformer.programs.score_vad import main

sys.exit(main())
