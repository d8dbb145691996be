#!/usr/bin/env python3
"""Turn utt2spk into spk2utt: utt2spk_to_spk2utt.py [UTT2SPK [SPK2UTT]]; else stdin and stdout."""

from __future__ import annotations

from door import convert, enter

from paraformer.data.corpus.tables import invert

if __name__ == "__main__":
    enter(lambda: convert(invert, __doc__))
