#!/usr/bin/env python3
"""Door to `paraformer.programs.compute_cmvn`."""

import sys

from paraformer.programs.compute_cmvn import main

sys.exit(main())
