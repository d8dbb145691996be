#!/usr/bin/env python3
"""Door to `paraformer.programs.score_der`."""

import sys

from paraformer.programs.score_der import main

sys.exit(main())
