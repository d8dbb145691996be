#!/usr/bin/env python3
"""Door to `paraformer.programs.make_shards`."""

import sys

from paraformer.programs.make_shards import main

sys.exit(main())
