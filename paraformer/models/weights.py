"""State dicts on disk: read without running code that a file may hold, checked, written whole."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paraformer.errors import CheckpointError
from paraformer.files import replacing
from paraformer.models.graphs import is_graph
from paraformer.models.integrity import REMEDY, Remembered, damage_of, is_zip, refuse_unusable
from paraformer.models.mapped import is_mapped, mark_mapped
from paraformer.models.safe_tensors import is_safetensors, read_safetensors, write_safetensors

_FOREIGN = "not written by torch, or with more than tensors in it"


def write_torch(value: object, path: Path) -> None:
    """`torch.save` that leaves either the old file or the new one; OSError where it cannot.

    The same value gives the same bytes, whatever the file is called.
    """
    # Given a path, torch does not say why it fails.
    with replacing(path) as draft, draft.open("wb") as file:
        torch.save(value, file)


def read_torch(path: Path) -> Any:
    """Load a file of `torch.save`, tensors on the CPU; one with wrong checksums is refused."""
    return _read(path)[0]


def _read(path: Path, mapped: bool = False) -> tuple[Any, Remembered]:
    """The same, and whether the file has been found to be in order before."""
    try:
        remembered = Remembered(path)
        with ThreadPoolExecutor(1, "checksums") as pool:  # while torch reads
            damage = None if remembered.known else pool.submit(damage_of, path)
            content, reason = _load(path, mapped)
            wrong = damage.result() if damage is not None else ""
    except OSError as error:
        content, reason, wrong = None, error.strerror or str(error), ""
    if reason:
        raise CheckpointError(
            f"{path}: no weights can be read from it ({reason}); is the download complete?"
        )
    if wrong:
        raise CheckpointError(f"{path}: is damaged ({wrong}); {REMEDY}")
    return content, remembered


def _load(path: Path, mapped: bool) -> tuple[Any, str]:
    """The content of a file, or why it cannot be read. A damaged one raises errors of any kind."""
    if is_graph(path):
        return None, "a graph has none that could be changed"
    if is_safetensors(path):
        return read_safetensors(path)
    if _is_foreign_pickle(path):
        return None, _FOREIGN
    mapped = mapped and is_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped), ""
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        plain = not isinstance(error, pickle.UnpicklingError)
        reason = (str(error).strip().split("\n")[0] or "empty file") if plain else _FOREIGN
        return None, reason
    except Exception:  # noqa: BLE001 (of what torch did not write, whatever its pickle meets)
        return None, _FOREIGN


def _is_foreign_pickle(path: Path) -> bool:
    """Whether a file is a pickle as torch writes none: it would warn first, then refuse it."""
    with path.open("rb") as file:
        head = file.read(2)
    return head[:1] == pickle.PROTO and head[1:] > bytes([torch.serialization.DEFAULT_PROTOCOL])


def read_weights(path: Path, mapped: bool = False) -> dict[str, Tensor]:
    """State dict of a model.pt, plain or nested, or of SafeTensors; values that no model can use
    are refused.

    mapped: the values of a file of torch are read where they are wanted (see `mapped.py`).
    """
    state, remembered = _read(path, mapped)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no state dict; is it a model file?")
    if mapped and is_zip(path):
        mark_mapped(state.values())
    if not remembered.known:
        refuse_unusable(state, path)
        remembered.add()
    return {str(name).removeprefix("module."): value for name, value in state.items()}


class _Unfilled(TorchFunctionMode):
    """Leaves parameters as they are made: to draw numbers of no memory, torch first loads its
    compiler, a second of work.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


@contextmanager
def parameters(fresh: bool) -> Iterator[None]:
    """Modules made in here have fresh weights, or else parameters without memory, until those of a
    file become theirs: that takes neither time nor random numbers, whatever sizes are asked for.
    """
    if fresh:
        yield
        return
    with torch.device("meta"), _Unfilled():
        yield


