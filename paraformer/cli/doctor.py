"""`funasr doctor`: what is installed, which device is used, where models lie, and whether
recognition works here. Exit code 0 if it does, 1 with the reason otherwise.

`funasr doctor +model=NAME [+vad_model=...]`: which files these names stand for on this machine.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata, util
from pathlib import Path

from paraformer import __version__
from paraformer.cli.command_line import Arguments
from paraformer.errors import CheckpointError, ConfigError, ParaformerError
from paraformer.extras import DISTRIBUTION, load_torchaudio, pip_line
from paraformer.hub.directories import BUNDLED, HUBS, RELEASED, bundled_models, find_models
from paraformer.hub.modelscope import flat_revision
from paraformer.hub.repository import Repository, digest, named_files
from paraformer.models.graphs import find_graph
from paraformer.options import AUTO, DEFAULT_MODEL, unknown_key

_EXTRA = re.compile(r"""^([\w.-]+).*;.*\bextra == ['"]([\w-]+)['"]""")
# An import raises these where a package is missing, broken, or made for another system.
_UNUSABLE = (ImportError, OSError, RuntimeError, AttributeError)
_WIDTH = 12
OURS = b"from paraformer"  # stands in each file that answers to the name of FunASR for us
MODELS = ("model", "vad_model", "punc_model", "second_pass")
REVISIONS = ("model_revision", "vad_model_revision", "punc_model_revision")


def main(asked: Arguments | None = None) -> int:
    """Print the findings, the verdict last; asked: options, of which model files instead."""
    if asked and asked.values:
        return tell_models(asked.values)
    for name, look in LOOKS.items():
        for line in look():
            print(f"{name:<{_WIDTH}} {line}")
            name = ""
    fault = recognition_fault()
    print(f"{'recognition':<{_WIDTH}} {fault or 'works'}")
    return 1 if fault else 0


def tell_models(asked: Mapping[str, str]) -> int:
    """Print of each model where it is, its revision, and size and SHA-256 of its weights; nothing
    is fetched.
    """
    known = (*MODELS, *REVISIONS, "hub")
    for key in asked:
        if key not in known:
            raise unknown_key(key, known, "doctor", "funasr")
    named = [key for key in MODELS if key in asked]
    if not named:
        raise ConfigError("doctor: name a model too, such as +model=paraformer-zh")
    wanted = {key: (asked[key], asked.get(f"{key}_revision")) for key in named}
    found = find_models(wanted, asked.get("hub", "ms"), offline=True)
    for key, folder in found.items():
        weights = folder / named_files(folder)["init_param"]
        if not weights.is_file():
            weights = find_graph(folder) or weights
        if not weights.is_file():
            raise CheckpointError(f"{weights}: no such file; the model has no weights")
        print(f"{key:<{_WIDTH}} {folder.absolute()}")
        print(f"{'revision':<{_WIDTH}} {revision_of(folder)}")
        print(f"{'weights':<{_WIDTH}} {weights.name}, {weights.stat().st_size} bytes")
        print(f"{'sha256':<{_WIDTH}} {digest(weights)}")
    return 0


def revision_of(folder: Path) -> str:
    """The branch, tag or commit of a model's directory, as the cache of its hub tells it."""
    if folder.parent == BUNDLED:
        return f"came with version {__version__}"
    kept = folder.resolve()
    name = kept.name if kept.parent.name == "snapshots" else flat_revision(kept)
    return name or "not known: no directory of a hub's cache, or other files since its note"


def recognition_fault() -> str:
    """The reason why a bundled example is not recognised; empty if it is."""
    example = BUNDLED / DEFAULT_MODEL / "example" / "asr_example.wav"
    try:
        from paraformer.api.auto import AutoModel

        (result,) = AutoModel(DEFAULT_MODEL, device="cpu").generate(str(example))
    except (ParaformerError, *_UNUSABLE) as error:
        return f"fails: {_one_line(error)}"
    if "error" in result:
        return f"fails: {result['error']}"
    return "" if result["text"] else f"fails: nothing is heard in {example}"


def _package() -> Iterator[str]:
    yield f"{__version__} in {Path(__file__).resolve().parents[1]}"


def _command() -> Iterator[str]:
    """The file that `funasr` starts, and which packages think it theirs."""
    script = shutil.which("funasr")
    owners = {
        f"{found.dist.name} {found.dist.version}": found.value
        for found in metadata.entry_points(group="console_scripts", name="funasr")
        if found.dist
    }
    ours = script is not None and OURS in Path(script).read_bytes()
    remedy = "" if ours else "; python -m paraformer is ours"
    yield f"{script or 'no funasr on PATH'}{', ours' if ours else remedy}"
    if len(owners) > 1:
        yield (
            f"one file of {' and '.join(owners)}; uninstalling either takes it away: then "
            f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )


