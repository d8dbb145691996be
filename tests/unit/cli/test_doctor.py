"""`funasr doctor`: what it finds, and that its exit code is the truth."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from paraformer import __version__
from paraformer.as_funasr import FOLDER
from paraformer.cli import doctor
from paraformer.cli.main import main
from paraformer.errors import ConfigError
from paraformer.hub.directories import BUNDLED, RELEASED, bundled_models


def shown(capsys) -> dict[str, list[str]]:
    """Name of each finding -> its lines."""
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        name, text = line[:12].strip(), line[13:]
        last = found.setdefault(name, []) if name else last  # noqa: F821
        last.append(text)
    return found


def test_what_is_installed_and_that_it_works(capsys):
    assert main(["doctor"]) == 0
    found = shown(capsys)
    assert list(found) == [*doctor.LOOKS, "recognition"]
    assert found["recognition"] == ["works"]
    assert found["package"][0].startswith(f"{__version__} in ")
    assert found["torch"] == [torch.__version__]
    assert found["bundled"] == [", ".join(bundled_models())]
    assert found["threads"][0].startswith(f"{torch.get_num_threads()} of torch, ")


def test_who_owns_the_command_and_the_module(monkeypatch, tmp_path):
    """As pip leaves them where FunASR came after this package."""
    about = tmp_path / "funasr-1.4.16.dist-info"
    for name, text in {
        about / "METADATA": "Metadata-Version: 2.1\nName: funasr\nVersion: 1.4.16\n",
        about / "entry_points.txt": "[console_scripts]\nfunasr = funasr.cli:main\n",
        tmp_path / "funasr/__init__.py": "",
        tmp_path / "bin/funasr": "from funasr.cli import main\n",
    }.items():
        name.parent.mkdir(exist_ok=True)
        name.write_text(text)
    (tmp_path / "bin/funasr").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "funasr", raising=False)
    script, both = doctor._command()
    assert script == f"{tmp_path / 'bin/funasr'}; python -m paraformer is ours"
    assert "of funasr 1.4.16 and paraformer-toolkit" in both and "--force-reinstall" in both
    said = f"{tmp_path / 'funasr/__init__.py'}, FunASR; paraformer.as_funasr goes before it"
    assert list(doctor._module()) == [said]
    (tmp_path / "bin/funasr").write_text("from paraformer.cli.main import main\n")
    assert next(doctor._command()) == f"{tmp_path / 'bin/funasr'}, ours"
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    assert list(doctor._module()) == [f"{FOLDER / 'funasr.py'}, ours"]


def test_released_models_in_the_caches_are_named(monkeypatch, tmp_path):
    for name in ("MODELSCOPE_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    assert [line.split(" in ")[0] for line in doctor._caches()] == [
        "ModelScope: no released model",
        "Hugging Face: no released model",
    ]
    model = RELEASED["fsmn-vad"][0]
    folder = tmp_path / "MODELSCOPE_CACHE" / "hub" / "models" / model
    shutil.copytree(BUNDLED / "fsmn-vad-mini", folder)
    first, second = doctor._caches()
    assert first.startswith("ModelScope: fsmn-vad in ") and "MODELSCOPE_CACHE" in first
    assert second.startswith("Hugging Face: no released model in ")


def told(capsys, *arguments):
    """Lines of `funasr doctor` on models, as pairs."""
    assert main(["doctor", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [(line[:12].strip(), line[13:]) for line in out.splitlines()]


def test_a_model_by_name_and_what_its_weights_are(capsys):
    folder = BUNDLED / "fsmn-vad-mini"
    weights = folder / "model.pt"
    sums = subprocess.run(["sha256sum", weights], capture_output=True, text=True).stdout
    expected = [
        ("vad_model", str(folder)),
        ("revision", f"came with version {__version__}"),
        ("weights", f"model.pt, {weights.stat().st_size} bytes"),
        ("sha256", sums.split()[0]),
    ]
    assert told(capsys, "+vad_model=fsmn-vad-mini") == expected
    assert told(capsys, "--model", folder, "--vad-model", folder)[4:] == expected


def test_a_revision_is_what_the_cache_of_its_hub_says(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    source = BUNDLED / "fsmn-vad-mini"
    ms, hf = RELEASED["fsmn-vad"]
    flat = shutil.copytree(source, tmp_path / "ms" / "hub" / "models" / ms)
    (flat / ".mv").write_text("Revision:v2.0.4,CreatedAt:1707184291\n")
    assert told(capsys, "model=fsmn-vad")[:2] == [("model", str(flat)), ("revision", "v2.0.4")]
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hf" / f"models--{hf.replace('/', '--')}"
    kept = shutil.copytree(source, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    for revision in ([], ["model_revision=main"], [f"model_revision={commit}"]):
        found = told(capsys, "model=fsmn-vad", "hub=hf", *revision)
        assert found[:2] == [("model", str(kept)), ("revision", commit)]
    other = shutil.copytree(source, tmp_path / "copy")
    assert told(capsys, f"model={other}")[1][1].startswith("not known")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+modle=x"], "doctor: unknown key 'modle'; did you mean 'model'?"),
        (["+hub=hf"], "doctor: name a model too, such as +model="),
        (["x.wav"], "doctor: write `funasr doctor [+model=NAME ...]`"),
        (["+model=nothing"], "model 'nothing': no such directory or name"),
        (["+model=fa-zh"], "model 'fa-zh': not on this machine"),
        (["+vad_model="], "vad_model: is empty"),
    ],
)
def test_a_mistake_is_one_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    assert main(["doctor", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"funasr: {message}")


def test_missing_extras_have_their_pip_line(capsys, monkeypatch):
    real = metadata.version

    def version(package):
        if package == "praatio":
            raise metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(doctor.metadata, "version", version)
    lines = list(doctor._extras())
    assert "subtitles: lacks praatio; pip install 'paraformer-toolkit[subtitles]'" in lines
    assert "viz: installed (matplotlib, jinja2)" in lines


def test_extras_are_read_from_the_installed_package(monkeypatch):
    needed = [
        "torch>=2.4",
        'jieba==0.42.1; extra == "punc"',
        "pysubs2>=1.8 ; extra == 'subtitles'",
        'praatio>=6.2; python_version >= "3.10" and extra == "subtitles"',
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needed)
    assert doctor.packages_of_extras() == {"punc": ["jieba"], "subtitles": ["pysubs2", "praatio"]}

    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", none)
    assert next(iter(doctor._extras())).startswith("unknown: paraformer-toolkit is not installed")


def test_a_gpu_has_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"that of {device}")
    assert list(doctor._device()) == ["cuda (that of cuda)"]


def test_without_ffmpeg(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    (line,) = doctor._ffmpeg()
    assert line.startswith("missing: ") and "install" in line


def test_a_torchaudio_that_does_not_fit_is_told_and_no_fault(capsys, monkeypatch):
    def fail(what):
        raise ConfigError("recipes: torchaudio does not load (x); it has to fit torch: pip install")

    monkeypatch.setattr(doctor, "load_torchaudio", fail)
    assert doctor.main() == 0
    (line,) = shown(capsys)["torchaudio"]
    assert "has to fit torch" in line and line.endswith("(recognition does without)")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m, d: m.setattr(doctor, "DEFAULT_MODEL", str(d)), "fails: .*config.yaml"),
        (
            lambda m, d: m.setattr(doctor, "BUNDLED", d),
            "fails: .*asr_example.wav",
        ),
    ],
)
def test_what_does_not_work_is_exit_code_1(capsys, monkeypatch, tmp_path, spoil, reason):
    spoil(monkeypatch, tmp_path)
    assert doctor.main() == 1
    (line,) = shown(capsys)["recognition"]
    assert re.match(reason, line)


def test_without_torch_the_command_points_to_the_doctor():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from paraformer.cli.main import main; sys.exit(main(['x.wav']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("funasr: import of torch halted")
    assert done.stderr.endswith("; `funasr doctor` says what is missing here\n")


def test_without_torch_every_other_finding_is_there():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from paraformer.cli.main import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("recognition  fails: import of torch halted")
    assert {line.split()[0] for line in lines if line[0] != " "} == {*doctor.LOOKS, "recognition"}
