"""Recognise with a runtime's own package, in its own Python: the files of a job, texts as JSON."""

import json
import sys
import wave

import numpy as np


def samples(path):
    with wave.open(path) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return data.astype(np.float32) / 32768, file.getframerate()


def by_funasr(folder, paths, batch):
    from funasr_onnx import Paraformer

    model = Paraformer(folder, batch_size=batch, device_id="-1", intra_op_num_threads=1)
    said = [each["preds"] for each in model(paths)]  # a pair without times
    return [(s if isinstance(s, str) else s[0]).replace(" ", "") for s in said]


def by_sherpa(folder, paths, batch):
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=f"{folder}/model.onnx", tokens=f"{folder}/tokens.txt", num_threads=1
    )
    texts = []
    for first in range(0, len(paths), batch):
        streams = []
        for path in paths[first : first + batch]:
            stream = recognizer.create_stream()
            heard, rate = samples(path)
            stream.accept_waveform(rate, heard)
            streams.append(stream)
        recognizer.decode_streams(streams)
        texts += [stream.result.text.replace(" ", "") for stream in streams]
        assert all(len(s.result.timestamps) == len(s.result.tokens) for s in streams)
    return texts


if __name__ == "__main__":
    runtime, folder, size, *paths = sys.argv[1:]
    recognise = {"funasr": by_funasr, "sherpa": by_sherpa}[runtime]
    texts = recognise(folder, paths, int(size))
    sys.stdout.write(f"TEXTS {json.dumps(texts, ensure_ascii=False)}\n")
