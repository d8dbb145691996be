#!/usr/bin/env python3
"""Door to `paraformer.programs.compute_cer`."""

import sys

from paraformer.programs.compute_cer import main

sys.exit(main())
