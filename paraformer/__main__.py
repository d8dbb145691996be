"""`python -m paraformer` is `funasr`."""

import sys

from paraformer.cli import main

if __name__ == "__main__":
    sys.exit(main())
