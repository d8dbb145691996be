"""`funasr` in processes of its own, as users start it, and in this one for the rest."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from paraformer import AutoModel
from paraformer.cli.main import main
from paraformer.hub.directories import BUNDLED
from tests.conftest import ROOT

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
CLIPS = [INPUTS / f"clip_{x}.flac" for x in "abc"]
EXPECTED = json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))["utt"]
TEXTS = [EXPECTED[path.stem]["result"][0]["text"] for path in CLIPS]
LINES = "".join(f"{path.stem} {text}\n" for path, text in zip(CLIPS, TEXTS, strict=True))
DOOR = [sys.executable, str(ROOT / "bin" / "funasr.py")]


def start(*arguments, cwd, program=DOOR, stdin=None, **environment):
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        input=stdin,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
    )


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of the command in this process."""
    code = main([f"+model={MODEL}", "+device=cpu", *map(str, arguments)])
    return (code, *capsys.readouterr())


@pytest.mark.cli
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_names_of_all_kinds_from_another_folder(tmp_path, locale):
    """K03; and nothing is left in the folder."""
    name = "空 格=名字(1),[2].wav"
    soundfile.write(tmp_path / name, *soundfile.read(CLIPS[0]))
    done = start(f"+model={MODEL}", f"+input={name}", cwd=tmp_path, LC_ALL=locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8") == f"{TEXTS[0]}\n"
    assert done.stderr == b""
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.cli
def test_the_package_is_the_command_too(tmp_path):
    program = [sys.executable, "-m", "paraformer"]
    done = start("--model", MODEL, "-", cwd=ROOT, program=program, stdin=CLIPS[0].read_bytes())
    assert done.stdout.decode("utf-8") == f"{TEXTS[0]}\n", done.stderr


@pytest.mark.cli
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_goes_on_with_resume(tmp_path, number, code, capsys):
    rows = [f"{path.stem} {path}\n" for path in CLIPS]
    listed = tmp_path / "l.scp"
    listed.write_text("".join([*rows[:2], "clip_c sleep 200; false |\n"]))
    out = tmp_path / "out"
    options = [f"+model={MODEL}", f"+input={listed}", f"+output_dir={out}", "+batch_size_s=0.1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A job in the background inherits that SIGINT is ignored; a command in a terminal does not.
    pipes["preexec_fn"] = lambda: signal.signal(number, signal.SIG_DFL)
    with subprocess.Popen([*DOOR, *options, "+device=cpu"], **pipes, cwd=tmp_path) as process:
        shown = [process.stdout.readline().decode() for _ in range(2)]
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    assert process.returncode == code
    assert said.decode() == f"funasr: stopped; what is finished is in {out}, +resume=true goes on\n"
    written = out / "1best_recog" / "text"
    assert written.read_text("utf-8") == "".join(shown) == "".join(LINES.splitlines(True)[:2])
    listed.write_text("".join(rows))
    last = LINES.splitlines(True)[2]
    assert call(capsys, *options, "+resume=true")[:2] == (0, last)
    assert written.read_text("utf-8") == LINES
    assert call(capsys, *options, "+resume=true")[:2] == (0, "")


@pytest.mark.cli
def test_help_does_not_load_torch(tmp_path):
    code = "import sys; from paraformer.cli.main import main; main(['--help']); "
    code += "print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])"
    done = start("-c", code, cwd=ROOT, program=[sys.executable])
    assert done.stdout.decode().splitlines()[-1] == "[]"


@pytest.mark.cli
def test_a_reader_that_stops_early_is_no_error(tmp_path):
    command = f"'{DOOR[0]}' '{DOOR[1]}' --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=300)
    assert b"Traceback" not in done.stderr


def test_one_recording_prints_its_text_alone(capsys):
    assert call(capsys, CLIPS[0]) == (0, f"{TEXTS[0]}\n", "")


def test_a_list_on_stdin_is_no_audio(capsys, monkeypatch):
    for text in ("u1 a.wav\n", "好" * 3000):
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, err = call(capsys, "-", CLIPS[0])
        assert (code, out) == (1, "")
        assert err.startswith("funasr: -: text came on stdin, not audio; give a list as a file")


def test_each_channel_has_a_line(capsys, tmp_path):
    """A call of two people is what each of them says alone."""
    sounds = [soundfile.read(path)[0] for path in CLIPS[:2]]
    most = max(map(len, sounds))
    columns = np.stack([np.pad(sound, (0, most - len(sound))) for sound in sounds], axis=1)
    soundfile.write(tmp_path / "call.wav", columns, 16000)
    alone = []
    for name, column in zip("lr", columns.T, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", column, 16000)
        alone.append(call(capsys, tmp_path / f"{name}.wav")[1])
    stereo, out = tmp_path / "call.wav", tmp_path / "out"
    options = ["--channel", "split", f"+output_dir={out}"]
    lines = f"call_ch0 {alone[0]}call_ch1 {alone[1]}"
    assert call(capsys, stereo, *options) == (0, lines, "")
    assert (out / "1best_recog" / "text").read_text("utf-8") == lines
    (out / "1best_recog" / "token").write_bytes(
        (out / "1best_recog" / "token").read_bytes().splitlines(keepends=True)[0]
    )
    again = call(capsys, stereo, *options, "+resume=true", "-f", "json")
    result = json.loads(again[1])
    assert (result["key"], result["channel"]) == ("call_ch1", 1)
    assert (out / "1best_recog" / "text").read_text("utf-8") == lines
    assert call(capsys, stereo, "channel=1") == (0, alone[1], "")
    code, shown, err = call(capsys, stereo, "channel=left")
    assert (code, shown) == (1, "")
    assert err == "funasr: channel: 'left'; give mix, split or a number from 0\n"


def test_several_print_their_keys(capsys, tmp_path):
    assert call(capsys, *CLIPS) == (0, LINES, "")
    assert call(capsys, f"+input={INPUTS}") == (0, LINES, "")
    scp = tmp_path / "wav.scp"
    scp.write_bytes("\ufeff".encode() + "".join(f"{p.stem} {p}\r\n" for p in CLIPS).encode())
    assert call(capsys, f"++input={scp}") == (0, LINES, "")


def test_the_command_gives_what_the_library_gives(capsys):
    code, out, _ = call(capsys, *CLIPS, "--output-format", "json", "--nbest", "2")
    assert code == 0
    results = AutoModel(MODEL, device="cpu").generate(CLIPS, nbest=2)
    assert [json.loads(line) for line in out.splitlines()] == results


def test_a_single_failure_is_one_line(capsys, tmp_path, caplog):
    code, out, _ = call(capsys, tmp_path / "missing.wav")
    assert (code, out) == (1, "")
    assert len(caplog.records) == 1
    code, out, _ = call(capsys, tmp_path / "missing.wav", "-f", "json")
    assert code == 1
    assert json.loads(out)["text"] == "" and "missing.wav" in json.loads(out)["error"]


@pytest.fixture
def bad_list(tmp_path):
    """Two sound lines; a missing, an empty and a doubled one."""
    (tmp_path / "empty.wav").write_bytes(b"")
    lines = [f"u1 {CLIPS[0]}", "u2 missing.wav", "u3 empty.wav", f"u1 {CLIPS[1]}"]
    (tmp_path / "wav.scp").write_text("\n".join([*lines, f"u5 {CLIPS[2]}"]))
    return tmp_path / "wav.scp"


def test_the_rest_of_a_list_is_recognised(capsys, bad_list, caplog):
    code, out, err = call(capsys, f"+input={bad_list}")
    assert code == 1
    assert out.splitlines() == [f"u1 {TEXTS[0]}", "u2", "u3", "u1", f"u5 {TEXTS[2]}"]
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["'u2'", "'u3'", "'u1'"]
    assert err.endswith("recognised 2 of 5 utterances\n")


def test_how_many_must_succeed_is_an_option(capsys, bad_list):
    assert call(capsys, bad_list, "min_success=0.4")[0] == 0
    assert call(capsys, bad_list, "min_success=0.5")[0] == 1
    code, out, err = call(capsys, bad_list, "strict=true")
    assert code == 1 and out == f"u1 {TEXTS[0]}\n" and "stopped at 'u2'" in err


def test_verbose_says_seconds_and_real_time_factor(capsys):
    _, out, err = call(capsys, *CLIPS, "+verbose=true")
    assert out == LINES
    assert "recognised 3 of 3 utterances, 7.1 s of audio in " in err
    assert "real-time factor" in err


def test_keys_of_the_model_are_typed_and_nested(capsys):
    code, out, _ = call(capsys, CLIPS[0], "++predictor_conf.tail_threshold=0", "encoder_conf.x=1")
    assert code == 1 and out == ""
    changed = call(capsys, CLIPS[0], "++predictor_conf.tail_threshold=0")
    model = AutoModel(MODEL, device="cpu", predictor_conf={"tail_threshold": 0.0})
    assert changed == (0, model.generate(CLIPS[0])[0]["text"] + "\n", "")


def test_unknown_keys_name_the_nearest(capsys):
    for given, meant in (("devise=cpu", "device"), ("decoder_conf.num_blok=1", "num_blocks")):
        code, out, err = call(capsys, CLIPS[0], f"+{given}")
        assert (code, out) == (1, "")
        assert meant in err and err.count("\n") == 1


def test_silence_is_no_error(capsys, tmp_path):
    soundfile.write(tmp_path / "s.wav", np.zeros(10), 16000)
    assert call(capsys, tmp_path / "s.wav") == (0, "\n", "")


def test_a_folder_of_results(capsys, tmp_path):
    assert call(capsys, *CLIPS, f"+output_dir={tmp_path / '结 果'}")[0] == 0
    text = (tmp_path / "结 果" / "1best_recog" / "text").read_text(encoding="utf-8")
    assert text == LINES


def test_a_model_without_weights_is_refused(capsys, tmp_path):
    shutil.copytree(MODEL, tmp_path / "m")
    (tmp_path / "m" / "model.pt").unlink()
    assert main([f"+model={tmp_path / 'm'}", str(CLIPS[0])]) == 1
    assert "model.pt: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nbest=1.5", "nbest=1.5: give a whole number from 1 to 10000"),
        ("beam_size=0", "beam_size=0: give a whole number from 1 to 10000"),
        ("decoding_ctc_weight=nan", "give a number from 0 to 1"),
        ("batch_size=0", "batch_size=0: give a whole number from 1 to 1000000"),
        ("batch_size_s=nan", "batch_size_s=nan: give a number above 0"),
        ("penalty=nan", "penalty=nan: give a number"),
        ("min_success=2", "min_success=2.0: give a number from 0 to 1"),
        ("ncpu=1000000", "ncpu=1000000: give a whole number from 1 to 1024"),
        ("fs=0", "fs=0: give a whole number from 1 to 1000000"),
        ("segments=nowhere", "nowhere: no such file of segments"),
        ("encoder_conf.attention_heads=3", "does not divide the width 32"),
        ("frontend_conf.lfr_m=0", "frontend_conf.lfr_m=0: give a whole number|frontend.lfr_m=0"),
        (f"init_param={CLIPS[0]}", "clip_a.flac: no weights can be read from it"),
        (f"output_dir={CLIPS[0]}", "clip_a.flac: is a file; give another folder"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(capsys, argument, message):
    code, out, err = call(capsys, CLIPS[0], f"+{argument}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search(f"^funasr: .*({message})", err)


def test_names_that_are_not_utf8_are_read_and_written(capsys, caplog, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.flac")
    shutil.copy(CLIPS[0], odd)
    missing = os.fsdecode(b"\xfe.wav")
    code, out, _ = call(capsys, odd, missing, f"+output_dir={tmp_path / 'out'}", "+min_success=0")
    assert (code, out) == (0, f"x\\xff {TEXTS[0]}\n\\xfe\n")
    assert "No such file" in caplog.text
    text = (tmp_path / "out" / "1best_recog" / "text").read_text("utf-8")
    assert text == out
    assert (tmp_path / "out" / "failed").read_text("utf-8").startswith("\\xfe ")


@pytest.mark.parametrize("switch", ["disable_log=true", "log_level=ERROR"])
def test_whoever_asks_for_silence_is_not_told_of_hotwords(capsys, caplog, switch):
    assert call(capsys, CLIPS[0], "+hotword=好 @@@")[0] == 0
    assert "1 hotwords: 好" in caplog.text
    caplog.clear()
    assert call(capsys, CLIPS[0], "+hotword=好 @@@", switch)[0] == 0
    assert caplog.text == ""


@pytest.mark.parametrize("given", [(), ("+data_type=[sound,text]",)])
def test_one_recording_and_its_text_are_one_input_of_an_aligner(capsys, tmp_path, given):
    script = "“请把窗户关上”，外面：的风——太《大》了！"
    (tmp_path / "text.txt").write_text(script + "\n", "utf-8")
    clip = BUNDLED / "paraformer-zh-mini/example/demo_2.wav"
    ask = ["--model", "fa-zh-mini", str(clip), str(tmp_path / "text.txt"), *given]
    assert main([*ask, "--output-format", "srt"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [script, ""]
    assert main(ask) == 0
    assert capsys.readouterr().out.startswith("请 ")  # no id: it is alone
