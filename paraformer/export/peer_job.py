"""A program that recognises with a runtime's own package, in a Python that has it: it reads a list
of JSON, the name of a job and its arguments, and writes what the runtime finds as a line of JSON.

It imports nothing of ours, which that Python need not have.
"""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_MS = 600  # that a stream is fed at a time: ten rows
Samples = np.ndarray[Any, Any]


def samples(path: str) -> tuple[Samples, int]:
    """The samples of a WAV of 16 bits, in [-1, 1), and their rate."""
    with wave.open(path) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return data.astype(np.float32) / 32768, file.getframerate()


def blocks(path: str, silence: bool = True) -> Iterator[tuple[Samples, int, bool]]:
    """A recording block by block, with each its rate, and whether it is the last: that is none that
    is short, which funasr-onnx leaves out. silence: more than a block of it behind, without which
    sherpa-onnx leaves the last token out; else the last one is the longest.
    """
    heard, rate = samples(path)
    size = rate * BLOCK_MS // 1000
    if silence:
        heard = np.pad(heard, (0, 2 * size - len(heard) % size))
    for first in range(0, max(1, len(heard) // size) * size, size):
        last = first + 2 * size > len(heard)
        yield heard[first : None if last else first + size], rate, last


def plain(said: Any) -> str:
    """The text of a result of funasr-onnx, which is a pair without times."""
    return str(said if isinstance(said, str) else said[0]).replace(" ", "")


def given(folder: str) -> dict[str, Any]:
    """How all classes of funasr-onnx are made."""
    in_int8 = Path(folder, "model_quant.onnx").is_file()
    return {
        "model_dir": folder,
        "quantize": in_int8,
        "device_id": "-1",
        "intra_op_num_threads": 1,
    }


def funasr(folder: str, batch: str, *paths: str) -> list[Any]:
    """Of each file the text, and when its words begin, in ms."""
    from funasr_onnx import Paraformer

    heard = Paraformer(**given(folder), batch_size=int(batch))(list(paths))
    return [[plain(x["preds"]), [start for start, _ in x.get("timestamp") or []]] for x in heard]


def funasr_hotwords(folder: str, hotwords: str, *paths: str) -> list[Any]:
    """Of each file the text, hotwords heard."""
    from funasr_onnx import SeacoParaformer

    model = SeacoParaformer(**given(folder), batch_size=1)
    return [plain(model([path], hotwords)[0]["preds"]) for path in paths]


def funasr_stream(folder: str, *paths: str) -> list[Any]:
    """Of each file the text, heard block by block."""
    from funasr_onnx.paraformer_online_bin import Paraformer

    model, texts = Paraformer(**given(folder), chunk_size=[5, 10, 5]), []
    for path in paths:
        told: dict[str, Any] = {"cache": {}}
        text = ""
        for block, _, told["is_final"] in blocks(path):
            found = model(audio_in=block, param_dict=told)
            text += "".join(plain(each["preds"]) for each in found)
        texts.append(text)
    return texts


def funasr_vad(folder: str, *paths: str) -> list[Any]:
    """Of each file the segments, in ms; None where it takes the logarithm of no speech at all."""
    from funasr_onnx import Fsmn_vad

    model, found = Fsmn_vad(**given(folder)), list[Any]()
    for path in paths:
        found.append(None)
        with suppress(ValueError):
            found[-1] = model(path)[0]
    return found


def funasr_online_vad(folder: str, *paths: str) -> list[Any]:
    """The same, heard block by block: [begin, -1], then [-1, end]."""
    from funasr_onnx import Fsmn_vad_online

    model, found = Fsmn_vad_online(**given(folder)), list[Any]()
    for path in paths:
        told: dict[str, Any] = {"in_cache": []}
        found.append(None)
        with suppress(ValueError):
            segments = []
            for block, _, told["is_final"] in blocks(path, silence=False):
                segments += [each for part in model(block, param_dict=told) for each in part]
            found[-1] = segments
    return found


def funasr_marks(folder: str, *texts: str) -> list[Any]:
    """The texts with marks."""
    from funasr_onnx import CT_Transformer

    model = CT_Transformer(**given(folder))
    return [model(text)[0] for text in texts]


def funasr_realtime_marks(folder: str, *pieces: str) -> list[Any]:
    """The pieces of one text with marks, one after another."""
    from funasr_onnx import CT_Transformer_VadRealtime

    model = CT_Transformer_VadRealtime(**given(folder))
    told: dict[str, Any] = {"cache": []}
    return [model(piece, param_dict=told)[0] for piece in pieces]


def sherpa(folder: str, batch: str, *paths: str) -> list[Any]:
    """Of each file the text, and when its tokens begin, in ms."""
    import sherpa_onnx

    recordings = [samples(path) for path in paths]
    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=graph(folder, "model"),
        tokens=f"{folder}/tokens.txt",
        num_threads=1,
        sample_rate=recordings[0][1],
    )
    found = []
    for first in range(0, len(paths), int(batch)):
        streams = []
        for heard, rate in recordings[first : first + int(batch)]:
            streams.append(recognizer.create_stream())
            streams[-1].accept_waveform(rate, heard)
        recognizer.decode_streams(streams)
        for result in (stream.result for stream in streams):
            starts = [round(1000 * start) for start in result.timestamps]
            found.append([result.text.replace(" ", ""), starts])
    return found


def sherpa_stream(folder: str, *paths: str) -> list[Any]:
    """Of each file the text, heard block by block."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OnlineRecognizer.from_paraformer(
        tokens=f"{folder}/tokens.txt",
        encoder=graph(folder, "model"),
        decoder=graph(folder, "decoder"),
        num_threads=1,
        sample_rate=samples(paths[0])[1],
    )
    texts = []
    for path in paths:
        stream = recognizer.create_stream()
        for block, rate, _ in blocks(path):
            stream.accept_waveform(rate, block)
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
        texts.append(recognizer.get_result(stream).replace(" ", ""))
    return texts


def sherpa_marks(folder: str, *texts: str) -> list[Any]:
    """The texts with marks."""
    import sherpa_onnx

    model = sherpa_onnx.OfflinePunctuationModelConfig(ct_transformer=graph(folder, "model"))
    marker = sherpa_onnx.OfflinePunctuation(sherpa_onnx.OfflinePunctuationConfig(model=model))
    return [marker.add_punctuation(text) for text in texts]


def sherpa_voices(folder: str, *paths: str) -> list[Any]:
    """The embedding of the voice in each file."""
    import sherpa_onnx

    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=graph(folder, "model"))
    extractor, voices = sherpa_onnx.SpeakerEmbeddingExtractor(config), []
    for path in paths:
        stream = extractor.create_stream()
        heard, rate = samples(path)
        stream.accept_waveform(rate, heard)
        stream.input_finished()
        voices.append(list(extractor.compute(stream)))
    return voices


def graph(folder: str, name: str) -> str:
    """The file of a graph, in full or in 8 bits."""
    (path,) = (path for path in Path(folder).glob(f"{name}*.onnx") if "_eb" not in path.stem)
    return str(path)


if __name__ == "__main__":
    job, *words = json.load(sys.stdin)
    sys.stdout.write(f"FOUND {json.dumps(globals()[job](*words))}\n")
