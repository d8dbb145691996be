#!/usr/bin/env python3
"""Door to `paraformer.programs.decode`."""

import sys

from paraformer.programs.decode import main

sys.exit(main())
