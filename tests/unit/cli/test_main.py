"""The `funasr` command before a model is loaded: help, version, mistakes and stops."""

from __future__ import annotations

import pytest

from paraformer import options as opts
from paraformer.cli.ends import Terminated
from paraformer.cli.main import main


def test_help_names_every_key(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    kinds = (opts.CommandOptions, opts.BuildOptions, opts.CallOptions)
    for name in opts.names(*kinds):
        assert f"  {name}=" in shown
    defaults = ("chunk_size=[0,10,5]", "vad_kwargs= ", "batch_size=64", "merge_vad=false", "fs= ")
    assert all(f"  {default}" in shown for default in defaults)
    assert "dataclasses" not in shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("funasr (paraformer-toolkit) ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no input"),
        (["inpt=x.wav"], "did you mean 'input'?"),
        (["+modle=x", "a.wav"], "unknown key 'modle'; did you mean 'model'?"),
        (["+model=nowhere", "a.wav"], "no such directory or name"),
        (["+spk_model=cam++", "a.wav"], "spk_model: hears the segments of a VAD; give vad_model"),
        (["+output_format=ass", "a.wav"], "use text, json, srt, "),
        (["+output_format=srt", "a.wav", "b.wav"], "give output_dir=FOLDER"),
        (["+nbest=many", "a.wav"], "nbest=many: not a number"),
        (["+model=paraformer-zh", "+offline=true", "a.wav"], "not on this machine"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(capsys, argv, message):
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("funasr: ") and err.count("\n") == 1


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_stop_before_there_are_results_is_said_too(monkeypatch, capsys, stop, code):
    def stopped(arguments):
        raise stop

    monkeypatch.setattr("paraformer.cli.main._main", stopped)
    assert main(["x.wav"]) == code
    assert capsys.readouterr() == ("", "funasr: stopped\n")


def test_a_language_that_has_no_effect_is_said(caplog):
    assert main(["+language=auto", "+model=nowhere", "a.wav"]) == 1
    assert caplog.messages == []
    assert main(["-l", "Klingon", "+model=nowhere", "a.wav"]) == 1
    assert caplog.messages == ["language=Klingon: has no effect; a model hears what it has learnt"]
