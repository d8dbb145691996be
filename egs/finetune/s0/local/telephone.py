#!/usr/bin/env python3
"""A data directory as it sounds over a telephone: 300 to 3400 Hz, 8 kHz, mu-law, noise at 10 dB.

    local/telephone.py SOURCE DESTINATION

What RESULTS.md was measured with: the same words in another channel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.datadir import DataDir, write_data_dir
from paraformer.data.inputs.sources import list_items
from paraformer.errors import ParaformerError

RATE = 16000
BAND = (300.0, 3400.0)
NOISE_DB = 10.0


def telephone(wave: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Samples (N,) at 16 kHz -> (ceil(N / 2),) at 8 kHz."""
    size = len(wave)
    hz = np.fft.rfftfreq(size, 1 / RATE)
    band = 1 / (1 + (BAND[0] / np.maximum(hz, 1)) ** 8) / (1 + (hz / BAND[1]) ** 16)
    tilt = np.where(hz > 0, (np.maximum(hz, 100) / 1000) ** 0.3, 0)
    heard = np.fft.irfft(np.fft.rfft(wave) * band * tilt, size)
    heard = heard / (np.abs(heard).max() + 1e-9) * 0.8
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(size)) * band, size)
    heard = heard + noise * np.sqrt((heard**2).mean() / (noise**2).mean()) * 10 ** (-NOISE_DB / 20)
    half = np.clip(np.interp(np.arange(0, size, 2), np.arange(size), heard), -1, 1)
    law = np.round(np.sign(half) * np.log1p(255 * np.abs(half)) / np.log(256) * 127) / 127
    return (np.sign(law) * (256 ** np.abs(law) - 1) / 255).astype(np.float32)


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 3:
        print("usage: local/telephone.py SOURCE DESTINATION", file=sys.stderr)
        return 2
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        texts = DataDir(source).table("text")
        wavs = {}
        for item in list_items(source):
            random = np.random.default_rng(int.from_bytes(item.key.encode()[-4:], "big"))
            path = out / "wav" / f"{item.key}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = read_audio(item.source, target_fs=RATE).numpy()
            soundfile.write(path, telephone(wave, random), RATE // 2)
            wavs[item.key] = str(path.absolute())
        write_data_dir(out, {"wav.scp": wavs, "text": {key: texts[key] for key in wavs}})
    except (ParaformerError, OSError, KeyError) as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
