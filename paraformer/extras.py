"""Optional packages: each is imported where it is used, by one road, and where it is missing one
line says how to get it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from paraformer.errors import ConfigError

DISTRIBUTION = "paraformer-toolkit"
LAST_TORCHAUDIO = (2, 11)
# Module that is imported -> package that brings it, extra of setup.cfg that names the package.
EXTRAS = {
    "aiohttp": ("aiohttp", "cloud"),
    "fsspec": ("fsspec", "cloud"),
    "gcsfs": ("gcsfs", "cloud"),
    "jieba": ("jieba", "punc"),
    "jinja2": ("jinja2", "viz"),
    "kenlm": ("kenlm", "lm"),
    "matplotlib.figure": ("matplotlib", "viz"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxruntime.quantization": ("onnxruntime", "onnx"),
    "opencc": ("opencc", "score"),
    "praatio.textgrid": ("praatio", "subtitles"),
    "prometheus_client": ("prometheus-client", "serve"),
    "pypinyin": ("pypinyin", "train"),
    "python_multipart": ("python-multipart", "serve"),
    "ray": ("ray", "ray"),
    "s3fs": ("s3fs", "cloud"),
    "starlette.applications": ("starlette", "serve"),
    "safetensors": ("safetensors", "safetensors"),
    "safetensors.torch": ("safetensors", "safetensors"),
    "scipy.linalg": ("scipy", "speakers"),
    "scipy.optimize": ("scipy", "speakers"),
    "sklearn.cluster": ("scikit-learn", "speakers"),
    "threadpoolctl": ("threadpoolctl", "speakers"),
    "torch.utils.tensorboard": ("tensorboard", "train"),
    "uvicorn": ("uvicorn", "serve"),
    "websockets": ("websockets", "serve"),
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
            f"pip install 'torchaudio=={torchaudio_release()}.*'"
        ) from error
    return torchaudio


def torchaudio_release() -> str:
    """Major and minor number of the torchaudio that fits the torch that is installed: the same, up
    to the last that there is, which goes with every later torch.
    """
    version = str(import_module("torch").__version__)
    release = tuple(int(part) for part in version.split(".")[:2])
    return ".".join(map(str, min(release, LAST_TORCHAUDIO)))


def pip_line(*extras: str) -> str:
    """The command that installs extras.

    >>> pip_line("viz", "lm")
    "pip install 'paraformer-toolkit[viz,lm]'"
    """
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"
