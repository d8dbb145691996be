"""A recogniser as a service uses it: whole recordings of many clients in one go, and live streams,
by any wishes of theirs; all of it shares one model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor

from paraformer.api.auto import AutoModel
from paraformer.api.live import FINAL, STEP_MS, Event, LivePipeline, LiveState
from paraformer.api.tasks import SpeechTask
from paraformer.data.inputs.sources import Item
from paraformer.decode.hotwords import held_hotwords, is_given
from paraformer.decode.itn import rewrite_result, shared_numerals
from paraformer.decode.streaming import Chunking
from paraformer.decode.text import join_texts
from paraformer.decode.timestamps import cut_sentences, spoken_words
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.models.kinds import hears_streams
from paraformer.options import CallOptions
from paraformer.output.result import Fields, shown_text
from paraformer.output.timed_formats import format_timed

# Pipelines of different wishes that are kept, and ways to cut a stream that clients may choose.
KEPT_PIPELINES, MOST_CUTS = 32, 8
# Of a stream that a VAD cuts so much is heard at a time: half the work of steps of 60 ms.
DUE_MS = 180
LONGEST_CUT = 60  # frames of 60 ms that a client may ask for
Part = TypeVar("Part")


class Wishes(NamedTuple):
    """The options of `generate` that are left to a client."""

    hotwords: tuple[str, ...] = ()
    itn: bool = False
    plain: bool = False  # of a stream: the words of the streaming model alone, never written anew
    chunk_size: tuple[int, int, int] | None = None  # None: the server's own
    speakers: bool = False  # of a recording: who says each sentence and word


class Answer(NamedTuple):
    """The words of a recording or a segment; times are in ms."""

    text: str  # as it is shown
    words: Sequence[Fields] = ()  # text, start, end, confidence
    sentences: Sequence[Fields] = ()  # text, start, end, timestamp; spk, a number, where asked for
    seconds: float = 0.0  # of a recording
    error: ParaformerError | None = None

    def subtitles(self, output_format: str) -> str:
        """The content of a file of subtitles: srt, vtt."""
        found = {"text": self.text, "words": self.words, "audio_seconds": self.seconds}
        return format_timed(found, output_format)


class News(NamedTuple):
    """Something that has happened in a stream: the kinds of `Event`, whose times it has.

    answer: of a partial event, only the text of the segment, as far as no later word changes it.
    """

    kind: str
    start_ms: int
    end_ms: int
    answer: Answer


@dataclass
class Fed:
    """The next samples of a stream that stands at `state`, and what came of them."""

    wishes: Wishes
    state: LiveState | None  # None: it has not begun
    samples: Tensor  # (N,)
    final: bool
    news: list[News] = field(default_factory=list)
    error: ParaformerError | None = None
    lacks: int = 0  # samples that it is worth waiting for before the next are fed; 0: unknown


class _Polite:
    """An engine that lets others go first before each of its steps."""

    STEPS = ("listen", "hear", "marks", "embed")

    def __init__(self, engine: Any, before: Callable[[], None]) -> None:
        self._engine, self._before = engine, before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return partial(self._step, found) if name in self.STEPS else found

    def _step(self, work: Callable[..., Any], *given: Any) -> Any:
        self._before()
        return work(*given)


def _polite(part: Part, before: Callable[[], None]) -> Part:
    """A twin of a part with an engine, which calls `before` ahead of each batch."""
    twin = copy(part)
    vars(twin)["engine"] = _Polite(vars(part)["engine"], before)
    return twin


class ServedModel:
    """One `AutoModel` for all clients. Its streams may be fed in one thread while another decodes
    recordings, which calls `before` ahead of each of its batches.
    """

    def __init__(self, model: AutoModel, before: Callable[[], None] = lambda: None) -> None:
        if not isinstance(model.task, SpeechTask):
            raise ConfigError(f"{model.directory}: does not recognise speech; give another model")
        task = model.task
        self.name = model.directory.name
        self.rate = int(task.release.frontend.fs)
        self.defaults = CallOptions(**model.defaults)
        own = held_hotwords(self.defaults.hotword)  # a file is read once
        self._hotwords = [*cast(Iterable[Any], own)] if is_given(own) else []
        # A chunk_size of the server says how streams are cut, not that recordings are such.
        streaming = hears_streams(task.release.config)
        self._whole = _whole_task(task, streaming, before)
        # A model of both kinds writes the final text of what it has heard as a stream.
        second = task.second or (None if streaming else task.recognizer)
        self._live = SpeechTask(task.recognizer, True, task.vad, task.punctuator, second)
        self._pipelines: OrderedDict[Wishes, LivePipeline] = OrderedDict()
        self._cuts: set[tuple[int, int, int]] = set()
        tokens = task.recognizer.release.tokenizer.tokens
        self.languages = frozenset(_languages(tokens))
        self.deaf = self._why_deaf()  # why it hears no streams; empty if it does
        self.writes_digits = _writes_digits()
        self.tells_speakers = task.voices is not None
        self.turns = _turns(task, self.defaults)  # how the VAD ends segments; None without one

    def _why_deaf(self) -> str:
        try:
            self.pipeline(Wishes())
        except ConfigError as error:
            return str(error)
        return ""

    def recognise(self, waves: Sequence[Tensor], wishes: Wishes) -> list[Answer]:
        """The answer to each recording (N,), in their order."""
        times: dict[str, Any] = {"sentence_timestamp": True, "pred_timestamp": True}
        told = wishes.speakers and self.tells_speakers
        call = self._call(wishes, fs=self.rate, return_spk_res=told, **times)
        items = [Item(str(number), wave) for number, wave in enumerate(waves)]
        results = self._whole.results(iter(items), len(items), call, False)
        return [_answer(result.to_dict(), result.seconds) for result in results]

    def allowed(self, wishes: Wishes) -> Wishes:
        """The wishes as far as they can be met: streams are cut in few ways, and only a second pass
        hears hotwords in them.
        """
        cut = wishes.chunk_size
        if cut is not None and cut not in self._cuts:
            fits = max(cut) <= LONGEST_CUT and len(self._cuts) < MOST_CUTS
            try:
                Chunking(cut)
            except ConfigError:
                fits = False
            if fits:
                self._cuts.add(cut)
            else:
                cut = None
        deaf = wishes.plain or self._live.second is None
        hotwords = () if deaf else wishes.hotwords
        return wishes._replace(hotwords=hotwords, chunk_size=cut)

    def pipeline(self, wishes: Wishes) -> LivePipeline:
        """The models of live recognition by these wishes but for digits, which `feed` writes."""
        if wishes not in self._pipelines:
            found = self._live.live(self._call(wishes))
            if wishes.plain:
                found = LivePipeline(found.recognizer)
            self._pipelines[wishes] = found
            if len(self._pipelines) > KEPT_PIPELINES:
                self._pipelines.popitem(last=False)
        self._pipelines.move_to_end(wishes)
        return self._pipelines[wishes]

    def feed(self, streams: Sequence[Fed]) -> None:
        """Feed streams, those of equal wishes in one batch. One that fails stands where it was."""
        groups: dict[Wishes, list[Fed]] = {}
        for each in streams:
            groups.setdefault(each.wishes._replace(itn=False), []).append(each)
        for wishes, group in groups.items():
            try:
                self._feed(self.pipeline(wishes), group)
            except ParaformerError as error:  # such as of a hotword that is none
                for each in group:
                    each.error = error

    def _feed(self, pipeline: LivePipeline, group: Sequence[Fed]) -> None:
        outcomes, states = pipeline.feed_all(
            [each.state or pipeline.open() for each in group],
            [each.samples for each in group],
            [each.final for each in group],
        )
        for each, outcome, state in zip(group, outcomes, states, strict=True):
            each.state, each.lacks = state, _lacks(pipeline, state)
            if isinstance(outcome, ParaformerError):
                each.error = outcome
            else:
                each.news += [self._news(event, each.wishes.itn) for event in outcome]

    def _news(self, event: Event, itn: bool) -> News:
        if event.kind != FINAL:
            return News(event.kind, event.start_ms, event.end_ms, Answer(event.settled))
        times = [[token.start_ms, token.end_ms] for token in event.tokens]
        confidences = [token.confidence for token in event.tokens]
        texts = [token.text for token in event.tokens]
        words = spoken_words(texts, times, confidences, self._live.sentencepiece)
        found: Fields = {
            "text": event.text,
            "words": [{**w._asdict(), "confidence": round(w.confidence, 4)} for w in words],
            "timestamp": [[word.start, word.end] for word in words],
        }
        if itn:
            found = dict(rewrite_result(found, shared_numerals()))
        sentences = _sentences(found["text"], found["words"])
        answer = Answer(found["text"], found["words"], sentences)
        return News(event.kind, event.start_ms, event.end_ms, answer)

    def _call(self, wishes: Wishes, **more: Any) -> CallOptions:
        """Options of `generate`: the server's, with what a client wishes."""
        hotwords = [*self._hotwords, *wishes.hotwords]
        wished: dict[str, Any] = {**more, "itn": wishes.itn, "hotword": hotwords}
        if wishes.chunk_size is not None:
            wished["chunk_size"] = list(wishes.chunk_size)
        return replace(self.defaults, **wished)


