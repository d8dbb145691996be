"""Arguments of the commands: every value arrives as it was given, with the type of its default."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from paraformer.cli.arguments import parse_override, quote, typed
from paraformer.errors import ConfigError, DataError
from paraformer.options import nearest
from paraformer.programs import hydra_main

SHELL_VALUES = [
    "阿里巴巴 达摩院",
    "录音(1),[2].wav",
    "a=b,c=d",
    "{x: 1}",
    "https://host/a.wav?x=1&y=%20#t",
    r"C:\Users\名字\a b.wav",
    "ends with \\",
    'it\'s "quoted" \\\' \\"',
    "${data}/x \\${y} $HOME",
    "",
    " ",
    "007",
    "1e3",
    "null",
    "true",
    "~x",
    "*",
    "two\nlines\tand tab",
    "cmd -x | sox - -t wav - |",
]

anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder of configurations."""
    path = tmp_path_factory.mktemp("conf")
    (path / "model").mkdir()
    (path / "model/small.yaml").write_text("width: 16\nname: small\n")
    (path / "model/large.yaml").write_text("width: 512\nname: large\n")
    (path / "mine.yaml").write_text(
        "defaults: [model: small, _self_]\n"
        "text: x   # a comment for --help\nsteps: 3\nrate: 0.5\nshuffle: true\nlimit: null\n"
        "sets: [dev]\nsizes: [1]\nhalf: ${steps}\nout: exp/${text}\n"
    )
    (path / "derived.yaml").write_text("defaults: [score, _self_]\nref: r\nhyp: h\nraw: true\n")
    (path / "half.yaml").write_text(
        "defaults: [decode, _self_]\nmodel: m\ndata: d\nout: o\nbf16: true\n"
    )
    (path / "needs.yaml").write_text('ref: ???\nmodel: {width: "???"}\n')
    return path


@pytest.fixture
def call(folder, monkeypatch):
    """Run a function of the configuration as a program would with these arguments."""

    def with_arguments(*arguments, name="mine", function=None):
        seen: list[DictConfig] = []

        def keep(config: DictConfig) -> int | None:
            seen.append(config)
            return function(config) if function else None

        command = ["program", "--config-dir", str(folder), "--config-name", name, *arguments]
        monkeypatch.setattr("sys.argv", command)
        code = hydra_main.run("score", keep)
        return code, seen[0] if seen else None

    return with_arguments


@pytest.mark.parametrize("prefix", ["", "+", "++"])
@pytest.mark.parametrize("value", SHELL_VALUES)
def test_text_arrives_as_the_shell_gave_it(call, prefix, value):
    code, config = call(f"{prefix}text={value}")
    assert (code, config.text) == (0, value)


@given(anything)
def test_an_override_is_cut_at_its_first_equal_sign(value):
    assert parse_override(f"++a.b={value}") == ("++", "a.b", value)
    assert parse_override(f"/{value}") is None


@given(st.lists(anything, min_size=10, max_size=30))
@settings(max_examples=10)
def test_hydra_reads_quoted_values_as_they_were(folder, values):
    """Many at once: it takes long to begin."""
    overrides = [f"+text{number}={quote(value)}" for number, value in enumerate(values)]
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose("mine", overrides)
    assert [config[f"text{number}"] for number in range(len(values))] == values


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("steps=7", 7),
        ("steps=1e3", 1000),
        ("steps=0.5", 0.5),
        ("steps=-1", -1),
        ("steps=null", None),
        ("rate=2", 2.0),
        ("rate=1e-4", 1e-4),
        ("shuffle=False", False),
        ("shuffle=no", False),
        ("shuffle=1", True),
        ("limit=3", 3),
        ("limit=0.5", 0.5),
        ("limit=true", True),
        ("limit=007", "007"),
        ("limit=2.0.4", "2.0.4"),
        ("limit=exp/a", "exp/a"),
        ("limit=[1,a]", [1, "a"]),
        ("limit=[录音](1)]", "[录音](1)]"),
        ("sets=[dev,a b,007]", ["dev", "a b", "007"]),
        ("sets=a,b", ["a,b"]),
        ("sets=", []),
        ("sizes=[1,2]", [1, 2]),
        ("sizes=5", [5]),
        ("half=4", 4),
        ("out=5", "5"),
        ("model.width=20", 20),
        ("model.name=20", "20"),
    ],
)
def test_a_value_has_the_type_of_the_default(call, argument, value):
    code, config = call(argument)
    key = argument.split("=")[0].split(".")
    found = config[key[0]] if len(key) == 1 else config[key[0]][key[1]]
    assert (code, found) == (0, value)
    assert type(found) is type(value) or isinstance(value, list)


def test_dashes_are_as_good_as_none(call):
    code, config = call("--steps=7", "text=a", "--shuffle", "--model.width=20", "--out=--x=y z")
    assert (code, config.steps, config.shuffle, config.model.width) == (0, 7, True, 20)
    assert (config.text, config.out) == ("a", "--x=y z")
    assert call("--shuffle=false")[1].shuffle is False
    assert call("--pinyin", name="derived")[1].pinyin is True


