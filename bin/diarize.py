#!/usr/bin/env python3
"""Door to `paraformer.programs.diarize`."""

import sys

from paraformer.programs.diarize import main

sys.exit(main())