def _module() -> Iterator[str]:
    """The file that `import funasr` reads."""
    found = util.find_spec("funasr")
    if found is None or found.origin is None:
        yield "no funasr; `import paraformer.as_funasr` or `pip install ./compat` makes one of ours"
        return
    ours = OURS in Path(found.origin).read_bytes()
    yield f"{found.origin}, {'ours' if ours else 'FunASR; paraformer.as_funasr goes before it'}"


def _python() -> Iterator[str]:
    yield f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield sys.executable


def _torch() -> Iterator[str]:
    try:
        import torch
    except _UNUSABLE as error:
        yield f"does not load: {_one_line(error)}"
        return
    yield str(torch.__version__)


def _torchaudio() -> Iterator[str]:
    """Only one recipe's comparison needs torchaudio: that it is missing or faulty is no fault of
    the machine.
    """
    try:
        yield f"{load_torchaudio('recipes').__version__}, fits torch"
    except (ParaformerError, *_UNUSABLE) as error:
        yield f"{_one_line(error)} (recognition does without)"


def _device() -> Iterator[str]:
    try:
        import torch

        from paraformer.backends.devices import choose_device
    except _UNUSABLE:
        yield "none without torch"
        return
    device = choose_device("auto")
    if device.type == "cpu":
        built = "no usable CUDA device" if torch.version.cuda else "torch is built for the CPU"
        yield f"cpu ({built})"
    else:
        yield f"{device} ({torch.cuda.get_device_name(device)})"


def _numbers() -> Iterator[str]:
    """The number format that dtype=auto stands for."""
    try:
        from paraformer.backends.devices import (
            choose_device,
            format_of,
            multiplies_bf16,
            multiplies_int8,
        )
    except _UNUSABLE:
        yield "none without torch"
        return
    there = {"bf16": multiplies_bf16(), "int8": multiplies_int8()}
    has = ", ".join(
        f"{'has' if has else 'lacks'} products of {name}" for name, has in there.items()
    )
    found = format_of(AUTO, choose_device("auto"))
    yield f"fp32; dtype=auto is {found} for recognisers (the processor {has})"


def _threads() -> Iterator[str]:
    try:
        import torch
    except _UNUSABLE:
        yield "none without torch"
        return
    # Not on all systems, and what it gives may be fewer than there are.
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS")
    said = f", OMP_NUM_THREADS={asked}" if asked else ""
    yield f"{torch.get_num_threads()} of torch, {usable} of {os.cpu_count()} CPUs usable{said}"


def _ffmpeg() -> Iterator[str]:
    program = shutil.which("ffmpeg")
    if program is None:
        yield "missing: only WAV, FLAC, Ogg, MP3 and AIFF can be read; install the program ffmpeg"
        return
    done = subprocess.run([program, "-version"], capture_output=True, stdin=subprocess.DEVNULL)
    words = done.stdout.decode("utf-8", "replace").split()
    yield f"{words[2] if len(words) > 2 else 'of unknown version'} ({program})"


def _extras() -> Iterator[str]:
    packages = packages_of_extras()
    if not packages:
        yield f"unknown: {DISTRIBUTION} is not installed, only run from its folder"
    for extra, names in packages.items():
        missing = [name for name in names if not _is_installed(name)]
        if missing:
            yield f"{extra}: lacks {', '.join(missing)}; {pip_line(extra)}"
        else:
            yield f"{extra}: installed ({', '.join(names)})"


def packages_of_extras() -> dict[str, list[str]]:
    """Extra -> packages that it asks for, as the installed package says; empty if it is none."""
    try:
        needed = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    packages: dict[str, list[str]] = {}
    for requirement in needed:
        if found := _EXTRA.match(requirement):
            packages.setdefault(found[2], []).append(found[1])
    return packages


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _bundled() -> Iterator[str]:
    yield ", ".join(bundled_models()) or f"none: {BUNDLED} holds no weights"


def _caches() -> Iterator[str]:
    """The folder of each hub's models, and which of the released ones lie there whole."""
    for index, kind in dict.fromkeys(HUBS.values()):
        hub = kind()
        models = {name: ids[index] for name, ids in RELEASED.items()}
        there = [name for name, model in models.items() if Repository(hub, model).cached()]
        folder = hub.home(next(iter(models.values()))).parent
        yield f"{hub.title}: {', '.join(there) or 'no released model'} in {folder}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


LOOKS: dict[str, Callable[[], Iterator[str]]] = {
    "package": _package,
    "command": _command,
    "module": _module,
    "python": _python,
    "torch": _torch,
    "torchaudio": _torchaudio,
    "device": _device,
    "numbers": _numbers,
    "threads": _threads,
    "ffmpeg": _ffmpeg,
    "extras": _extras,
    "bundled": _bundled,
    "caches": _caches,
}
