#!/usr/bin/env python3
"""Door to `paraformer.programs.merge_results`."""

import sys

from paraformer.programs.merge_results import main

sys.exit(main())
