#!/usr/bin/env python3
"""Door to `paraformer.programs.verify`."""

import sys

from paraformer.programs.verify import main

sys.exit(main())
