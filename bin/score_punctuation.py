#!/usr/bin/env python3
"""Door to `paraformer.programs.score_punctuation`."""

import sys

from paraformer.programs.score_punctuation import main

sys.exit(main())
