#!/usr/bin/env python3
"""Door to `paraformer.programs.make_tokens`."""

import sys

from paraformer.programs.make_tokens import main

sys.exit(main())
