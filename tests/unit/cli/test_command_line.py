"""The command line of `funasr` taken apart, without a model."""

from __future__ import annotations

import pytest

from paraformer.cli.command_line import Arguments, parse, type_known
from paraformer.errors import ConfigError, ParaformerError


def test_all_prefixes_are_equal():
    for form in (["{}=x"], ["+{}=x"], ["++{}=x"], ["--{}=x"], ["--{}", "x"]):
        argv = [part.format("device") for part in form]
        assert parse(argv) == Arguments(values={"device": "x"})


@pytest.mark.parametrize(
    "value",
    [
        "阿里巴巴",
        "a b",
        "a,b",
        "a=b",
        "[1,2]",
        "{x}",
        "it's",
        '"q"',
        "${x}",
        "\\",
        "007",
        "",
        "null",
    ]
    + [r"C:\会议\1.wav", "https://h/x?a=1&b=2", "录音(1).wav", "-", "--x", "~", "a\nb"],
)
def test_every_value_arrives_intact(value):
    assert parse([f"+key={value}"]).values == {"key": value}
    assert parse([f"+input={value}"]).inputs == [value]
    assert type_known({"key": value})[0] == {"key": value}


def test_short_and_dashed_options():
    argv = ["-m", "dir", "-f", "json", "--output-dir", "o", "-v", "x.wav", "--model-hub", "hf"]
    arguments = parse(argv)
    assert arguments.inputs == ["x.wav"]
    assert arguments.values == {
        "model": "dir",
        "output_format": "json",
        "output_dir": "o",
        "verbose": "true",
        "hub": "hf",
    }


def test_switches_take_a_value_only_if_it_is_one():
    assert parse(["--strict", "false", "a"]).values == {"strict": "false"}
    assert parse(["--strict", "a.wav"]) == Arguments(["a.wav"], {"strict": "true"})


def test_an_existing_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.wav", "-x.wav", "+c=d"):
        (tmp_path / name).write_bytes(b"")
        assert parse([name]).inputs == [name]
    assert parse(["--", "--help", "k=v"]).inputs == ["--help", "k=v"]


def test_home_is_that_of_the_user_where_a_path_is_meant(monkeypatch):
    """A shell does not put it in behind `+key=`."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    found = parse(["+input=~/a.wav", "~/b.wav", "+output_dir=~/out", "--model", "~/m", "+key=~/k"])
    assert found.inputs == ["/home/me/a.wav", "~/b.wav"]
    assert found.values == {"output_dir": "/home/me/out", "model": "/home/me/m", "key": "~/k"}


def test_values_are_typed_by_their_parameter():
    typed, rest = type_known(
        {"key": "007", "fs": "8000", "nbest": "3", "min_success": "0.5", "strict": "yes"}
        | {"encoder_conf.num_blocks": "2", "disable_update": "true", "ncpu": "null"}
    )
    assert typed == {
        "key": "007",
        "fs": 8000,
        "nbest": 3,
        "min_success": 0.5,
        "strict": True,
        "ncpu": None,
    }
    assert rest == {"encoder_conf.num_blocks": "2"}


@pytest.mark.parametrize("value", [{"nbest": "x"}, {"strict": "maybe"}, {"ncpu": "all"}])
def test_values_of_the_wrong_type_are_refused(value):
    with pytest.raises(ConfigError):
        type_known(value)


@pytest.mark.parametrize("argv", [["--unknown-thing"], ["-q"], ["--device"]])
def test_options_that_are_not_known_are_refused(argv):
    with pytest.raises(ParaformerError):
        parse(argv)
