#!/usr/bin/env python3
"""Door to `paraformer.programs.enroll`."""

import sys

from paraformer.programs.enroll import main

sys.exit(main())
