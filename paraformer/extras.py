"""Packages that the core does without: each is imported where it is used, by one road, and where it
is missing one line says how to get it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from paraformer.errors import ConfigError

DISTRIBUTION = "paraformer-toolkit"
# Module that is imported -> package that brings it, extra of setup.cfg that names the package.
EXTRAS = {
    "jieba": ("jieba", "punc"),
    "jinja2": ("jinja2", "viz"),
    "kenlm": ("kenlm", "lm"),
    "matplotlib.figure": ("matplotlib", "viz"),
    "opencc": ("opencc", "score"),
    "praatio.textgrid": ("praatio", "subtitles"),
    "pypinyin": ("pypinyin", "train"),
    "pysubs2": ("pysubs2", "subtitles"),
    "torch.utils.tensorboard": ("tensorboard", "train"),
}


def load_extra(module: str, what: str, extra: str = "") -> ModuleType:
    """A module of `EXTRAS`; `what` is the option or program that needs it, `extra` another extra
    that names its package too.
    """
    package, usual = EXTRAS[module]
    remedy = pip_line(extra or usual)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{what}: needs the package {package}; {remedy}") from error
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{what}: {package} does not load ({reason}); {remedy}") from error


def load_torchaudio(what: str) -> ModuleType:
    """torchaudio, which only recipes need: its compiled part must fit torch."""
    try:
        torchaudio = import_module("torchaudio")
        import_module("torchaudio.functional")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{what}: torchaudio does not load ({reason}); it has to fit torch: "
            f"pip install 'torchaudio=={torch_release()}.*'"
        ) from error
    return torchaudio


def torch_release() -> str:
    """Major and minor number of the torch that is installed, which those of torchaudio follow."""
    version = str(import_module("torch").__version__)
    return ".".join(version.split(".")[:2])


def pip_line(*extras: str) -> str:
    """How extras are installed.

    >>> pip_line("viz", "lm")
    "pip install 'paraformer-toolkit[viz,lm]'"
    """
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"
