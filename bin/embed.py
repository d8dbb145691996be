#!/usr/bin/env python3
"""Door to `paraformer.programs.embed`."""

import sys

from paraformer.programs.embed import main

sys.exit(main())
