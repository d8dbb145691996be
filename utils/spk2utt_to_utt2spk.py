#!/usr/bin/env python3
"""Turn spk2utt into utt2spk: spk2utt_to_utt2spk.py [SPK2UTT [UTT2SPK]]; else stdin and stdout."""

from __future__ import annotations

from door import convert, enter

from paraformer.data.corpus.tables import revert

if __name__ == "__main__":
    enter(lambda: convert(revert, __doc__))
