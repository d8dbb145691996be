"""`python -m paraformer` is `funasr`."""

import sys

from paraformer.cli import main

sys.exit(main())
