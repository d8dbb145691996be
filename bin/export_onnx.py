#!/usr/bin/env python3
"""Door to `paraformer.programs.export_onnx`."""

import sys

from paraformer.programs.export_onnx import main

sys.exit(main())
