#!/usr/bin/env python3
"""Door to `paraformer.programs.make_arpa`."""

import sys

from paraformer.programs.make_arpa import main

sys.exit(main())