def _lacks(pipeline: LivePipeline, state: LiveState) -> int:
    """Samples until the next chunk of a stream is whole, in the steps in which it is worked on;
    where a detector may end its segment before, no more than `DUE_MS`.
    """
    due, step = (pipeline.rate * ms // 1000 for ms in (DUE_MS, STEP_MS))
    if state.segment is None:
        return due
    rest = len(state.segment.marks[-1].stream.samples)
    lacks = -(-(pipeline.recognizer.stride - rest) // step) * step - len(state.waiting)
    return min(lacks, due) if pipeline.reach_ms else lacks


def _whole_task(task: SpeechTask, streaming: bool, before: Callable[[], None]) -> SpeechTask:
    """The task of whole recordings: by the second pass, where there is one."""
    recognizer = _polite(task.second or task.recognizer, before)
    vad = task.vad and _polite(task.vad, before)
    punctuator = task.punctuator and _polite(task.punctuator, before)
    voices = task.voices and _polite(task.voices, before)
    live = streaming and task.second is None
    return SpeechTask(recognizer, live, vad, punctuator, None, voices, task.spk_mode)


def _answer(result: Fields, seconds: float) -> Answer:
    if "error" in result:
        return Answer("", error=DataError(str(result["error"])))
    sentences = result.get("sentence_info", ())
    return Answer(shown_text(result), result.get("words", ()), sentences, seconds)


def _sentences(text: str, words: Sequence[Fields]) -> list[Fields]:
    """The sentences of a segment, with the times of their words; of a text that has not the words,
    one, from the first to the last.
    """
    times = [[word["start"], word["end"]] for word in words]
    try:
        found = cut_sentences(text, [word["text"] for word in words], times)
    except DataError:
        start, end = (times[0][0], times[-1][1]) if times else (0, 0)
        return [{"text": text, "start": start, "end": end, "timestamp": times}]
    return [sentence._asdict() for sentence in found]


def joined(answers: Sequence[Answer]) -> str:
    """The texts of segments as one."""
    return join_texts(answer.text for answer in answers)


def _turns(task: SpeechTask, call: CallOptions) -> dict[str, float] | None:
    if task.vad is None:
        return None
    own, silence, threshold = task.vad.options, call.max_end_silence_time, call.speech_noise_thres
    return {
        "threshold": own.speech_noise_thres if threshold is None else threshold,
        "prefix_padding_ms": own.lookback_time_start_point,
        "silence_duration_ms": own.max_end_silence_time if silence is None else silence,
    }


def _writes_digits() -> bool:
    """Whether the package is there that `itn` needs."""
    try:
        shared_numerals()
    except ConfigError:
        return False
    return True


def _languages(tokens: Sequence[str]) -> Iterator[str]:
    """The languages whose characters or words are among a model's tokens."""
    if any("\u4e00" <= sign <= "\u9fff" for token in tokens for sign in token):
        yield "zh"
    parts = {token.strip("▁@").lower() for token in tokens}
    if {"the", "and"} & parts or sum(part.isascii() and part.isalpha() for part in parts) > 200:
        yield "en"
