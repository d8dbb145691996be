#!/usr/bin/env python3
"""Door to `paraformer.programs.punctuate`."""

import sys

from paraformer.programs.punctuate import main

sys.exit(main())
