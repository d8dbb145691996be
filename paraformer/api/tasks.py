"""Tasks: each turns items into results, in their order, by one kind of model."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from paraformer.api.diarization import BY_CHANNEL
from paraformer.api.enrolment import Enrolment
from paraformer.api.live import DEAF, FINAL, Event, LivePipeline
from paraformer.api.live_speakers import LiveVoices
from paraformer.api.streaming import Manner, OnlineModel, manner_of, stream_fields
from paraformer.api.tellers import Teller
from paraformer.data.audio.soundfiles import header_samples
from paraformer.data.inputs.audio_items import check_piece
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Inputs, Item, ListedItems, list_items
from paraformer.data.text.tokenizer import SentencepieceTokenizer
from paraformer.decode.hotwords import HotwordMemo
from paraformer.decode.itn import shared_numerals
from paraformer.decode.language_model import NO_MODEL, shared_language_model
from paraformer.decode.longform import (
    Counted,
    Cutting,
    LongRecognizer,
    PauseSegmenter,
    Segmenter,
    read_sources,
)
from paraformer.decode.pool import Batching
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Recognizer, Search
from paraformer.decode.streaming import Chunking, Streamer
from paraformer.decode.text import join_texts
from paraformer.decode.vad import VoiceActivity
from paraformer.decode.voices import Voices
from paraformer.errors import ConfigError, ParaformerError
from paraformer.models.release import Release
from paraformer.options import CallOptions
from paraformer.output.result import (
    Fields,
    Result,
    in_digits,
    outcome_result,
    recording_result,
    sentence_info,
    shown_text,
    silence,
    stream_result,
)
from paraformer.output.resume import Made
from paraformer.output.sink import Output, Results
from paraformer.output.subtitle_lines import tidy
from paraformer.output.tables import SPEECH, TIMED_SPEECH, Layout, check_format
from paraformer.output.timed_formats import is_timed

log = logging.getLogger(__name__)

# Of no more recordings than these the headers are read first, to know how long the work will be.
MEASURED = 100

# Items, and how many there are, become their results.
Work = Callable[[Iterator[Item], int], Iterator[Result]]


class Task(ABC):
    """One kind of model at work; `device` is where it computes, `release` what was loaded."""

    device: torch.device
    release: Release[Any]

    def stream(
        self, source: Any, call: CallOptions, cut: bool, made: Made | None = None
    ) -> Results:
        """Results of an input of `generate`; cut: the call says how a stream is to be cut; made:
        what results are made with, which their folder tells.
        """
        check_format(call.output_format)
        inputs, layout = self.inputs(source, call), self.layout(call, cut)
        return stream_items(inputs, call, layout, partial(self.results, call=call, cut=cut), made)

    def inputs(self, source: Any, call: CallOptions) -> Inputs | ListedItems:
        """The items of an input of `generate`."""
        return Inputs(source, call.key, call.segments, call.channel)

    @abstractmethod
    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """How its results lie in `output_dir`; what the call cannot have is refused here."""

    @abstractmethod
    def silence(self, call: CallOptions, cut: bool) -> Result:
        """The result of an input in which there is nothing."""

    @abstractmethod
    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """A result for each item, in their order."""

    def streams(self, cut: bool) -> bool:
        """Whether `cache` makes the input of a call the next piece of a stream; else it has no
        effect.
        """
        return cut

    @abstractmethod
    def feed(self, source: Any, call: CallOptions) -> Result:
        """The result that the next piece of a stream adds; the stream stands in `call.cache`."""


def stream_items(
    inputs: Inputs | ListedItems, call: CallOptions, layout: Layout, work: Work, made: Made | None
) -> Results:
    """Results of the inputs that are to be done."""
    inputs = inputs.of(call.part)
    output = Output(call, inputs.total, layout, inputs.origins, made)
    return output.stream(work(output.pending(inputs.keyed()), output.left))


def speech_layout(timed: bool, live: bool) -> Layout:
    """The tables of recognised speech; timed: words have times, which streams do not write."""
    return TIMED_SPEECH if timed and not live else SPEECH


class SpeechTask(Task):
    """Recognition: whole, in segments of a VAD, or as a stream; with marks if there is a model."""

    def __init__(
        self,
        recognizer: Recognizer,
        streaming: bool,
        vad: VoiceActivity | None = None,
        punctuator: Punctuator | None = None,
        second: Recognizer | None = None,
        voices: Voices | None = None,
        spk_mode: str = "",
    ) -> None:
        """second: of streams, writes the text of what has ended anew. voices: tells who speaks, in
        sentences as `spk_mode` says.
        """
        self.voices, self.spk_mode = voices, spk_mode
        self.enrolment = None if voices is None else Enrolment(voices, vad)
        self.recognizer, self.streaming = recognizer, streaming
        self.device, self.release = recognizer.device, recognizer.release
        self.vad, self.punctuator, self.second = vad, punctuator, second
        self.online = OnlineModel(recognizer.release, recognizer.device, recognizer.dtype)
        # That of whole recordings where there are two.
        hearing = (second or recognizer).engine
        self.hotwords = HotwordMemo(hearing)
        self.sentencepiece = isinstance(hearing.release.tokenizer, SentencepieceTokenizer)

    def hearing_whole(self) -> SpeechTask:
        """The same for recordings as a whole, whatever the model."""
        found = copy(self)
        found.streaming = False
        return found

    def streams(self, cut: bool) -> bool:
        """See `Task`."""
        return cut or self.streaming

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        live = self.streams(cut)
        own = speech_layout(self._times(self._search(call, live)), live)
        return own._replace(joined=self.spk_mode == BY_CHANNEL)

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        if self.streams(cut):
            nothing = silence()
        else:
            nothing = silence(self._times(self._search(call)), self.vad is not None)
        nothing.sentence_info = [] if call.sentence_timestamp else None
        return nothing

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`."""
        live = self.streams(cut)
        search = self._search(call, live)
        parts = (self.voices, self.enrolment, self.vad is not None, self.spk_mode)
        teller = Teller(call, total, *parts)
        batching = Batching(call.batch_size, call.batch_size_s)
        if call.sentence_timestamp and not live and not self._times(search):
            log.warning(
                "sentence_timestamp: this model gives words no times, so sentences are those of the"
                " VAD, or all of a recording; pred_timestamp=True asks for times"
            )
        if live and (self.vad or self.second):
            results = self._live_streams(items, total, call)
        elif live:
            results = self._streams(items, total, call)
        elif self.vad is not None or teller.given is not None:
            results = self._recordings(items, total, call, search, batching, teller)
        else:
            results = self._utterances(items, total, call, search, batching)
        return self._marked(results, call, None if live else teller)

    def _search(self, call: CallOptions, live: bool = False) -> Search:
        """The search that the call asks for; its hotwords are ready before any audio is read."""
        made = ("hotwords", "lm")
        given = {f.name: getattr(call, f.name) for f in fields(Search) if f.name not in made}
        given["pred_timestamp"] |= is_timed(call.output_format)
        if live and (call.nbest > 1 or call.decoding_ctc_weight > 0):
            name = "nbest" if call.nbest > 1 else "decoding_ctc_weight"
            raise ConfigError(f"{name}: streams have one reading, the likeliest; leave it out")
        if live and call.rttm:
            raise ConfigError("rttm: is for recordings as a whole, not for streams; leave it")
        listening = self.hotwords.listening(call.hotword)
        if listening is not None and live and self.second is None:
            raise ConfigError(DEAF)
        given["lm"] = self._manner(call).lm if live else None
        if not live or self.second is not None:
            config = (self.second or self.recognizer).release.config
            given["lm"] = shared_language_model(call.lm_file, config)
        return Search(**given, hotwords=listening)

    def _manner(self, call: CallOptions) -> Manner:
        """How the call wants streams to be heard; a file that it names is of the second pass."""
        named = call.lm_file if self.second is None or call.lm_file == NO_MODEL else ""
        config = self.recognizer.release.config
        return manner_of(config, chunking(call), named, call.lm_weight)

    def _marked(
        self, results: Iterator[Result], call: CallOptions, teller: Teller | None
    ) -> Iterator[Result]:
        """Results with their marks, digits and speakers."""
        numerals = shared_numerals() if call.itn else None
        for result in results:
            marked = self.punctuator is not None and result.error is None
            if marked:
                try:
                    self._punctuate(result, call)
                except ParaformerError as error:
                    marked, result.error = False, f"punc_model: {error}"
            if numerals is not None and result.error is None:
                result = in_digits(result, numerals)
            if call.sentence_timestamp:
                result.sentence_info = sentence_info(
                    result, marked, call.en_post_proc, call.return_raw_text
                )
            if teller is not None and teller.tells and result.error is None:
                teller.tell(result, marked)
            yield result

    def _punctuate(self, result: Result, call: CallOptions) -> None:
        assert self.punctuator is not None and result.text is not None
        raw = result.text
        words = " ".join(word["text"] for word in result.words or ())
        if raw == words:  # so the model sees each word by itself, as the reference's does
            text = tidy(self.punctuator.punctuate(words).text) if words else ""
        else:
            shown = shown_text(result.to_dict())
            text = self.punctuator.punctuate(shown).text if raw.strip() else ""
        result.text = text
        result.rows = [{**result.rows[0], "text": text, "tight": text}]
        if call.return_raw_text:
            result.raw_text = raw

    def _utterances(
        self,
        items: Iterator[Item],
        total: int,
        call: CallOptions,
        search: Search,
        batching: Batching,
    ) -> Iterator[Result]:
        frontend, timed = self.recognizer.release.frontend, self._times(search)
        cutting = Cutting(call.max_segment_s, max_whole_s=call.max_whole_s)
        long = LongRecognizer(self.recognizer, PauseSegmenter(frontend.fs, cutting))
        sources = read_sources(items, cutting, frontend, call.fs, search.nbest)
        for item, found in progress(long.stream(sources, search, batching), total, call):
            if found.whole:
                outcome = found.error or found.segments[0].outcome
                yield outcome_result(item, outcome, found.seconds, search.nbest, timed)
            else:
                yield recording_result(item, found, timed)

    def _times(self, search: Search) -> bool:
        """Whether results have times."""
        return search.pred_timestamp or self.recognizer.times_tokens

    def _recordings(
        self,
        items: Iterator[Item],
        total: int,
        call: CallOptions,
        search: Search,
        batching: Batching,
        teller: Teller,
    ) -> Iterator[Result]:
        if search.nbest > 1:
            raise ConfigError("nbest: is for single utterances; leave out vad_model, or nbest")
        cutting = Cutting(call.max_segment_s, call.merge_vad, call.merge_length_s)
        rate = self.recognizer.release.frontend.fs
        segmenter: Segmenter | PauseSegmenter = PauseSegmenter(rate, cutting)
        if self.vad is not None:
            segmenter = teller.segmenter(Segmenter(adjusted(self.vad, call), cutting))
        whole: Iterable[Item] = items
        seconds = None
        if total <= MEASURED:
            whole = list(items)
            seconds = _seconds(whole, rate)
        with tqdm(total=seconds, unit="s", disable=call.disable_pbar or None, leave=False) as bar:
            audio = ((item, blocks_of(item, call.fs, rate, bar)) for item in whole)
            sources = ((item, teller.source(item, blocks)) for item, blocks in audio)
            long = LongRecognizer(self.recognizer, segmenter)
            for item, recording in long.stream(sources, search, batching):
                yield recording_result(item, recording, self._times(search))

    def _streams(self, items: Iterator[Item], total: int, call: CallOptions) -> Iterator[Result]:
        outcomes = self.online.transcribe(items, call.fs, self._manner(call))
        for item, found, seconds in progress(outcomes, total, call):
            if isinstance(found, ParaformerError):
                yield silence().failed(item, found)
            else:
                yield stream_result(item, found, seconds, self.sentencepiece)

    def _live_streams(
        self, items: Iterator[Item], total: int, call: CallOptions
    ) -> Iterator[Result]:
        """Recordings by the live pipeline; marks come when a recording is whole."""
        pipeline = self.live(call, whole=True)
        for item in progress(items, total, call):
            audio = Counted(blocks_of(item, call.fs, pipeline.rate, None))
            try:
                ended = [e for e in pipeline.session().events(audio) if e.kind == FINAL]
            except ParaformerError as error:
                yield silence().failed(item, error, audio.samples / pipeline.rate)
                continue
            tokens = [token for event in ended for token in event.tokens]
            found = stream_fields(join_texts(event.text for event in ended), tokens)
            seconds = audio.samples / pipeline.rate
            result = stream_result(item, found, seconds, self.sentencepiece)
            result.segments = _ended_segments(ended)
            yield result

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`."""
        self._search(call, live=True)
        item = one_item(source, call)
        end = ends(item, call)
        if self.vad or self.punctuator or self.second:
            return self._feed_live(item, call, end)
        no_digits(call)
        found = self.online.feed(item, call.fs, self._manner(call), call.cache, end)
        return Result(item.key, **found)

    def _feed_live(self, item: Item, call: CallOptions, end: bool) -> Result:
        """The segments that a piece ends, with their marks, and what is said of the next one."""
        pipeline = self.live(call)
        rate = pipeline.rate
        check_piece(item, call.fs, rate)
        state = call.cache.get("live") or pipeline.open()
        events, state = pipeline.feed(state, item.piece(rate), end)
        call.cache.clear()
        if not end:
            call.cache["live"] = state
        ended = [event for event in events if event.kind == FINAL]
        return Result(
            item.key,
            text=join_texts(event.text for event in ended),
            segments=_ended_segments(ended),
            partial=events[-1].text if events and events[-1].kind != FINAL else "",
        )

    def streamer(self, call: CallOptions) -> Streamer:
        """A stream to feed step by step."""
        no_digits(call)
        self._search(call, live=True)
        return Streamer(self.online.recognizer(self._manner(call)))

    def live(self, call: CallOptions, whole: bool = False) -> LivePipeline:
        """Live recognition by all models that there are; whole: marks and digits are those of the
        text of a recording, so none are written here.
        """
        vad = adjusted(self.vad, call) if self.vad else None
        punctuator = None if whole else self.punctuator
        voices = None
        if self.voices is not None and self.enrolment is not None and call.return_spk_res:
            known, most = self.enrolment.known(call.speakers), call.preset_spk_num
            threshold = self.voices.threshold(call.spk_threshold)
            voices = LiveVoices(self.voices, known, threshold, most or call.max_spk_num)
        return LivePipeline(
            self.online.recognizer(self._manner(call)),
            vad,
            punctuator,
            self.second,
            search=self._search(call, live=True),
            itn=call.itn and not whole,
            voices=voices,
        )


def chunking(call: CallOptions) -> Chunking:
    """How a stream is cut."""
    return Chunking(
        tuple(sizes_of(call)),  # type: ignore[arg-type]  # its length is checked there
        call.encoder_chunk_look_back,
        call.decoder_chunk_look_back,
    )


def sizes_of(call: CallOptions) -> list[int]:
    """`chunk_size` as a list."""
    given: Any = call.chunk_size
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def adjusted(vad: VoiceActivity, call: CallOptions) -> VoiceActivity:
    """The detector with the options of the call."""
    return vad.adjusted(
        max_end_silence_time=call.max_end_silence_time,
        max_single_segment_time=call.max_single_segment_time,
        speech_noise_thres=call.speech_noise_thres,
        dynamic_silence=call.dynamic_silence or None,
    )


def no_digits(call: CallOptions) -> None:
    """Refuse digits where the input comes in pieces."""
    if call.itn:
        raise ConfigError("itn: a number may go on in the next piece of a stream; leave it out")


def one_item(source: Any, call: CallOptions) -> Item:
    """The piece of a stream that an input is."""
    items = list_items(source, call.key, call.segments, call.channel)
    if len(items) != 1 or call.output_dir:
        raise ConfigError("cache: give one piece of one stream a call, and no output_dir")
    return items[0]


def ends(item: Item, call: CallOptions) -> bool:
    """Whether a stream ends with this piece of it; a file is a whole one."""
    return call.is_final or isinstance(item.source, (str, Path))


def blocks_of(
    item: Item, fs: int | None, rate: int, bar: tqdm[Any] | None
) -> Callable[[], Iterator[Tensor]]:
    """A function that gives the audio of an item in blocks, and moves the bar."""

    def blocks() -> Iterator[Tensor]:
        for block in read_blocks(item, rate, raw_fs=fs):
            yield block
            if bar is not None:
                bar.update(len(block) / rate)

    return blocks


def _ended_segments(ended: Iterable[Event]) -> list[Fields]:
    """The segments of these final events."""
    rows = [{"start": e.start_ms, "end": e.end_ms, "text": e.text} for e in ended]
    speakers = [{"speaker": e.speaker} if e.speaker else {} for e in ended]
    return [{**row, **speaker} for row, speaker in zip(rows, speakers, strict=True)]


def _seconds(items: Sequence[Item], rate: int) -> int | None:
    """How long recordings are together, if the headers of all of them say so."""
    lengths = [header_samples(i.source, rate) for i in items if isinstance(i.source, str)]
    return round(sum(n or 0 for n in lengths) / rate) if all(lengths) else None


def progress(outcomes: Iterator[Any], total: int, call: CallOptions) -> Iterator[Any]:
    """Outcomes, while a bar shows on a terminal how many have come."""
    hidden = True if call.disable_pbar or total < 2 else None
    return iter(tqdm(outcomes, total=total, unit="utt", disable=hidden, leave=False))
