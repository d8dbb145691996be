"""Recognise with a runtime's own package, in its own Python: a job and its arguments, what it finds
as JSON.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np

BLOCK = 9600  # samples of 600 ms, ten rows of a stream


def samples(path):
    with wave.open(path) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return data.astype(np.float32) / 32768, file.getframerate()


def plain(said):
    """The text of a result, which is a pair without times."""
    return (said if isinstance(said, str) else said[0]).replace(" ", "")


def funasr(folder, batch, *paths):
    """Of each file the text, and when its words begin, in ms."""
    from funasr_onnx import Paraformer

    model = Paraformer(folder, batch_size=int(batch), device_id="-1", intra_op_num_threads=1)
    heard = model(list(paths))
    return [[plain(x["preds"]), [start for start, _ in x.get("timestamp") or []]] for x in heard]


def funasr_hotwords(folder, hotwords, *paths):
    from funasr_onnx import SeacoParaformer

    model = SeacoParaformer(folder, batch_size=1, device_id="-1", intra_op_num_threads=1)
    return [plain(model([path], hotwords)[0]["preds"]) for path in paths]


def funasr_stream(folder, *paths):
    from funasr_onnx.paraformer_online_bin import Paraformer

    model = Paraformer(folder, chunk_size=[5, 10, 5], device_id="-1", intra_op_num_threads=1)
    texts = []
    for path in paths:
        heard, _ = samples(path)
        told, text = {"cache": {}, "is_final": False}, ""
        for first in range(0, len(heard), BLOCK):
            told["is_final"] = first + BLOCK >= len(heard)
            found = model(audio_in=heard[first : first + BLOCK], param_dict=told)
            text += "".join(plain(each["preds"]) for each in found)
        texts.append(text)
    return texts


def funasr_vad(folder, *paths):
    from funasr_onnx import Fsmn_vad

    model = Fsmn_vad(folder, device_id="-1", intra_op_num_threads=1)
    return [model(path)[0] for path in paths]


def funasr_marks(folder, *texts):
    from funasr_onnx import CT_Transformer

    model = CT_Transformer(folder, device_id="-1", intra_op_num_threads=1)
    return [model(text)[0] for text in texts]


def funasr_realtime_marks(folder, *pieces):
    from funasr_onnx import CT_Transformer_VadRealtime

    model = CT_Transformer_VadRealtime(folder, device_id="-1", intra_op_num_threads=1)
    told = {"cache": []}
    return [model(piece, param_dict=told)[0] for piece in pieces]


def sherpa(folder, batch, *paths):
    """Of each file the text, and when its tokens begin, in ms."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=graph(folder, "model"), tokens=f"{folder}/tokens.txt", num_threads=1
    )
    heard_all = []
    for first in range(0, len(paths), int(batch)):
        streams = []
        for path in paths[first : first + int(batch)]:
            stream = recognizer.create_stream()
            heard, rate = samples(path)
            stream.accept_waveform(rate, heard)
            streams.append(stream)
        recognizer.decode_streams(streams)
        for result in (stream.result for stream in streams):
            starts = [round(1000 * start) for start in result.timestamps]
            assert len(starts) == len(result.tokens)
            heard_all.append([result.text.replace(" ", ""), starts])
    return heard_all


def sherpa_stream(folder, *paths):
    import sherpa_onnx

    recognizer = sherpa_onnx.OnlineRecognizer.from_paraformer(
        tokens=f"{folder}/tokens.txt",
        encoder=graph(folder, "model"),
        decoder=graph(folder, "decoder"),
        num_threads=1,
    )
    texts = []
    for path in paths:
        stream = recognizer.create_stream()
        heard, rate = samples(path)
        for first in range(0, len(heard), BLOCK):
            stream.accept_waveform(rate, heard[first : first + BLOCK])
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
        texts.append(recognizer.get_result(stream).replace(" ", ""))
    return texts


def sherpa_voices(folder, *paths):
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


def graph(folder, name):
    """A file of a graph, in full or in 8 bits."""
    (path,) = Path(folder).glob(f"{name}*.onnx")
    return str(path)


if __name__ == "__main__":
    job, *given = sys.argv[1:]
    sys.stdout.write(f"FOUND {json.dumps(globals()[job](*given), ensure_ascii=False)}\n")
