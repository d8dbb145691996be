#!/usr/bin/env python3
"""Door to `paraformer.programs.make_fbank`."""

import sys

from paraformer.programs.make_fbank import main

sys.exit(main())
