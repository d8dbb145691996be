"""Quiet by rule: stdout has results and nothing else, no socket is opened for what is on this
machine, nothing outside of a model is changed by it, and no option of a call rules the next.
"""

from __future__ import annotations

import contextlib
import io
import json
import locale
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from paraformer import AutoModel, LivePipeline
from paraformer import options as opts
from paraformer.cli.main import main
from paraformer.data.text.ngram import arpa_lines, estimate
from paraformer.errors import ParaformerError
from paraformer.hub.directories import BUNDLED
from paraformer.programs import hydra_main
from tests.conftest import ROOT

CLIP = BUNDLED / "paraformer-zh-mini/example/asr_example.wav"
LONG = BUNDLED / "fsmn-vad-mini/example/vad_example.wav"
ALIGNED = (str(CLIP), str(BUNDLED / "fa-zh-mini/example/text.txt"))
ALL = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini"}
STREAM = {"chunk_size": [0, 10, 5]}


@pytest.fixture(scope="module")
def models() -> dict[str, AutoModel]:
    return {
        "plain": AutoModel("paraformer-zh-mini"),
        "all": AutoModel("paraformer-zh-mini", **ALL),
        "live": AutoModel("paraformer-zh-mini", second_pass="paraformer-zh-mini", **ALL, **STREAM),
        "vad": AutoModel("fsmn-vad-mini"),
        "marks": AutoModel("ct-punc-mini"),
        "aligner": AutoModel("fa-zh-mini"),
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Any]:
    """What each model is given."""
    folder = tmp_path_factory.mktemp("sources")
    wave, rate = soundfile.read(CLIP, dtype="float32")
    soundfile.write(folder / "two.wav", np.stack([wave, wave[::-1]], 1), rate)
    (folder / "wav.scp").write_text(f"one {CLIP}\n", "utf-8")
    (folder / "cut").write_text("half one 0 1.5\n", "utf-8")
    (folder / "arpa").write_text("\n".join(arpa_lines(estimate([["园", "园"]], 2))) + "\n", "utf-8")
    return {
        "plain": wave,
        "list": folder / "wav.scp",
        "two": str(folder / "two.wav"),
        "all": str(LONG),
        "live": str(LONG),
        "vad": str(LONG),
        "marks": "明天你有空吗我想请你吃饭",
        "aligner": ALIGNED,
        "cut": folder / "cut",
        "arpa": folder / "arpa",
    }


def silent_loop(models: dict[str, AutoModel], sources: dict[str, Any]) -> None:
    """Everything that a model can do, well and badly."""
    for name, model in models.items():
        model.generate(sources[name])
        with pytest.raises(ParaformerError):
            model.generate("no.scp", data_type="video")
    models["plain"].generate([str(CLIP), "missing.wav"], hotword="公园", nbest=2)
    models["all"].generate(sources["all"], sentence_timestamp=True)
    cache: dict[str, Any] = {}
    for piece in np.array_split(sources["plain"], 4):
        models["plain"].generate(piece, cache=cache, is_final=False, **STREAM)
    streamer = models["plain"].streamer(**STREAM)
    streamer.feed(sources["plain"])
    streamer.flush()
    session = models["live"].live()
    session.feed(sources["plain"])
    session.flush()


