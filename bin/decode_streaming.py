#!/usr/bin/env python3
"""Door to `paraformer.programs.decode_streaming`."""

import sys

from paraformer.programs.decode_streaming import main

sys.exit(main())