def test_a_value_behind_a_blank_is_told_by_its_key(call, capsys):
    assert call("--out", "x") == (1, None)
    assert capsys.readouterr().err == "--out: needs a value; write out=VALUE\n"
    assert call("--stop-stage", "2") == (1, None)
    assert "unknown key 'stop_stage'" in capsys.readouterr().err


def test_what_is_not_overridden_stays_and_interpolates(call):
    _, config = call("text=new")
    assert (config.out, config.half, config.model.width) == ("exp/new", 3, 16)


def test_a_file_of_a_group_is_chosen_and_its_values_overridden(call):
    _, config = call("model=large", "model.width=8")
    assert config.model == {"width": 8, "name": "large"}


def test_a_new_key_needs_a_plus_and_a_part_to_stand_in(call, capsys):
    assert call("+model.dropout=0.1")[1].model.dropout == 0.1
    for argument in ("model.dropout=0.1", "+dropout=0.1", "++modle.width=1"):
        code, config = call(argument)
        assert (code, config) == (1, None)
    assert "unknown key 'modle.width'; did you mean 'model.width'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("step=7", "score: unknown key 'step'; did you mean 'steps'?"),
        ("zzz=7", "score: unknown key 'zzz'; `score --help` lists the known keys"),
        ("steps=many", "steps=many: not a number; its default is 3"),
        ("shuffle=maybe", "shuffle=maybe: neither true nor false"),
        ("sizes=[1,[2]", "sizes=[1,[2]: not a list"),
        ("model=huge", "Could not find 'model/huge'"),
        ("mine", "score: 'mine' is not key=value; see --help"),
        ("--step", "score: unknown key 'step'; did you mean 'steps'?"),
        ("--steps", "--steps: needs a value; write steps=VALUE"),
        ("--out", "--out: needs a value; write out=VALUE"),
        ("--model.dropout", "--model.dropout: needs a value"),
        ("-x", "score: '-x' is not key=value; see --help"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_1(call, capsys, argument, message):
    code, config = call(argument)
    captured = capsys.readouterr()
    assert (code, config, captured.out) == (1, None, "")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_mandatory_keys_are_asked_for_at_once(call, capsys):
    code, config = call(name="needs")
    assert (code, config) == (1, None)
    assert capsys.readouterr().err == "score: needs model.width=... ref=...; see --help\n"
    assert call("ref=1", "model.width=2", name="needs")[1].ref == "1"


def test_a_recipe_file_starts_from_one_of_the_package(call):
    code, config = call("hyp=x", name="derived")
    assert (code, config.ref, config.hyp, config.raw, config.pinyin) == (0, "r", "x", True, False)


def test_a_missing_recipe_file_is_named(call, capsys, folder):
    assert call(name="mime")[0] == 1
    assert capsys.readouterr().err.startswith(f"{folder}/mime.yaml: no such file")


def test_the_functions_code_is_returned_and_its_error_said_in_one_line(call, capsys):
    assert call(function=lambda config: 3)[0] == 3

    def fail(config):
        raise DataError("data/x: no such file;\n make it")

    assert call(function=fail)[0] == 1
    assert capsys.readouterr().err == "data/x: no such file; make it\n"


def test_help_shows_the_file_with_its_comments_and_cfg_the_result(call, capsys):
    assert call("--help") == (0, None)
    assert "text: x   # a comment for --help" in capsys.readouterr().out
    assert call("steps=9", "--cfg", "job")[0] == 0
    assert "steps: 9\n" in capsys.readouterr().out


def test_nothing_is_left_in_the_users_folder(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("text=x", function=lambda config: 0)
    assert list(tmp_path.iterdir()) == []


def test_nearest_looks_at_the_last_part_too():
    assert nearest("learning_rat", ["optim.learning_rate", "text"]) == "optim.learning_rate"
    assert nearest("optim.lr_rate", ["model.dim", "optim.rate"]) == "optim.rate"
    assert nearest("x", ["text", "optim.rate"]) is None


def test_typing_needs_no_hydra():
    assert typed("x", None) == "x"
    with pytest.raises(ConfigError, match="fs=x: not a number"):
        typed("x", 16000, "fs")


@pytest.mark.parametrize(
    "value", ["[" * 5000 + "]", "[2026-02-30]", "9" * 5000, "[" + "9" * 5000 + "]", "[0b]"]
)
def test_what_looks_like_a_list_or_a_number_may_be_text(value):
    assert typed(value, None) in (value, ["0b"])


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        ("", "bf16"),
        ("bf16=false", "fp32"),
        ("dtype=fp32", "fp32"),
        ("fp16=true bf16=false", "fp16"),
        ("dtype=fp16", "fp16"),
    ],
)
def test_a_number_format_of_a_file_gives_way_to_the_command_line(call, arguments, dtype):
    code, config = call(*arguments.split(), name="half")
    assert (code, config.dtype) == (0, dtype)
    assert not {"bf16", "fp16"} & set(config)


def test_number_formats_that_contradict_each_other_are_refused(call, capsys):
    code, _ = call("dtype=fp32", "bf16=true", name="half")
    assert code == 1 and "contradict each other" in capsys.readouterr().err
