"""Features of many utterances become text: batches by length, results in the order of the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from paraformer.backends.engines import recognition_engine
from paraformer.backends.face import Asked, Bias, Heard, Release, Timeline
from paraformer.backends.halves import in_halves
from paraformer.data.audio.arrays import check_sound
from paraformer.data.features.frontend import Frontend
from paraformer.data.text.ngram_table import NgramTable
from paraformer.data.text.tokenizer import SentencepieceTokenizer
from paraformer.decode.hotword_boost import boost
from paraformer.decode.hotwords import BOOST, Listening, own_boost
from paraformer.decode.language_model import LanguageModel, own_weight, rescore, words_of
from paraformer.decode.ngram_search import ngram_search
from paraformer.decode.pool import Batching, Done, Job, compute_in_batches
from paraformer.decode.search import (
    SOS,
    Hypothesis,
    as_reading,
    beam_search,
    greedy_search,
    nbest_search,
)
from paraformer.decode.text import postprocess
from paraformer.decode.timestamps import (
    Clock,
    SpokenWord,
    Times,
    milliseconds,
    spoken_words,
)
from paraformer.decode.token_ends import ends_of
from paraformer.errors import AudioError, ConfigError, ParaformerError
from paraformer.limits import check_fields
from paraformer.options import as_option

# Below this a CTC weight is none (the reference's limit).
NO_WEIGHT = 1e-5
Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Search:
    """Settings by which posteriors become text, most of them options of `generate`; without a CTC
    weight positions are independent, and the search exact.

    hotwords: words as the model takes them, see `decode.hotwords`. lm: a table decides with the
    decoder at each position; another model, or one beside CTC, chooses among the `lm_nbest` best
    readings or those of the beam.
    """

    nbest: int = as_option("nbest")
    decoding_ctc_weight: float = as_option("decoding_ctc_weight")
    beam_size: int = as_option("beam_size")
    penalty: float = as_option("penalty")
    maxlenratio: float = as_option("maxlenratio")
    minlenratio: float = as_option("minlenratio")
    pred_timestamp: bool = as_option("pred_timestamp")
    nfilter: int = as_option("nfilter")
    seaco_weight: float = as_option("seaco_weight")
    clas_scale: float = as_option("clas_scale")
    hotword_boost: float | None = as_option("hotword_boost")  # None: the model's own
    hotwords: Listening | None = field(default=None, compare=False)
    lm_weight: float | None = as_option("lm_weight")  # None: the model's own
    lm_nbest: int = as_option("lm_nbest")
    lm: LanguageModel | NgramTable | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def with_ctc(self) -> bool:
        """Whether a beam search is asked for."""
        return self.decoding_ctc_weight > NO_WEIGHT


class Reading(NamedTuple):
    """One text of an utterance."""

    ids: list[int]
    tokens: list[str]
    text: str  # as the reference writes it: with times, a blank between all words
    tight: str  # the text to show: no blanks in Chinese
    score: float  # log-probability, with what the search adds
    confidences: list[float]  # of each token, 0 to 1
    token_times: Times | None = None  # [start, end] in ms; None: the model gives none
    words: list[SpokenWord] | None = None

    @property
    def confidence(self) -> float:
        """Mean of those of the tokens; 0 where nothing was heard."""
        return sum(self.confidences) / len(self.confidences) if self.confidences else 0.0


class Recognition(NamedTuple):
    """The best reading of an utterance, and the `nbest` best ones, which it opens."""

    best: Reading
    nbest: list[Reading]


NOTHING = Reading([], [], "", "", 0.0, [])
# An utterance that failed keeps its place, as the error that says why.
Outcome = Recognition | ParaformerError


class Recognizer:
    """A loaded model on a device. Holds no state: options belong to the call.

    What an utterance gives does not depend on what stands beside it in a batch.
    """

    def __init__(
        self, release: Release, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        """dtype: a half precision to compute in (by autocast), None: float32."""
        self.engine = engine = recognition_engine(release, device, dtype)
        self.release, self.device, self.dtype = engine.release, engine.device, dtype
        self.special = sorted({engine.blank_id, SOS, engine.eos})
        self._boost = own_boost(engine)
        self._lm_weight = own_weight(release.config)
        self._ends = ends_of(release.config, release.frontend)

    def recognize(
        self,
        waves: Iterable[Tensor],
        search: Search | None = None,
        batching: Batching | None = None,
    ) -> list[Outcome]:
        """One outcome for each wave (N,), of the sampling rate of the model, in their order."""
        jobs = (sound_job(None, wave, self.release.frontend) for wave in waves)
        return [done.outcome for done in self.stream(jobs, search, batching)]

    def stream(
        self,
        jobs: Iterable[Job[Payload, Tensor] | Done[Payload, Any]],
        search: Search | None = None,
        batching: Batching | None = None,
    ) -> Iterator[Done[Payload, Any]]:
        """Outcomes of features (T, D), in order, as they are decoded; what is done keeps its place.

        Some minutes of audio are held at a time, however long the input is.
        """
        search, batching = search or Search(), batching or Batching()
        self._check(search)
        timed = search.pred_timestamp or self.times_tokens
        nothing = NOTHING._replace(token_times=[], words=[]) if timed else NOTHING
        return compute_in_batches(
            (
                Done(job.payload, Recognition(nothing, [nothing])) if _is_empty(job) else job
                for job in jobs
            ),
            lambda feats: self._decode(feats, search),
            batching.max_utterances,
            max(1, int(batching.max_seconds * self._frames_per_second)),
        )

    @property
    def _frames_per_second(self) -> float:
        frontend = self.release.frontend
        return 1000.0 / (frontend.frame_shift * frontend.lfr_n)

    def _check(self, search: Search) -> None:
        if search.with_ctc and not self.engine.has_ctc:
            raise ConfigError(
                f"decoding_ctc_weight={search.decoding_ctc_weight}: this model has no CTC head; "
                "leave it out"
            )
        self.engine.check(_asked(search))

    @property
    def times_tokens(self) -> bool:
        """Whether every reading has times, asked for or not."""
        return self.engine.times_tokens

    def clock(self, timeline: Timeline, feats: Sequence[Tensor]) -> Clock:
        """Token times of a batch, whose network inputs (T, D) these are."""
        return Clock(timeline, self.engine.frame_seconds, self._ends(feats) if self._ends else None)

    @torch.inference_mode()
    def _decode(self, feats: Sequence[Tensor], search: Search) -> list[Outcome]:
        """Outcomes of a batch, in halves where the device has no memory for its search."""
        asked = _asked(search)

        def read(part: Sequence[Tensor]) -> list[Outcome]:
            parts = self.engine.listen(part, asked)
            return [outcome for heard in parts for outcome in self._outcomes(heard, search)]

        return in_halves(feats, read, self.engine.too_long)

    def _outcomes(self, heard: Heard, search: Search) -> list[Outcome]:
        """Readings of what was heard."""
        logp, held = self._posteriors(heard, search)
        readings = self._search(heard._replace(logp=logp), held, search)
        clock = None if heard.timeline is None else self.clock(heard.timeline, heard.feats)
        return [
            self._recognition(hypotheses, clock, row) if error is None else error
            for row, (hypotheses, error) in enumerate(zip(readings, heard.errors, strict=True))
        ]

    def _posteriors(self, heard: Heard, search: Search) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, U, V) of the decoder, with hotwords preferred, and where these
        stand, (B, U) bool.
        """
        listening = search.hotwords
        nowhere = heard.logp.new_zeros(heard.logp.shape[:2], dtype=torch.bool)
        if listening is None or heard.logp.size(1) == 0:
            return heard.logp, nowhere
        bonus = search.hotword_boost
        if bonus is None:
            attended = listening.memory or not self.engine.hears_hotwords
            bonus = self._boost if attended else self._boost or BOOST
        if bonus == 0.0:
            return heard.logp, nowhere
        return boost(heard.logp.float(), heard.counts, listening.words, bonus, self.special)

    def _search(self, heard: Heard, held: Tensor, search: Search) -> list[list[Hypothesis]]:
        """The best readings of each utterance; held: see `_posteriors`."""
        logp, counts, ctc_logp = heard.logp, heard.counts, heard.ctc
        weight = self._lm_weight if search.lm_weight is None else search.lm_weight
        if isinstance(search.lm, NgramTable) and ctc_logp is None and weight > 0.0:
            words = words_of(search.lm, self.release.tokenizer)
            paths = ngram_search(
                *(logp, counts, held, search.lm, words),
                weight=weight,
                bonus=search.penalty,
                nbest=search.nbest,
                special=self.special,
            )
            return [[as_reading(*path, self.special) for path in each] for each in paths]
        if search.lm is not None:
            wanted = search.beam_size if search.with_ctc else search.lm_nbest
            wide = replace(search, lm=None, nbest=max(search.nbest, wanted))
            found = self._search(heard, held, wide)
            tokens_of = self.release.tokenizer.ids_to_tokens
            bonus = 0.0 if search.with_ctc else search.penalty  # a beam has given it already
            return [
                rescore(each, tokens_of, search.lm, weight, bonus)[: search.nbest] for each in found
            ]
        if ctc_logp is None and search.nbest == 1:
            return [[found] for found in greedy_search(logp, counts, self.special)]
        if ctc_logp is None:
            return nbest_search(logp, counts, search.nbest, self.special)
        logp, ctc_logp = logp.cpu(), ctc_logp.cpu()
        return [
            beam_search(
                row[:u],
                ctc_row[:t],
                beam_size=max(search.beam_size, search.nbest),
                nbest=search.nbest,
                ctc_weight=search.decoding_ctc_weight,
                penalty=search.penalty,
                maxlenratio=search.maxlenratio,
                minlenratio=search.minlenratio,
                blank=self.engine.blank_id,
                eos=self.engine.eos,
            )
            for row, ctc_row, u, t in zip(
                logp, ctc_logp, counts.tolist(), heard.lengths.tolist(), strict=True
            )
        ]

    def _recognition(
        self, hypotheses: Sequence[Hypothesis], clock: Clock | None, row: int
    ) -> Recognition:
        nbest = [self._read(hypothesis, clock, row) for hypothesis in hypotheses]
        nbest = nbest or [self._read(Hypothesis([], 0.0, [], []), clock, row)]
        return Recognition(nbest[0], nbest)

    def _read(self, found: Hypothesis, clock: Clock | None, row: int) -> Reading:
        tokenizer = self.release.tokenizer
        tokens = tokenizer.ids_to_tokens(found.ids)
        times = None if clock is None else milliseconds(clock.spans(row, tokens))
        pieces = isinstance(tokenizer, SentencepieceTokenizer)
        words = None
        if times is not None:
            words = spoken_words(tokens, times, found.confidences, pieces)
        if isinstance(tokenizer, SentencepieceTokenizer):
            text = tight = tokenizer.detokenize(tokens)
        else:
            tight = postprocess(tokens).tight
            text = tight if words is None else " ".join(word.text for word in words)
        return Reading(found.ids, tokens, text, tight, found.score, found.confidences, times, words)


def _asked(search: Search) -> Asked:
    """The things that a search asks of an engine."""
    memory = None if search.hotwords is None else search.hotwords.memory
    bias = Bias(memory, search.nfilter, search.seaco_weight, search.clas_scale)
    return Asked(search.with_ctc, search.pred_timestamp, bias)


def _is_empty(job: Job[Any, Tensor] | Done[Any, Any]) -> bool:
    """Whether nothing can be heard: there is not one frame."""
    return isinstance(job, Job) and not job.frames


def sound_job(
    payload: Payload, wave: Tensor, frontend: Frontend
) -> Job[Payload, Tensor] | Done[Payload, ParaformerError]:
    """Features (T, D) of samples (N,) to recognise, or what is wrong with these."""
    try:
        check_sound(wave, "audio", frontend.fs)
    except AudioError as error:
        return Done(payload, error)
    return feats_job(payload, frontend(wave))


def feats_job(payload: Payload, feats: Tensor) -> Job[Payload, Tensor]:
    """Features (T, D) to recognise."""
    return Job(payload, feats, len(feats))
