"""`python -m paraformer` is `funasr`."""

import sys

from paraformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