def state() -> dict[str, Any]:
    """All that a model could change behind its caller's back."""
    root, ours = logging.getLogger(), logging.getLogger("paraformer")
    numpy_state = np.random.get_state()
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backends": (torch.backends.cudnn.benchmark, torch.backends.mkldnn.enabled),
        "random of torch": torch.random.get_rng_state().tolist(),
        "random of numpy": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        "random": random.getstate(),
        "errors of numpy": np.geterr(),
        "printing": (repr(np.get_printoptions()), repr(torch._tensor_str.PRINT_OPTS)),
        "root logger": (root.level, list(root.handlers), logging.root.manager.disable),
        "our logger": (ours.level, list(ours.handlers), ours.propagate),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": list(warnings.filters),
        "signals": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "folder": Path.cwd(),
        "streams": (sys.stdout, sys.stderr, sys.excepthook, sys.path[:]),
        "time-out": socket.getdefaulttimeout(),
        "recursion": sys.getrecursionlimit(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def test_a_model_changes_nothing_outside_of_it(models, sources, capsys):
    before = state()
    AutoModel("paraformer-zh-mini", seed=3, **ALL)
    for name in ("fsmn-vad-mini", "ct-punc-mini", "fa-zh-mini"):
        AutoModel(name)
    LivePipeline(model="paraformer-zh-mini", vad_model="fsmn-vad-mini")
    assert changed(before, state()) == []
    silent_loop(models, sources)
    assert changed(before, state()) == []
    assert capsys.readouterr() == ("", "")


def test_a_change_is_seen(monkeypatch):
    """So that the test above cannot pass for want of eyes."""
    before = state()
    monkeypatch.setenv("PARAFORMER_X", "1")
    torch.rand(1)
    np.random.rand()
    assert changed(before, state()) == ["random of torch", "random of numpy", "environment"]


FRESH = """
import sys, torch, numpy, soundfile, kaldiio, tqdm, sentencepiece, yaml
sys.path.insert(0, {root!r})
from tests.whole.test_quiet import state, changed
for module in [m for m in sys.modules if m.split(".")[0] == "paraformer"]:
    del sys.modules[module]
before = state()
import paraformer.api.auto, paraformer.api.live, paraformer.cli.main
import paraformer.output.timed_formats
assert "pytest" in sys.modules
print(changed(before, state()))
"""


@pytest.mark.cli
def test_the_import_changes_nothing(tmp_path):
    done = run_python(FRESH.format(root=str(ROOT)), tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def run_python(code: str, folder: Path, *arguments: str, **environment: str):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_no_socket_is_opened_for_what_is_on_this_machine(models, sources, monkeypatch):
    asked: list[str] = []

    def refuse(name: str) -> Callable[..., None]:
        def call(*args: object, **keywords: object) -> None:
            asked.append(name)
            raise OSError(f"no {name} here")

        return call

    for name in ("getaddrinfo", "gethostbyname", "create_connection", "socketpair"):
        monkeypatch.setattr(socket, name, refuse(name))
    monkeypatch.setattr(socket.socket, "__init__", refuse("socket"))
    with pytest.raises(OSError, match="no socket here"):
        socket.socket()
    asked.clear()
    for folder in sorted(BUNDLED.glob("*/config.yaml")):
        AutoModel(str(folder.parent), hub="hf")
        AutoModel(folder.parent.name, model_revision="master", disable_update=False)
    silent_loop(models, sources)
    assert main(["completion", "bash"]) == 0
    assert main(["doctor"]) == 0
    assert asked == []


@pytest.mark.cli
def test_scoring_and_text_do_not_wait_for_torch(tmp_path):
    programs = ("compute_cer", "make_tokens", "make_arpa", "combine")
    code = "".join(f"import paraformer.programs.{name}; " for name in programs)
    done = run_python(code + "import sys; sys.exit('torch' in sys.modules)", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.cli
def test_a_process_without_sockets_recognises(tmp_path):
    """A call ends the process at once, so that nobody can catch it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, socket\n"
        "def refuse(*args, **keywords):\n    os._exit(99)\n"
        "socket.socket.__init__ = socket.getaddrinfo = socket.create_connection = refuse\n",
        "utf-8",
    )
    model = BUNDLED / "paraformer-zh-mini"
    # Nor does it load torch's compiler, a second of work that recognition has no use for.
    code = "import sys; from paraformer.cli.main import main\n"
    code += "sys.exit(main() or 98 * ('torch._dynamo' in sys.modules))"
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    arguments = [f"+model={model}", "+vad_model=fsmn-vad-mini", "+punc_model=ct-punc-mini"]
    done = run_python(code, tmp_path, *arguments, str(CLIP), PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("今天，下午，") and done.stdout.count("\n") == 1
    asking = run_python("import socket; socket.socket()", tmp_path, PYTHONPATH=path)
    assert asking.returncode == 99  # the refusal is in force


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ([str(CLIP)], 1),
        ([str(CLIP), str(LONG), "missing.wav"], 3),
        ([str(CLIP), str(LONG), "+output_format=json", "+verbose=true"], 2),
        ([str(LONG), "+vad_model=fsmn-vad-mini", "+punc_model=ct-punc-mini", "+itn=true"], 1),
        ([str(CLIP), "+hotword=公园 不知道的词", "+log_level=DEBUG"], 1),
        ([str(CLIP), "+device=cuda:7"], 1),
        ([str(LONG), "+model=fsmn-vad-mini"], 1),
        (["明天你有空吗", "+model=ct-punc-mini"], 1),
        ([*ALIGNED, "+model=fa-zh-mini", "+data_type=[sound,text]"], 1),
        ([str(LONG), "+chunk_size=[0,10,5]", "+vad_model=fsmn-vad-mini"], 1),
        (["missing.wav"], 0),
        ([str(CLIP), "+no_such_key=1"], 0),
    ],
)
def test_stdout_has_results_and_nothing_else(arguments, lines, tmp_path, monkeypatch):
    """What libraries write themselves, past sys.stdout, is heard too."""
    if "+itn=true" in arguments:
        pytest.importorskip("jieba", reason="the extra itn")
    monkeypatch.chdir(tmp_path)
    with descriptor_of_stdout(tmp_path / "out"), contextlib.redirect_stderr(io.StringIO()):
        warnings.warn("from a library", stacklevel=1)
        main(arguments)
    written = (tmp_path / "out").read_bytes().decode("utf-8")
    assert written.count("\n") == lines and not written.startswith("\n")
    if "+output_format=json" in arguments:
        assert [json.loads(line)["key"] for line in written.splitlines()] == [
            "asr_example",
            "vad_example",
        ]


@contextlib.contextmanager
def descriptor_of_stdout(path: Path):
    """File descriptor 1 and sys.stdout both lead into a file."""
    kept = os.dup(1)
    with path.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        try:
            with contextlib.redirect_stdout(file):
                yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def test_jieba_says_nothing_of_its_dictionary(capfd):
    pytest.importorskip("jieba", reason="the extra punc")
    model = AutoModel(ROOT / "tests/fixtures/oracle/ct_punc_jieba")
    model.generate("我们都是木头人不会讲话不会动")
    assert capfd.readouterr() == ("", "")


# Model and input, what the call says, and whether that makes another result.
ROWS: list[tuple[str, dict[str, Any], bool]] = [
    ("plain", {"key": "me"}, True),
    ("plain", {"fs": 8000}, True),
    ("two", {"channel": 0}, True),
    ("two", {"channel": "split"}, True),
    ("list", {"segments": "cut"}, True),
    ("aligner", {"data_type": ("sound", "text")}, False),
    ("plain", {"data_type": "video"}, True),
    ("plain", {"batch_size": 1}, False),
    ("all", {"batch_size_s": 1.0}, False),
    ("plain", {"nbest": 3}, True),
    ("plain", {"decoding_ctc_weight": 0.3, "beam_size": 4, "penalty": 1.0}, True),
    ("plain", {"maxlenratio": 0.5, "minlenratio": 0.1}, False),
    ("plain", {"lm_file": "arpa", "lm_weight": 5.0, "lm_nbest": 8}, True),
    ("all", {"merge_vad": True, "merge_length_s": 20.0}, True),
    ("all", {"max_segment_s": 1.0}, True),
    ("plain", {"max_whole_s": 1.0, "max_segment_s": 1.0}, True),
    ("all", {"max_single_segment_time": 1000}, True),
    ("all", {"max_end_silence_time": 3000}, True),
    ("all", {"speech_noise_thres": 1.0}, True),
    ("vad", {"dynamic_silence": True}, True),
    ("marks", {"split_size": 4}, False),
    ("vad", {"max_end_silence_time": 3000}, True),
    ("vad", {"chunk_size": 200}, False),
    ("vad", {"cache": {}, "is_final": False, "chunk_size": 200}, True),
    ("all", {"return_raw_text": True}, True),
    ("plain", {"pred_timestamp": True}, False),
    ("all", {"sentence_timestamp": True, "en_post_proc": True}, True),
    ("all", {"itn": True}, False),
    ("plain", {"hotword": "工园"}, True),
    ("plain", {"hotword": "工园", "hotword_boost": 9.0, "nfilter": 1}, True),
    ("plain", {"hotword": "工园", "seaco_weight": 0.5, "clas_scale": 0.5}, True),
    ("plain", {"hotword": ""}, False),
    ("plain", {"chunk_size": [0, 10, 5], "encoder_chunk_look_back": 0}, True),
    ("plain", {"chunk_size": [0, 5, 5], "decoder_chunk_look_back": 0}, True),
    ("plain", {"cache": {}, "is_final": False, **STREAM}, True),
    ("live", {"cache": {}, "is_final": False}, True),
    ("live", {"chunk_size": [0, 8, 4]}, False),
    ("marks", {"cache": {}, "is_final": False}, False),
    ("plain", {"output_dir": "out", "resume": True}, False),
    ("plain", {"output_format": "json"}, False),
    ("plain", {"output_dir": "out", "output_format": "lrc", "max_line_chars": 4}, False),
    ("plain", {"max_line_s": 1.0}, False),
    ("plain", {"disable_pbar": True}, False),
    ("list", {"shard": "1/2"}, True),
    ("all", {"preset_spk_num": 2, "min_spk_num": 1, "max_spk_num": 3}, False),
    ("all", {"return_spk_res": False, "return_spk_center": True}, False),
    ("all", {"speakers": "voices.json", "spk_threshold": 0.5}, True),
    ("plain", {"rttm": "turns.rttm"}, True),
]


def test_the_rows_name_every_option():
    assert {name for _, call, _ in ROWS for name in call} == set(opts.names(opts.CallOptions))


def answer(model: AutoModel, source: Any, call: dict[str, Any]) -> Any:
    """Results, or why there are none."""
    try:
        return model.generate(source, **call)
    except ParaformerError as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "call", "differs"), ROWS, ids=[f"{n}-{'-'.join(call)}" for n, call, _ in ROWS]
)
def test_an_option_of_one_call_does_not_rule_the_next(
    models, sources, tmp_path, name, call, differs
):
    for option, extra in (("lm_file", "kenlm"), ("itn", "jieba")):
        if option in call:
            pytest.importorskip(extra, reason=f"the extra of {option}")
    model, source = models[name if name in models else "plain"], sources[name]
    places = {"segments": "cut", "lm_file": "arpa"}
    call = {key: str(sources[v]) if key in places else v for key, v in call.items()}
    if "output_dir" in call:
        call = {**call, "output_dir": str(tmp_path / call["output_dir"])}
    plain = answer(model, source, {})
    assert isinstance(plain, list) and "error" not in plain[0]
    assert (answer(model, source, call) != plain) == differs
    assert answer(model, source, {}) == plain


@pytest.mark.parametrize(("module", "heard"), [("hydra.core.utils", 0), ("paraformer.x", 1)])
def test_what_hydra_is_warned_of_is_not_said(monkeypatch, module, heard):
    """Hydra 1.3 calls functions that OmegaConf 2.4 says it will do without."""
    real = hydra_main.compose

    def warn(*given):
        warnings.warn_explicit("is deprecated", FutureWarning, "utils.py", 1, module)
        return real(*given)

    monkeypatch.setattr(hydra_main, "compose", warn)
    monkeypatch.setattr(sys, "argv", ["average_model.py", "dir=x", "out=y"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert hydra_main.run("average_model", lambda config: 0 if config.dir == "x" else 1) == 0
    assert len({str(each.message) for each in said}) == heard