def load_weights(model: nn.Module, path: Path, mapped: bool = False) -> None:
    """Load all parameters of a model; one that is missing, misshaped or left over is an error.

    mapped: those of a model without memory stay in the file, see `mapped.py`.
    """
    state = read_weights(path, mapped)
    load_state(model, state, path)
    places = {value.data_ptr() for value in state.values() if is_mapped(value)}
    own = model.state_dict(keep_vars=True).values()
    mark_mapped(value for value in own if value.data_ptr() in places)


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """The same of a state dict that is there already; `path` says whence it is."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    shapes = [n for n, value in own.items() if n in state and state[n].shape != value.shape]
    for what, names in (("lacks", missing), ("holds unknown", extra), ("misshapes", shapes)):
        if names:
            shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
            raise CheckpointError(
                f"{path}: {what} {len(names)} parameters ({shown}); it does not fit its config.yaml"
            )
    if any(value.is_meta for value in own.values()):  # they have no memory of their own
        model.load_state_dict(_apart(state, own), strict=True, assign=True)
    else:
        model.load_state_dict(state, strict=True)


def _apart(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of the types that a model has, each in memory of its own: a file may hold those that
    are equal once (see `save_weights`), and parameters that learn would learn together.
    """
    apart: dict[str, Tensor] = {}
    taken = set[int]()
    for name, value in state.items():
        cast = value.to(own[name].dtype).contiguous()
        if cast.untyped_storage().data_ptr() in taken:
            cast = cast.clone()
        taken.add(cast.untyped_storage().data_ptr())
        apart[name] = cast
    return apart


def load_matching(model: nn.Module, path: Path) -> tuple[list[str], list[str]]:
    """Load the parameters that a file has in common with a model, which then keeps its others.

    Returns the names of the model's that the file lacks, and of the file's that the model has no
    place for. A parameter of both with two shapes is an error.
    """
    state, own = read_weights(path), model.state_dict()
    common = {name: value for name, value in state.items() if name in own}
    for name, value in common.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(own[name].shape)}"
            raise CheckpointError(f"{path}: {name} is {shapes}; give a model of the same widths")
    if not common:
        raise CheckpointError(f"{path}: has no parameter of this model; give another")
    model.load_state_dict(common, strict=False)
    return sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())


def stored_dtype(path: Path) -> torch.dtype:
    """The floating-point type that most parameters of a file have."""
    counts: dict[torch.dtype, int] = {}
    for value in read_weights(path).values():
        if value.is_floating_point():
            counts[value.dtype] = counts.get(value.dtype, 0) + value.numel()
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def grow_rows(
    state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], old: int, new: int
) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict whose parameters with `old` rows have `new` ones where `shapes` says so.

    Rows that are added are the mean of the old ones, and entries of biases the least of them: what
    is new scores like a token that the model nearly never says. Returns also the names of those
    that grew.
    """
    grown, names = dict(state), []
    for name, value in state.items():
        wanted = shapes.get(name, value.shape)
        if value.shape == wanted or len(value) != old or (new, *value.shape[1:]) != wanted:
            continue
        whole = value.float()
        row = whole.mean(0, keepdim=True) if value.dim() > 1 else whole.min().view(1)
        added = row.to(value.dtype).expand(new - old, *value.shape[1:])
        grown[name] = torch.cat((value, added))
        names.append(name)
    return grown, names


def save_weights(path: Path, model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write the state dict atomically, floating-point values as `dtype` if given, in the format
    that the name of the file says.

    Tensors that are equal, such as tied embeddings, stand in a file of torch once.
    """
    state = {
        name: value.detach().cpu().to(dtype if value.is_floating_point() else None).clone()
        for name, value in model.state_dict().items()
    }
    if is_safetensors(path):
        write_safetensors(state, path)
        return
    stored: dict[tuple[torch.Size, torch.dtype, bytes], Tensor] = {}
    for name, own in state.items():
        content = hashlib.sha256(own.flatten().view(torch.uint8).numpy().tobytes()).digest()
        state[name] = stored.setdefault((own.shape, own.dtype, content), own)
    write_torch({"state_dict": state}, path)
