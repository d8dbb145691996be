"""What a SeACo-Paraformer hears with hotwords equals the reference, run on each utterance alone:
in a batch it makes the shortlist by the first utterance.

`none` is no list, `empty` the list with the entry for nothing alone (which the reference makes of
an empty string), `few` has an unknown word in it (which ours leaves out: here it is given as the
reference's ids), `file` a phrase of two words, `many` more than the shortlist.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from paraformer.backends.packed import for_inference
from paraformer.backends.torch_engine import frame_seconds
from paraformer.decode.hotwords import read_hotwords, remember
from paraformer.decode.search import greedy_search
from paraformer.decode.text import postprocess
from paraformer.decode.timestamps import Clock, milliseconds
from paraformer.nn.bias import SHORTLIST
from tests.parity.oracle import SEACO, close, pad

pytestmark = pytest.mark.parametrize("oracle", SEACO, indirect=True, scope="module")

CASES = ("none", "empty", "few", "file", "many")


@pytest.fixture(scope="module")
def heard(oracle):
    """Acoustic embeddings, counts, encoder output, its lengths of all utterances in one batch."""
    return hear(oracle, oracle.feats())


@torch.no_grad()
def hear(oracle, feats):
    model = oracle.release.model
    memory, lengths = model.encode(*pad(feats))
    predicted = model.predict(memory, lengths)
    return predicted.embeds, predicted.token_lengths, memory, lengths


@torch.no_grad()
def listed(oracle, case):
    """Memory of the reference's ids of a case."""
    ids = oracle.facts["hotword"][case]["ids"]
    return None if ids is None else oracle.release.model.remember(ids[:-1])


@torch.no_grad()
def results(oracle, heard, hotwords, **options):
    """Text and timestamps of each utterance as `generate` gives them."""
    release = oracle.release
    embeds, counts, memory, lengths = heard
    logp = release.model.decode(*heard, hotwords, **options)
    timeline = release.model.timeline(memory, lengths, counts)
    clock = Clock(timeline, frame_seconds(release))
    found = []
    for row, reading in enumerate(greedy_search(logp, counts)):
        tokens = release.tokenizer.ids_to_tokens(reading.ids)
        read = postprocess(tokens, milliseconds(clock.spans(row, tokens)))
        found.append({"text": read.text, "timestamp": read.timestamps})
    return found


def expected(oracle, case):
    rows = oracle.facts["hotword"][case]["results"]
    return [{name: row[name] for name in ("text", "timestamp")} for row in rows]


@pytest.mark.parametrize("case", CASES)
def test_results(oracle, heard, case):
    assert results(oracle, heard, listed(oracle, case)) == expected(oracle, case)


@pytest.mark.parametrize("case", CASES)
def test_each_alone(oracle, case):
    alone = [results(oracle, hear(oracle, [x]), listed(oracle, case))[0] for x in oracle.feats()]
    assert alone == expected(oracle, case)


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities(oracle, heard, case):
    embeds, counts, memory, lengths = heard
    with torch.no_grad():
        logp = oracle.release.model.decode(*heard, listed(oracle, case))
    close(logp[0, : int(counts[0])], oracle.arrays[f"hotword/{case}/logp"], 1e-3)


@pytest.mark.parametrize("case", CASES[1:])
@torch.no_grad()
def test_stages(oracle, case):
    """From the reference's own features of the first utterance."""
    model = oracle.release.model
    embeds, counts, memory, lengths = hear(oracle, oracle.recorded_feats()[:1])
    hotwords = listed(oracle, case)
    close(hotwords.embeds, oracle.arrays[f"hotword/{case}/embeds"], 1e-5)
    hidden = model.decoder.hidden(embeds, counts, memory, lengths)
    projected = hotwords.projected
    if len(hotwords.embeds) > SHORTLIST:
        scores = model.seaco_decoder.scores(hidden, counts, projected)
        close(scores[0], oracle.arrays[f"hotword/{case}/filter_scores"], 1e-5)
        chosen = model.choose(hidden, counts, hotwords, SHORTLIST)
        assert chosen[0].tolist() == oracle.facts["hotword"][case]["filter_order"]
        projected = [kv[chosen] for kv in projected]
    biased = model.listen(embeds, hidden, counts, projected)[0]
    close(biased, oracle.arrays[f"hotword/{case}/dha_logp"], 5e-4)
    assert biased.argmax(-1).tolist() == oracle.facts["hotword"][case]["dha_argmax"]
    logp = model.decode(embeds, counts, memory, lengths, hotwords)[0]
    close(logp, oracle.arrays[f"hotword/{case}/logp"], 5e-4)


@pytest.mark.parametrize("case", CASES)
def test_ids_of_the_argument(oracle, case, request):
    """Ours: no entry for nothing (`remember` adds it), no unknown word, an empty string is none."""
    place = request.node.callspec.params["oracle"]
    given = oracle.facts["hotword"][case]["hotword"]
    given = place.folder / given if case == "file" else given
    tokenizer = oracle.release.tokenizer
    theirs = oracle.facts["hotword"][case]["ids"] or [[1]]
    known = [tuple(ids) for ids in theirs[:-1] if tokenizer.unk_id not in ids]
    found = read_hotwords(given, tokenizer)
    assert found.ids == known
    assert len(found.left_out) == len(theirs) - 1 - len(known)


@pytest.mark.parametrize("case", ["file", "many"])
def test_the_whole_way_of_the_argument(oracle, heard, case, request):
    """On the twin that recognisers run, whose linear layers are packed."""
    place = request.node.callspec.params["oracle"]
    given = oracle.facts["hotword"][case]["hotword"]
    given = str(place.folder / given) if case == "file" else given
    model = for_inference(oracle.release.model, torch.device("cpu"))
    twin = oracle._replace(release=replace(oracle.release, model=model))
    with torch.no_grad():
        hotwords = remember(model, read_hotwords(given, oracle.release.tokenizer))
    assert results(twin, heard, hotwords) == expected(oracle, case)


def test_an_empty_string_is_no_list(oracle, heard):
    found = read_hotwords("", oracle.release.tokenizer)
    assert remember(oracle.release.model, found) is None
    assert results(oracle, heard, None) == expected(oracle, "none")


def test_weight_0_never_listens(oracle, heard):
    hotwords = listed(oracle, "many")
    assert results(oracle, heard, hotwords, weight=0.0) == expected(oracle, "none")


def test_a_shortlist_as_long_as_the_list_changes_nothing(oracle, heard):
    few = listed(oracle, "few")
    wide = results(oracle, heard, few, shortlist=len(few.embeds))
    assert wide == results(oracle, heard, few) == expected(oracle, "few")
