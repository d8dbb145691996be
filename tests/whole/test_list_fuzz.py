"""Lists and command lines with damage of every kind, from a fixed seed: an item or one clear error
for each line, no traceback, and no good line lost.

PARAFORMER_FUZZ=20000 tries so many of each instead of a few.
"""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
import soundfile

from paraformer import options as opts
from paraformer.cli import main as cli
from paraformer.data.inputs.sources import Inputs
from paraformer.errors import CheckpointError, ParaformerError
from paraformer.limits import check_fields

EXAMPLES = int(os.environ.get("PARAFORMER_FUZZ", "0")) or 300
ODD = [*"\ufeff\t \r\0\x0b\x0c\x85\u2028\u3000|\"'{}[],:/\\*?~$%#=+-汉\ud800😀"]
ODD += ["..", "null", "true", "NaN", "1e999", "-1", "0", "9" * 400, ".wav", ".ark:9", "\\u0000"]
ODD += ["\\ud800", '"key"', '"source"', "x" * 300, "[" * 2000]
LINES = {
    "wav.scp": ["m{n} a.wav", "m{n}\ta.wav", "a.wav", "b c.wav", "m{n} x.ark:12", "m{n}", "m{n} /"],
    "l.jsonl": [
        '{{"key": "m{n}", "source": "a.wav"}}',
        '{{"key": "m{n}", "source": "a.wav", "target": "好"}}',
        '"a.wav"',
        '{{"source": ["a.wav", 7]}}',
        '{{"key": {n}, "source": {{"a": null}}}}',
    ],
    "segments": ["m{n} r 0 0.1", "m{n} r 0.1 -1", "m{n} q 0 1", "m{n} r 5 2", "m{n} r a b"],
}
GOOD = {
    "wav.scp": "good{n} a.wav",
    "l.jsonl": '{{"key": "good{n}", "source": "a.wav"}}',
    "segments": "good{n} r 0 0.1",
}


def mutated(text, source):
    """A text with some of its characters left out, doubled, or made odd."""
    for _ in range(source.randint(0, 4)):
        place = source.randint(0, len(text))
        kind = source.randint(0, 3)
        if kind == 0:
            text = text[:place] + text[place + source.randint(1, 5) :]
        elif kind == 1:
            text = text[:place] + text[max(0, place - 3) :]
        else:
            text = text[:place] + source.choice(ODD) + text[place:]
    return text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    for name in ("a.wav", "b c.wav"):
        soundfile.write(tmp_path / name, noise, 16000, subtype="PCM_16")
    return tmp_path


@pytest.mark.parametrize("name", list(LINES))
def test_no_damage_to_a_list_costs_a_good_line(folder, name):
    source = random.Random(name)
    for _ in range(EXAMPLES):
        rows, good = damaged(name, source)
        end = source.choice(["\n", "\r\n"])
        content = (end.join(rows) + source.choice(["", end])).encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(content)
        if name == "segments":
            (folder / "wav.scp").write_text("r a.wav\nr2 a.wav\n")
        listed = "wav.scp" if name == "segments" else name
        try:
            items = list(Inputs(listed))
        except ParaformerError as error:
            assert "not UTF-8" in str(error) and b"\xed\xa0\x80" in content, content
            assert "\n" not in str(error)
            continue
        keys = [item.key for item in items]
        assert [key for key in keys if key in good] == good, content
        assert all(keys), content
        for item in items:
            if "|" not in str(item.source):  # what a damaged line would run, nobody knows
                assert heard(item) or item.key not in good, content


def damaged(name, source):
    """Lines of which some are good, and the ids of these."""
    rows, good = [], []
    for n in range(source.randint(2, 8)):
        if n == 1 or source.random() < 0.4:
            rows.append(GOOD[name].format(n=n))
            good.append(f"good{n}")
        else:
            row = mutated(source.choice(LINES[name]).format(n=n), source)
            rows.append(row.replace("\n", " "))
    return rows, good


def heard(item):
    """Whether an item can be read; else it has one line that says why."""
    try:
        return len(item.read(None, 16000)) > 0
    except ParaformerError as error:
        assert str(error).strip()
        return False


ARGUMENTS = ["+model=m", "+input=a.wav", "++fs=8000", "--nbest", "2", "-f", "json", "a.wav"]
ARGUMENTS += ["--channel=split", "+hotword=阿里 a=b", "vad_kwargs.max_end_silence_time=200", "--"]
ARGUMENTS += ["+chunk_size=[0,10,5]", "nj=2", "+min_success=0.5", "--strict", "-o", "out", "-v"]
ARGUMENTS += ["frontend_conf.dither=0", "key=[a,b]", "+batch_size_s=1e3", "resume=true"]


def test_no_command_line_gives_a_traceback(folder, monkeypatch, capsys):
    """Arguments are taken apart and checked as far as that goes without a model."""

    def find_model(*_, **__):
        raise CheckpointError("m: no such model")

    def recognise(inputs, command, settings, named):
        known = {k: v for k, v in settings.items() if k in opts.names(opts.CallOptions)}
        check_fields(opts.CallOptions(**known))
        return 0

    monkeypatch.setattr("paraformer.hub.directories.find_model", find_model)
    monkeypatch.setattr("paraformer.cli.recognition.recognise", recognise)
    source = random.Random(7)
    for _ in range(EXAMPLES):
        chosen = [source.choice(ARGUMENTS) for _ in range(source.randint(0, 5))]
        arguments = [mutated(argument, source) for argument in chosen]
        code = cli.main(arguments)
        said = capsys.readouterr().err
        assert code in (0, 1), arguments
        assert said.count("\n") == (1 if code else 0), (arguments, said)


def test_lists_of_entries_without_end_are_errors_of_their_own(folder):
    """Deep nesting, in a document and in a line."""
    deep = "[" * 100_000
    (folder / "l.json").write_text(f"{deep}\n{json.dumps({'key': 'good', 'source': 'a.wav'})}\n")
    bad, good = Inputs("l.json")
    assert heard(good) and not heard(bad)
