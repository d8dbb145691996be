"""Names of models become directories: a path, or a model that came with the package.

No network: a name that is neither is refused at once, with the places that were looked in.
"""

from __future__ import annotations

from pathlib import Path

from paraformer.errors import CheckpointError, ConfigError

BUNDLED = Path(__file__).resolve().parent / "bundled"
# Short name -> ids at ModelScope and Hugging Face.
RELEASED = {
    "paraformer": (
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
        "funasr/paraformer-zh",
    ),
    "paraformer-zh": (
        "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
        "funasr/paraformer-zh",
    ),
    "paraformer-en": (
        "iic/speech_paraformer-large-vad-punc_asr_nat-en-16k-common-vocab10020",
        "funasr/paraformer-en",
    ),
    "paraformer-zh-streaming": (
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-online",
        "funasr/paraformer-zh-streaming",
    ),
    "fsmn-vad": ("iic/speech_fsmn_vad_zh-cn-16k-common-pytorch", "funasr/fsmn-vad"),
    "ct-punc": (
        "iic/punc_ct-transformer_cn-en-common-vocab471067-large",
        "funasr/ct-punc",
    ),
    "ct-punc-c": ("iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch",) * 2,
    "fa-zh": ("iic/speech_timestamp_prediction-v1-16k-offline", "funasr/fa-zh"),
    "cam++": ("iic/speech_campplus_sv_zh-cn_16k-common", "funasr/campplus"),
}
HUBS = {"ms": 0, "modelscope": 0, "hf": 1, "huggingface": 1}


def bundled_models() -> list[str]:
    """Names of the models that came with the package and have their weights."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/model.pt"))


def find_model(name: str | Path, hub: str = "ms") -> Path:
    """The directory of a model: an existing path as it is, else a bundled model of that name."""
    if hub not in HUBS:
        raise ConfigError(f"hub={hub}: not known; use ms (ModelScope) or hf (Hugging Face)")
    path = Path(name).expanduser()
    if path.is_file():
        raise CheckpointError(f"{path}: is a file; give the directory that holds it")
    if path.is_dir():
        return _with_weights(path)
    if not str(name).strip():
        raise ConfigError("model: is empty; give a model name or a directory")
    bundled = BUNDLED / path.name
    if str(name) == path.name and bundled.is_dir():
        return _with_weights(bundled)
    places = f"looked for {path.absolute()} and {bundled}"
    if str(name) in RELEASED:
        release = RELEASED[str(name)][HUBS[hub]]
        raise CheckpointError(
            f"model '{name}': not on this machine ({places}), and this version does not download; "
            f"fetch {release} and give its directory"
        )
    here = ", ".join(bundled_models()) or "none"
    raise CheckpointError(
        f"model '{name}': no such directory or name ({places}); bundled models: {here}"
    )


def _with_weights(path: Path) -> Path:
    """A directory that at least has a configuration and the weights it should have."""
    if (path / "configuration.json").is_file():
        return path
    for name in ("config.yaml", "model.pt"):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path / name}: no such file; a model directory holds config.yaml and model.pt"
            )
    return path
