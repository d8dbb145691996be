"""A released directory of each kind becomes another of the same kind: with other weights, and with
everything else that it had. All starts are checkpoints that the reference wrote.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module

from paraformer.api.auto import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.text.ngram import estimate
from paraformer.data.text.ngram_table import NgramTable, write_ngrams
from paraformer.errors import CheckpointError, ConfigError, DataError
from paraformer.hub.directories import BUNDLED
from paraformer.models.builders import BUILDERS
from paraformer.models.release import load_aligner, load_directory, weights_of
from paraformer.models.weights import read_weights
from paraformer.programs.extend_model import extend_model
from paraformer.programs.find_lr import find_lr
from paraformer.programs.make_shards import make_shards
from paraformer.programs.select_model import Candidate, Score, choose, mixed, select_model
from paraformer.programs.train import train
from paraformer.train.new_tokens import TOKEN_LAYERS
from tests import tiny
from tests.parity.oracle import FIXTURES

ORACLE = FIXTURES / "oracle"
CLIPS = [ORACLE / "inputs" / f"clip_{x}.flac" for x in "abc"]
KINDS = (
    "paraformer",
    "conformer",
    "paraformer-streaming",
    "bicif",
    "seaco",
    "contextual",
    "transformer_linear",
)
QUICK = ("training.max_steps=2", "optim.lr=0.001", "optim.warmup_steps=1", "device=cpu")


def configured(name, *overrides):
    with initialize_config_module("paraformer.conf", version_base="1.3"):
        return compose(name, list(overrides))


def characters(model):
    """Chinese characters that a model has tokens for."""
    tokens = json.loads((model / "tokens.json").read_text("utf8"))
    return [token for token in tokens if len(token) == 1 and "一" <= token <= "龥"]


def write_data(folder, model, size=6):
    """The three clips, which are said to be texts of characters that the model knows."""
    known = characters(model)
    texts = {f"u{n}": "".join(known[n * size : (n + 1) * size]) for n in range(len(CLIPS))}
    write_table(folder / "wav.scp", {f"u{n}": str(clip) for n, clip in enumerate(CLIPS)})
    write_table(folder / "text", texts)
    return folder


def finetune(tmp_path, start, *overrides, run="run"):
    data, folder = write_data(tmp_path / "data", Path(start)), tmp_path / run
    paths = [f"init={start}", f"data={data}", f"dev={data}", f"dir={folder}"]
    assert train(configured("finetune", *paths, *QUICK, *overrides)) == 0
    # Two steps need not be for the better.
    ends = (f"dir={folder}", f"out={folder}/final", "keep_start=false")
    assert select_model(configured("select_model", *ends)) == 0
    return folder / "final"


def weights(folder):
    return read_weights(weights_of(folder))


def changed(start, final):
    """The parameters that are not what they were."""
    before, after = weights(start), weights(final)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_stays_what_it_is(tmp_path, kind):
    start = ORACLE / kind
    final = finetune(tmp_path, start)
    again = load_directory(final)
    assert type(again.model) is type(load_directory(start).model)
    assert changed(start, final)
    assert (final / "model.pt").stat().st_size <= 1.05 * (start / "model.pt").stat().st_size
    before, after = (yaml.safe_load((d / "config.yaml").read_text("utf8")) for d in (start, final))
    assert {key: value for key, value in after.items() if value != before.get(key)} == {}
    for name in ("tokens.json", "seg_dict"):
        if (start / name).is_file():
            read = json.loads if name.endswith("json") else str.split
            assert read((final / name).read_text("utf8")) == read((start / name).read_text("utf8"))
    assert tiny.equal(tuple(again.frontend.cmvn), tuple(load_directory(start).frontend.cmvn))
    types = {value.dtype for value in weights(final).values() if value.is_floating_point()}
    assert types == {torch.float32}
    records = [json.loads(x) for x in (final.parent / "epochs.jsonl").read_text().splitlines()]
    assert records[0]["epoch"] == 0 and records[0]["step"] == 0


def test_an_aligner_is_fine_tuned_too(tmp_path):
    final = finetune(tmp_path, ORACLE / "fa-zh")
    assert (
        load_aligner(final).model.predictor_bias
        == load_aligner(ORACLE / "fa-zh").model.predictor_bias
    )
    assert changed(ORACLE / "fa-zh", final)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("seaco", ("bias_encoder", "seaco_decoder", "hotword_output_layer", "decoder.embed")),
        (
            "contextual",
            ("bias_encoder", "bias_embed", "decoder.bias_decoder", "decoder.bias_output"),
        ),
    ],
)
def test_what_hears_hotwords_stays_unless_it_is_taught_again(tmp_path, kind, parts):
    plain = changed(ORACLE / kind, finetune(tmp_path, ORACLE / kind, run="plain"))
    assert plain and not any(name.startswith(parts) for name in plain)
    taught = finetune(tmp_path, ORACLE / kind, "hotwords.plain=false", run="taught")
    found = changed(ORACLE / kind, taught)
    assert {part for part in parts if any(name.startswith(part) for name in found)} == set(parts)


def test_adapters_leave_an_ordinary_checkpoint(tmp_path):
    start = ORACLE / "paraformer"
    final = finetune(tmp_path, start, "lora.rank=2", "freeze=[decoder]")
    found = changed(start, final)
    assert found and all(
        name.startswith("encoder.") and ".self_attn.linear_" in name for name in found
    )


def test_precision_and_files_are_those_of_the_start(tmp_path):
    start = tmp_path / "start"
    shutil.copytree(ORACLE / "paraformer", start)
    state = {name: value.half() for name, value in weights(start).items()}
    torch.save({"state_dict": state}, start / "model.pt")
    config = yaml.safe_load((start / "config.yaml").read_text("utf8"))
    own = {"hotword_boost": 1.5, "token_ends": "sound", "anything": ["else"]}
    (start / "config.yaml").write_text(yaml.safe_dump({**config, **own}), "utf8")
    (start / "README.md").write_text("# Mine\n\nlicense: x\n", "utf8")
    (start / "LICENSE").write_text("free", "utf8")
    (start / "optimizer.pt").write_bytes(b"large")
    (start / "example").mkdir()
    (start / "example/text").write_text("a b", "utf8")
    final = finetune(tmp_path, start)
    assert all(value.dtype == torch.float16 for value in weights(final).values())
    after = yaml.safe_load((final / "config.yaml").read_text("utf8"))
    assert {key: after[key] for key in own} == own
    assert (final / "LICENSE").read_text() == "free"
    assert (final / "example/text").read_text() == "a b"
    assert not (final / "optimizer.pt").exists()
    card = (final / "README.md").read_text("utf8")
    assert card.startswith("# Mine\n\nlicense: x\n\n## Fine-tuned\n\nTraining began with `start`.")


def test_a_result_without_weights_is_refused_by_name(tmp_path):
    final = finetune(tmp_path, ORACLE / "paraformer")
    assert AutoModel(str(final)).generate(str(CLIPS[0]))[0]["key"] == "clip_a"
    (final / "model.pt").unlink()
    with pytest.raises(CheckpointError, match=r"final/model.pt: no such file"):
        AutoModel(str(final))


def test_nothing_better_than_the_start_gives_the_start(tmp_path, caplog):
    """A rate that destroys the model: the result has to be what it was, and to say so."""
    start = ORACLE / "paraformer"
    data = write_data(tmp_path / "data", start)
    # Texts that the start itself gives, so that no training can be better.
    said = {f"u{n}": AutoModel(str(start)).generate(str(c))[0]["text"] for n, c in enumerate(CLIPS)}
    write_table(tmp_path / "data/text", said)
    paths = [f"init={start}", f"data={data}", f"dev={data}", f"dir={tmp_path / 'run'}"]
    train(
        configured(
            "finetune", *paths, "training.max_steps=3", "optim.lr=1.0", "optim.warmup_steps=1"
        )
    )
    with caplog.at_level(logging.INFO):
        select_model(
            configured("select_model", f"dir={tmp_path / 'run'}", f"out={tmp_path / 'out'}")
        )
    assert "nothing is better than the start on the dev set: it is the start" in caplog.text
    assert changed(start, tmp_path / "out") == set()
    select_model(
        configured(
            "select_model", f"dir={tmp_path / 'run'}", f"out={tmp_path / 'out'}", "keep_start=false"
        )
    )
    assert changed(start, tmp_path / "out")


def test_the_best_has_the_fewest_errors_then_the_smaller_loss():
    start, one, half = Candidate(), Candidate((3,)), Candidate((3,), 0.5)
    assert (
        choose({start: Score(0.2, 9.0), one: Score(0.1, 9.5), half: Score(0.1, 9.4)}, True) == half
    )
    assert choose({start: Score(0.1, 1.0), one: Score(0.1, 1.0)}, True) == start
    assert choose({start: Score(0.1, 1.0), one: Score(0.3, 2.0)}, False) == one
    assert str(start) == "start" and str(half) == "epoch 3, 0.5 of it with the start"
    assert mixed(torch.tensor([4.0]), torch.tensor([2.0]), 0.25).tolist() == [2.5]


def test_a_run_goes_on_with_its_own_start_alone(tmp_path, monkeypatch):
    finetune(tmp_path, ORACLE / "paraformer")
    monkeypatch.chdir(ORACLE)
    finetune(tmp_path, "paraformer")  # is the same
    other = tmp_path / "other"
    shutil.copytree(ORACLE / "paraformer", other)
    with pytest.raises(ConfigError, match=r"its training began with .*oracle/paraformer, not"):
        finetune(tmp_path, other)
    data = write_data(tmp_path / "data", other, size=5)
    paths = [f"init={ORACLE / 'paraformer'}", f"data={data}", f"dev={data}", f"dir={tmp_path}/run"]
    with pytest.raises(ConfigError, match="run: its training began with other utterances; train"):
        train(configured("finetune", *paths, *QUICK))
    assert train(configured("finetune", *paths, *QUICK, "resume=false")) == 0


def test_a_start_is_neither_lost_nor_guessed(tmp_path):
    start, run = tmp_path / "start", tmp_path / "run"
    shutil.copytree(ORACLE / "paraformer", start)
    finetune(tmp_path, start)
    before = (start / "model.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"out=.*/x/../start: is the start"):
        (tmp_path / "x").mkdir()
        select_model(configured("select_model", f"dir={run}", f"out={tmp_path}/x/../start"))
    assert (start / "model.pt").read_bytes() == before
    start.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"/start: no such directory, though the training in"):
        select_model(configured("select_model", f"dir={run}", f"out={tmp_path}/other"))


def test_what_cannot_be_used_is_counted_and_listed(tmp_path, caplog):
    start = ORACLE / "paraformer"
    data = write_data(tmp_path / "data", start)
    wavs, texts = read_table(data / "wav.scp"), read_table(data / "text")
    odd = {
        "empty": "",
        "unknown": f"{texts['u0']}龘",
        "crowded": texts["u0"] * 20,
        "lost": texts["u0"],
    }
    write_table(data / "text", {**texts, **odd})
    sources = dict.fromkeys(odd, wavs["u0"]) | {"lost": str(tmp_path / "none.wav")}
    write_table(data / "wav.scp", {**wavs, **sources})
    dev = write_data(tmp_path / "dev", start)
    seconds = max(len(read_audio(clip)) for clip in CLIPS) / 16000
    paths = [f"init={start}", f"data={data}", f"dev={dev}", f"dir={tmp_path / 'run'}"]
    with caplog.at_level(logging.INFO):
        train(configured("finetune", *paths, *QUICK, f"max_seconds={seconds - 0.05}"))
    listed = read_table(tmp_path / "run/dropped_data")
    longest = max(range(3), key=lambda n: len(read_audio(CLIPS[n])))
    assert listed == {
        "empty": "empty transcript",
        "unknown": "unknown characters",
        "crowded": "more tokens than frames",
        "lost": "audio cannot be read",
        f"u{longest}": f"longer than {seconds - 0.05:g} s",
    }
    assert "1 hold unknown 龘 (1); dropped" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["lang=x"], ConfigError, "give it as init, and neither lang nor cmvn"),
        (["init=./no/model"], CheckpointError, "no/model"),
        (["lora.layers=linear_q"], ConfigError, "lora.layers=linear_q: give a list"),
        (["+lora.odd=1"], ConfigError, "unknown key 'lora.odd'"),
        (["max_seconds=0.1"], DataError, r"no usable utterance \(3 longer than 0.1 s\)"),
        (["max_seconds=-1"], ConfigError, "max_seconds=-1: give a number of 0 or more"),
    ],
)
def test_a_fault_is_named(tmp_path, overrides, error, message):
    data = write_data(tmp_path / "data", ORACLE / "paraformer")
    paths = [
        f"init={ORACLE / 'paraformer'}",
        f"data={data}",
        f"dev={data}",
        f"dir={tmp_path / 'x'}",
    ]
    kept = [path for path in paths if path.split("=")[0] != overrides[0].split("=")[0]]
    with pytest.raises(error, match=message):
        train(configured("finetune", *kept, *overrides))


def test_shards_are_chosen_from_as_directories_are(tmp_path, caplog):
    data = write_data(tmp_path / "data", ORACLE / "paraformer")
    assert make_shards(configured("make_shards", f"data={data}", f"out={tmp_path / 'out'}")) == 0
    listed, start = tmp_path / "out/shards.list", ORACLE / "paraformer"
    paths = [f"init={start}", f"data={listed}", f"dev={listed}", f"dir={tmp_path / 'run'}"]
    with pytest.raises(DataError, match=r"list: no usable utterance \(3 longer than 0.1 s\)"):
        train(configured("finetune", *paths, *QUICK, "max_seconds=0.1"))
    texts = read_table(data / "text")
    write_table(data / "text", texts | {"u0": f"{texts['u0']}龘"})
    assert make_shards(configured("make_shards", f"data={data}", f"out={tmp_path / 'out'}")) == 0
    assert train(configured("finetune", *paths, *QUICK)) == 0
    assert caplog.text.count("shards.list: 1 dropped: unknown characters") == 1


def test_a_rate_is_found_for_what_will_be_trained(tmp_path, capsys):
    start = ORACLE / "paraformer"
    data = write_data(tmp_path / "data", start)
    paths = [f"init={start}", f"data={data}", f"dev={data}", f"dir={tmp_path / 'x'}"]
    assert find_lr(configured("finetune", *paths, "lr_finder.steps=20", "lr_finder.high=0.1")) == 0
    assert 1e-6 < float(capsys.readouterr().out) < 0.1
    rows = (tmp_path / "x/lr_finder.tsv").read_text().splitlines()
    assert rows[0] == "lr\tloss\tdev_loss" and 10 < len(rows) <= 21


# New tokens


def extend(model, out, *overrides):
    return extend_model(configured("extend_model", f"model={model}", f"out={out}", *overrides))


@torch.no_grad()
def scores(folder):
    """Logits (U, V) of a clip without hotwords."""
    release = load_directory(folder)
    feats, lengths = release.frontend.batch([read_audio(CLIPS[0])])
    memory, lengths = release.model.encode(feats, lengths)
    heard = release.model.predict(memory, lengths)
    logp = release.model.decode(heard.embeds, heard.token_lengths, memory, lengths)[0]
    ctc = release.model.ctc_head
    return logp, ctc(memory)[0] if ctc is not None else None


def test_each_kind_is_tried():
    names = {yaml.safe_load((ORACLE / k / "config.yaml").read_text("utf8"))["model"] for k in KINDS}
    assert names == set(BUILDERS)


@pytest.mark.parametrize("kind", KINDS)
def test_old_tokens_keep_their_ids_and_scores(tmp_path, kind, caplog):
    start, out = ORACLE / kind, tmp_path / "out"
    (tmp_path / "new").write_text("龘\n囧\n蛬\n", "utf8")
    with caplog.at_level(logging.INFO):
        assert extend(start, out, f"tokens={tmp_path / 'new'}") == 0
    assert f"{out}: 3 new rows: 龘 囧 蛬" in caplog.text
    old, new = (json.loads((d / "tokens.json").read_text("utf8")) for d in (start, out))
    assert new == [*old, "龘", "囧", "蛬"]
    before, after = weights(start), weights(out)
    grown = {name for name in before if before[name].shape != after[name].shape}
    assert all(after[name].shape[0] == len(old) + 3 for name in grown)
    assert all(torch.equal(after[name][: len(old)], before[name]) for name in grown)
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - grown)
    assert {"decoder.output_layer.weight", "decoder.output_layer.bias"} <= grown
    assert {name.rpartition(".")[0] for name in grown} <= {*TOKEN_LAYERS}
    assert ("bias_embed.weight" in grown) == (kind == "contextual")
    assert ("hotword_output_layer.bias" in grown) == (kind == "seaco")
    for one, more in zip(scores(start), scores(out), strict=True):
        if one is None:
            continue
        # Softmax lets the new ids take their share; relative to each other nothing has moved.
        share = more[:, len(old) :].exp().sum(-1, keepdim=True)
        torch.testing.assert_close(
            more[:, : len(old)], one + torch.log1p(-share), atol=2e-5, rtol=1e-5
        )
        assert share.max() < 0.05
    assert load_directory(out).tokenizer.encode("龘") == [len(old)]


def test_ngrams_go_along_and_new_tokens_are_unknown_words_to_them(tmp_path):
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(ORACLE / "paraformer", start)
    plain = AutoModel(str(start), device="cpu", disable_pbar=True).generate(str(CLIPS[0]))
    known = characters(start)
    write_ngrams(start / "ngrams.lm", estimate([known[n : n + 3] for n in range(20)], 2))
    with (start / "config.yaml").open("a") as file:
        file.write("lm_weight: 5.0\n")
    (tmp_path / "new").write_text("龘\n", "utf8")
    assert extend(start, out, f"tokens={tmp_path / 'new'}") == 0
    assert (out / "ngrams.lm").read_bytes() == (start / "ngrams.lm").read_bytes()
    assert yaml.safe_load((out / "config.yaml").read_text("utf8"))["lm_weight"] == 5.0
    before, after = (
        AutoModel(str(each), device="cpu", disable_pbar=True).generate(str(CLIPS[0]))[0]["text"]
        for each in (start, out)
    )
    assert after == before != plain[0]["text"]
    table = NgramTable(out / "ngrams.lm")
    assert [*table.places(["龘", known[0]])] == [*table.places(["<unk>", known[0]])]


def test_words_get_their_pieces_and_text_its_characters(tmp_path):
    start, out = ORACLE / "paraformer", tmp_path / "out"
    known = characters(start)[0]
    (tmp_path / "new").write_text(f"Paraformer para@@ former\n{known}\n", "utf8")
    texts = {"a": f"龘龘{known}，", "b": "囧龘", "c": "é…"}
    write_table(tmp_path / "text", texts)
    options = (f"tokens={tmp_path / 'new'}", f"text={tmp_path / 'text'}")
    extend(start, out, *options, "min_count=2")
    tokenizer = load_directory(out).tokenizer
    old = len(load_directory(start).tokenizer)
    assert tokenizer.tokens[old:] == ["para@@", "former", "龘"]
    assert tokenizer.encode(f"{known}龘 PARAFORMER") == [
        load_directory(start).tokenizer.encode(known)[0],
        old + 2,
        old,
        old + 1,
    ]
    assert tokenizer.unknown("龘囧，") == ["囧", "，"]
    assert extend(start, out, *options, "min_count=2") == 0  # the same again
    with pytest.raises(ConfigError, match=r"out: was made with .* tokens, others than"):
        extend(start, out, *options, "min_count=1")


def test_a_copy_of_another_model_is_not_taken_for_the_start(tmp_path):
    assert extend(ORACLE / "fa-zh", tmp_path / "aligner") == 0  # nothing to say, nothing to add
    assert changed(ORACLE / "fa-zh", tmp_path / "aligner") == set()
    extend(ORACLE / "paraformer", tmp_path / "out")
    assert changed(ORACLE / "paraformer", tmp_path / "out") == set()
    other = tmp_path / "other"
    shutil.copytree(ORACLE / "paraformer", other)
    state = weights(other)
    state["decoder.output_layer.bias"] += 1.0
    torch.save(state, other / "model.pt")
    with pytest.raises(ConfigError, match="out: was made of another model"):
        extend(other, tmp_path / "out")
    (tmp_path / "new").write_text("龘\n", "utf8")
    with pytest.raises(CheckpointError, match="only a recogniser has tokens to say"):
        extend(ORACLE / "fa-zh", tmp_path / "more", f"tokens={tmp_path / 'new'}")


def test_tokens_put_into_the_list_by_hand_get_rows(tmp_path, caplog):
    start, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(ORACLE / "paraformer", start)
    tokens = json.loads((start / "tokens.json").read_text("utf8"))
    (start / "tokens.json").write_text(json.dumps([*tokens, "龘", "囧", "蛬"]), "utf8")
    with pytest.raises(CheckpointError, match="misshapes 3 parameters"):
        load_directory(start)
    with caplog.at_level(logging.INFO):
        extend(start, out)
    assert "3 new rows: 龘 囧 蛬" in caplog.text
    assert load_directory(out).tokenizer.encode("囧") == [len(tokens) + 1]
    shifted = [*tokens[:-1], "龘", tokens[-1]]  # in front of <unk>, whose row this would be
    (start / "tokens.json").write_text(json.dumps(shifted), "utf8")
    with pytest.raises(CheckpointError, match="put new tokens behind all the old ones"):
        extend(start, tmp_path / "other")


def test_rows_of_new_tokens_learn_faster(tmp_path):
    """A token that is all there is to say gets likelier at a rate of its own."""
    start = tmp_path / "start"
    (tmp_path / "new").write_text("龘\n", "utf8")
    extend(ORACLE / "paraformer", start, f"tokens={tmp_path / 'new'}")
    data = write_data(tmp_path / "data", start)
    write_table(data / "text", dict.fromkeys(read_table(data / "text"), "龘" * 6))
    likely = [scores(start)[0][:, -1].mean()]
    for run, count in (("as all", 0), ("faster", 1)):
        folder = tmp_path / run.replace(" ", "_")
        paths = [f"init={start}", f"data={data}", f"dev={data}", f"dir={folder}"]
        own = (f"new_tokens.count={count}", "+overrides.model_conf.sampling_ratio=0.0")
        train(configured("finetune", *paths, *QUICK, *own))
        ends = (f"dir={folder}", f"out={folder}/final", "keep_start=false", "mixes=[1.0]")
        select_model(configured("select_model", *ends))
        likely.append(scores(folder / "final")[0][:, -1].mean())
    assert likely[2] - likely[0] > max(0.2, 3 * float(likely[1] - likely[0]))


def test_a_hotword_model_learns_new_tokens_and_hears_by_the_old_ones_as_before(tmp_path):
    start, folder = tmp_path / "start", tmp_path / "run"
    (tmp_path / "new").write_text("龘\n", "utf8")
    extend(ORACLE / "seaco", start, f"tokens={tmp_path / 'new'}")
    data = write_data(tmp_path / "data", start)
    write_table(data / "text", dict.fromkeys(read_table(data / "text"), "龘" * 6))
    paths = [f"init={start}", f"data={data}", f"dev={data}", f"dir={folder}"]
    train(configured("finetune", *paths, *QUICK, "new_tokens.count=1"))
    ends = (f"dir={folder}", f"out={folder}/final", "keep_start=false", "mixes=[1.0]")
    select_model(configured("select_model", *ends))
    before, after = (weights(d)["decoder.embed.0.weight"] for d in (start, folder / "final"))
    assert torch.equal(after[:-1], before[:-1])
    assert not torch.equal(after[-1], before[-1])


def test_the_bundled_model_learns_what_it_is_told(tmp_path):
    """Two sentences with adapters, in half precision; all else that its directory has stays."""
    start, final = BUNDLED / "paraformer-zh-mini", tmp_path / "final"
    spoken = read_table(ORACLE / "inputs/text")
    write_table(
        tmp_path / "data/wav.scp", {key: str(ORACLE / f"inputs/{key}.flac") for key in spoken}
    )
    write_table(tmp_path / "data/text", spoken)
    data, run = tmp_path / "data", tmp_path / "run"
    paths = ["init=paraformer-zh-mini", f"data={data}", f"dev={data}", f"dir={run}"]
    more = ("optim.lr=0.003", "optim.warmup_steps=1", "training.max_epoch=3", "device=cpu")
    train(configured("finetune", *paths, "lora.rank=4", *more))
    ends = (f"dir={run}", f"out={final}", "num=1", "mixes=[1.0]")
    select_model(configured("select_model", *ends))
    rows = (run / "selection.tsv").read_text("utf8").splitlines()
    scores = [tuple(map(float, row.split("\t")[1:])) for row in rows[1:]]
    assert min(scores) < scores[0]  # the start stands first
    for name in ("seg_dict", "tokens.json", "config.yaml"):
        assert (final / name).read_text("utf8") == (start / name).read_text("utf8")
    assert (final / "model.pt").stat().st_size <= 1.05 * (start / "model.pt").stat().st_size
    card = (start / "README.md").read_text("utf8").rstrip("\n")
    assert (final / "README.md").read_text("utf8").startswith(card)
    assert changed(start, final)
