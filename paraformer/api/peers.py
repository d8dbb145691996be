"""An export beside torch, as funasr-onnx and sherpa-onnx hear it: recordings by their own front
ends, and texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile
import torch

from paraformer.api.punctuation import list_texts
from paraformer.data.audio.read import read_audio
from paraformer.data.inputs.sources import Inputs
from paraformer.data.text.score import align, count
from paraformer.decode.voices import Voices
from paraformer.errors import CheckpointError, DataError, ParaformerError
from paraformer.export.peer_job import BLOCK_MS, blocks
from paraformer.export.peer_rules import RULES, stream_text, voice_features
from paraformer.export.peers import FUNASR, SHERPA, Compared, Heard, Peer, ask
from paraformer.hub.directories import BUNDLED
from paraformer.models.graphs import Graphs, find_graph, open_graphs
from paraformer.models.kinds import PUNCTUATION, RECOGNISER, SPEAKER, VAD, kind_of, marks_streams
from paraformer.models.release import load_directory, load_speakers, read_config

if TYPE_CHECKING:  # which imports this
    from paraformer.api.auto import AutoModel

# Of a list so many, and of each recording so much.
MOST_ITEMS, MOST_SECONDS = 100, 60
BATCH = 8
# How much later than here a token begins, and by how much both may be rounded, in ms.
LATER, ROUNDED = {FUNASR: 0, SHERPA: 30}, 1
VOICES_DIFFER = 1e-3  # in the largest value: features of sherpa-onnx differ by as much
MARKED, WIDE = 20, str.maketrans(",.?", "，。？")
HOTWORDS, HOTWORD_SIZE = 2, 2  # so many, of so many characters
EXAMPLES = {
    VAD: BUNDLED / "fsmn-vad-mini/example/vad_example.wav",
    PUNCTUATION: BUNDLED / "ct-punc-mini/example/text.txt",
}
CLIPS = BUNDLED / "paraformer-zh-mini/example/wav.scp"


class PeerTrials:
    """Recordings or texts that torch hears by a model, and runtimes by its graphs."""

    def __init__(
        self,
        source: Path,
        streaming: bool,
        dtype: str,
        listed: Path | None,
        peers: Mapping[str, Peer],
        folder: Path,
    ) -> None:
        """listed: recordings or texts, None: the examples that came with the bundled models;
        folder: a place for the recordings as files that both hear.
        """
        self.source, self.streaming, self.dtype = source, streaming, dtype
        self.peers, self.folder = peers, folder
        self.config = read_config(source, {})
        self.kind = kind_of(self.config)
        self.listed = listed or (CLIPS if self.kind is None else EXAMPLES.get(self.kind, CLIPS))

    def __call__(self, name: str, graphs: Path) -> list[Heard]:
        """Let a runtime run the graphs of a folder, where it is here; graphs that it hears
        otherwise than torch are refused.
        """
        if name not in self.peers:
            return []
        heard = list(self._compared(self.peers[name], graphs))
        for each in heard:
            each.check(exact=self.dtype == "fp32")
        return heard

    def _compared(self, peer: Peer, graphs: Path) -> Iterator[Heard]:
        if self.kind is PUNCTUATION:
            yield self._marks(peer, graphs)
        elif self.kind is VAD:
            yield from self._segments(peer, graphs)
        elif self.kind is SPEAKER:
            yield self._voices(peer, graphs)
        elif self.streaming:
            yield self._streams(peer, graphs)
        elif _graphs_of(graphs).embedder is not None:
            yield self._hotwords(peer, graphs)
        else:
            yield from self._recordings(peer, graphs, 1, "")
            if self.dtype != "int8":  # where a batch has one scale, so that each counts for all
                yield from self._recordings(peer, graphs, BATCH, f", {BATCH} at a time")

    @cached_property
    def _clips(self) -> dict[str, str]:
        """Recordings as WAV at the rate of the model, by their keys."""
        rate = int((self.config.get("frontend_conf") or {}).get("fs", 16000))
        clips = dict[str, str]()
        for item in islice(Inputs(str(self.listed)), MOST_ITEMS):
            with suppress(ParaformerError):  # a broken one, as all say that read the list
                wave = item.read(None, rate)[: MOST_SECONDS * rate]
                path = self.folder / f"{len(clips)}.wav"
                soundfile.write(path, wave.numpy(), rate, subtype="PCM_16")
                clips[item.key] = str(path)
        if not clips:
            raise DataError(f"{self.listed}: nothing that can be heard; mend the list")
        return clips

    @property
    def _paths(self) -> list[str]:
        return list(self._clips.values())

    @cached_property
    def _results(self) -> list[dict[str, Any]]:
        return self._generate(self._paths)

    @cached_property
    def _model(self) -> AutoModel:
        from paraformer.api.auto import AutoModel

        return AutoModel(str(self.source), device="cpu", disable_pbar=True)

    def _generate(self, given: Any, **keywords: Any) -> list[dict[str, Any]]:
        if self.kind is RECOGNISER:
            keywords["lm_file"] = "none"  # which no runtime reads
        return self._model.generate(given, **keywords)

    def _recordings(self, peer: Peer, graphs: Path, batch: int, title: str) -> Iterator[Heard]:
        found = ask(peer, "", graphs, str(batch), *self._paths)
        theirs = [text for text, _ in found]
        ours = [bare(result["text"]) for result in self._results]
        yield self._texts(peer, f"texts{title}", theirs, ours)
        if len(_graphs_of(graphs).main.outputs) < 4 or self.dtype != "fp32":
            return
        starts = {
            key: (begins, [start + LATER[peer.name] for start, _ in result["timestamp"]])
            for key, (text, begins), result in zip(self._clips, found, self._results, strict=True)
            if text == characters(text)  # else one counts words and the other pieces
        }
        if starts:
            begun, wanted = zip(*starts.values(), strict=True)
            yield _heard(peer, f"times{title}", starts, begun, wanted, _apart_in_starts)

    def _texts(self, peer: Peer, what: str, theirs: list[str], ours: list[str]) -> Heard:
        """English is left out where halves of words are written otherwise: one that stands alone
        in sherpa-onnx, one whose other half comes in the next chunk in streams of funasr-onnx.
        """
        if (peer.name == FUNASR) == self.streaming:
            theirs, ours = ([characters(text) for text in texts] for texts in (theirs, ours))
        return _heard(peer, what, self._clips, theirs, ours, _apart_in_text)

    def _hotwords(self, peer: Peer, graphs: Path) -> Heard:
        """Hotwords are the first characters of texts without such."""
        texts = [characters(result["text"]) for result in self._results]
        words = " ".join([text[:HOTWORD_SIZE] for text in texts if text][:HOTWORDS])
        ours = [bare(result["text"]) for result in self._generate(self._paths, hotword=words)]
        theirs = ask(peer, "_hotwords", graphs, words, *self._paths)
        return self._texts(peer, f"texts with the hotwords {words}", theirs, ours)

    def _streams(self, peer: Peer, graphs: Path) -> Heard:
        """Torch cuts chunks as the runtime does: see `peer_rules`."""
        release, rule = load_directory(self.source), RULES[peer.name]
        theirs = ask(peer, "_stream", graphs, *self._paths)
        ours = [stream_text(release, read_audio(path), rule) for path in self._paths]
        return self._texts(peer, "streams, by its chunks", theirs, ours)

    def _segments(self, peer: Peer, graphs: Path) -> Iterator[Heard]:
        """Recordings that funasr-onnx fails on are left out."""
        ours = [result["value"] for result in self._results]
        live = map(self._live_segments, self._paths)
        for what, job, found in (
            ("segments", "_vad", ours),
            ("segments of streams", "_online_vad", live),
        ):
            theirs = ask(peer, job, graphs, *self._paths)
            rows = [
                Compared(key, whole(one), whole(other), float(whole(one) != whole(other)))
                for key, one, other in zip(self._clips, theirs, found, strict=True)
                if one is not None
            ]
            yield Heard(peer, what, rows)

    def _live_segments(self, path: str) -> list[list[int]]:
        told, found = dict[str, Any](), []
        for block, rate, last in blocks(path, silence=False):
            form = {"cache": told, "is_final": last, "fs": rate, "chunk_size": BLOCK_MS}
            found += self._generate(block, **form)[0]["value"]
        return found

    def _marks(self, peer: Peer, graphs: Path) -> Heard:
        """Blanks around English words, and marks behind these, are other ones in the runtimes; and
        sherpa-onnx cuts texts of more than `MARKED` words in its own way.
        """
        texts = dict(list_texts(str(self.listed))[:MOST_ITEMS])
        if peer.name == SHERPA:
            texts = {key: text[:MARKED] for key, text in texts.items()}
        job, given, told = "_marks", list(texts.values()), dict[str, Any]()
        if marks_streams(self.config):
            job = "_realtime_marks"
            ours = [self._generate(text, cache=told)[0]["text"] for text in given]
        else:
            ours = [result["text"] for result in self._generate(given)]
        theirs = ask(peer, job, graphs, *given)
        theirs, ours = ([bare(x).translate(WIDE) for x in found] for found in (theirs, ours))
        return _heard(peer, "marks", texts, theirs, ours, _apart_in_text)

    def _voices(self, peer: Peer, graphs: Path) -> Heard:
        """Torch embeds the features of sherpa-onnx, which are others than ours."""
        voices, heard = Voices(load_speakers(self.source)), dict[str, Any]()
        feats = [voice_features(read_audio(path), voices.rate) for path in self._paths]
        for key, voice in zip(self._clips, voices.engine.embed(feats), strict=True):
            if isinstance(voice, torch.Tensor):  # none of what is too long
                heard[key] = voice.tolist()
        theirs = ask(peer, "_voices", graphs, *(self._clips[key] for key in heard))
        return _heard(peer, "voices", heard, theirs, list(heard.values()), _apart_in_voice)


def bare(text: str) -> str:
    """A text without blanks.

    >>> bare("你好 hello")
    '你好hello'
    """
    return text.replace(" ", "")


def characters(text: str) -> str:
    """A text without blanks and English.

    >>> characters("你好 hello")
    '你好'
    """
    return re.sub("[ -~]", "", text)


def whole(segments: Sequence[Sequence[int]]) -> list[list[int]]:
    """Segments of which some come as a beginning and an end, as whole ones.

    >>> whole([[0, 930], [1200, -1], [-1, 1800]])
    [[0, 930], [1200, 1800]]
    """
    found = list[list[int]]()
    for begin, end in segments:
        if begin < 0 and found:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return found


def _graphs_of(folder: Path) -> Graphs:
    """The graphs that an export has written."""
    path = find_graph(folder)
    assert path is not None
    return open_graphs(path)


Apart = Callable[[Any, Any], float]


def _heard(
    peer: Peer,
    what: str,
    keys: Iterable[str],
    theirs: Sequence[Any],
    ours: Sequence[Any],
    apart: Apart,
) -> Heard:
    """Compare what a runtime finds with what torch does; apart: how far two results are, 0 to 1, 0
    for those that count as the same.
    """
    if len(theirs) != len(ours):  # those whose run failed
        reason = f"{what}: gives {len(theirs)} results of {len(ours)}; nothing is written"
        raise CheckpointError(f"{peer.name}: {reason}")
    rows = zip(keys, theirs, ours, strict=True)
    return Heard(peer, what, [Compared(*row, apart(*row[1:])) for row in rows])


def _apart_in_text(theirs: str, ours: str) -> float:
    """
    >>> _apart_in_text("今天好", "今天很好")
    0.25
    """
    return count(align(ours, theirs)).errors / max(1, len(ours), len(theirs))


def _apart_in_starts(theirs: Sequence[int], ours: Sequence[int]) -> float:
    """Starts in ms; funasr-onnx has some before the beginning, and of two tokens that fire in one
    step we move the second one on.
    """
    if len(theirs) != len(ours):
        return 1.0
    pairs = zip(theirs, ours, strict=True)
    others = [abs(max(one, 0) - max(other, 0)) > ROUNDED for one, other in pairs]
    return sum(others) / max(1, len(others))


def _apart_in_voice(theirs: Sequence[float], ours: Sequence[float]) -> float:
    one, other = torch.tensor(theirs), torch.tensor(ours)
    if float((one - other).abs().max()) <= VOICES_DIFFER * float(other.abs().max()):
        return 0.0
    return float(1.0 - torch.cosine_similarity(one, other, dim=0).clamp(0.0, 1.0))
