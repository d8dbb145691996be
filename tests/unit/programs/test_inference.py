"""What the programs that run a model share: options said once, one folder, one way to count."""

from __future__ import annotations

import json
import logging

import pytest
from omegaconf import OmegaConf

from paraformer import options as opts
from paraformer.errors import ConfigError, DataError
from paraformer.output.result import Result
from paraformer.output.sink import Results
from paraformer.programs.hydra_main import defaults_of
from paraformer.programs.inference import STATS, Tally, keywords, result_folder

PROGRAMS = ("decode", "decode_streaming", "align", "segment", "punctuate")
KNOWN = opts.all_fields(opts.BuildOptions, opts.CallOptions, opts.ProgramOptions)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_default_is_that_of_the_option(program):
    """null: what the option says where nothing is given."""
    values = defaults_of(program)
    if program == "segment":
        assert values.pop("rttm") is False  # whether it writes one, not a file to read
    for name in values.keys() & KNOWN.keys():
        default = opts.default_of(KNOWN[name])
        assert values[name] == (None if values[name] is None else default), name
        assert values[name] is not None or default in (None, ""), name


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_takes_a_model_of_a_hub(program):
    assert {"model", "hub", "model_revision", "offline"} <= defaults_of(program).keys()
    assert program == "punctuate" or {"channel", "resume"} <= defaults_of(program).keys()


def test_keywords_of_a_configuration():
    config = OmegaConf.create({**defaults_of("decode"), "num_threads": 3, "batch_frames": 1234})
    given = keywords(config)
    assert (given["ncpu"], given["batch_size_s"], given["batch_size"]) == (3, 12.34, 64)
    assert not {"vad_model", "hotword", "fs", "model", "data", "num_threads"} & given.keys()
    for wrong in ({"batch_frames": 0}, {"num_threads": -1}, {"min_success": 2}, {"nbest": 0}):
        (name,) = wrong
        with pytest.raises(ConfigError, match=f"^{name}={wrong[name]}: give a "):
            keywords(OmegaConf.merge(config, wrong))
    with pytest.raises(ConfigError, match="output_format=x: not known"):
        keywords(OmegaConf.merge(config, {"output_format": "x"}))


def test_results_do_not_go_into_the_data(tmp_path):
    with pytest.raises(ConfigError, match="is the data directory, whose text would be lost"):
        result_folder(str(tmp_path), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="give another folder"):
        result_folder(str(tmp_path / "file"), tmp_path)


def test_what_is_counted(tmp_path, caplog):
    found = [Result("a", seconds=1.5, words=[{}]), Result("b", error="lost"), Result("c")]
    tally = Tally(4)
    with caplog.at_level(logging.WARNING):
        assert [r.key for r in tally.counting(Results(iter(found)))] == ["a", "b", "c"]
    assert caplog.messages == ["utterance 'b': lost"]
    assert (tally.done, tally.seconds, tally.words, tally.failed) == (2, 1.5, 1, {"b": "lost"})
    assert [tally.code(share) for share in (0.5, 0.51)] == [0, 1]
    tally.elapsed = 3.0
    tally.write(tmp_path, {"model": "m"}, "decoded", {"more": None})
    assert json.loads((tmp_path / STATS).read_text()) == {
        "model": "m",
        "utterances": 4,
        "decoded": 2,
        "audio_seconds": 1.5,
        "elapsed_seconds": 3.0,
        "rtf": 2.0,
        "more": None,
    }
