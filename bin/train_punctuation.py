#!/usr/bin/env python3
"""Door to `paraformer.programs.train_punctuation`."""

import sys

from paraformer.programs.train_punctuation import main

sys.exit(main())
