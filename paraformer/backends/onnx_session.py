"""A graph at work: onnxruntime on the CPU, tensors in and out by position."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from paraformer.errors import CheckpointError
from paraformer.extras import load_extra

WHAT = "graphs of ONNX"
# The sizes of whole numbers, as onnxruntime calls them.
WHOLE = {"tensor(int32)": torch.int32, "tensor(int64)": torch.int64}


class Session:
    """A graph as onnxruntime runs it on the CPU."""

    def __init__(self, path: Path) -> None:
        """A file that onnxruntime does not take is refused."""
        runtime = load_extra("onnxruntime", WHAT)
        state = runtime.capi.onnxruntime_pybind11_state
        self.faults = (
            *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
            *(state.NotImplemented, state.RuntimeException, state.NoSuchFile),
        )
        self.path, self._runtime = path, runtime
        self._begin()

    def _begin(self) -> None:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        try:
            self.session = self._runtime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except self.faults as error:
            raise self._refused(error) from error
        self.process = os.getpid()
        ports = self.session.get_inputs()
        self.inputs = [port.name for port in ports]
        self._whole = [WHOLE.get(port.type) for port in ports]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Inputs by position -> outputs by position; whole numbers in the size that it takes."""
        if self.process != os.getpid():  # a fork has none of the threads that it waits for
            self._begin()
        rows = zip(self.inputs, inputs, self._whole, strict=True)
        fed = {name: (x if kind is None else x.to(kind)).numpy() for name, x, kind in rows}
        try:
            return [torch.from_numpy(y) for y in self.session.run(None, fed)]
        except self.faults as error:
            if "alloc" in str(error).lower():
                raise MemoryError from error
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> CheckpointError:
        reason = " ".join(str(error).split())
        return CheckpointError(f"{self.path.name}: onnxruntime refuses it ({reason[:300]})")


_OPEN: WeakValueDictionary[tuple[Any, ...], Session] = WeakValueDictionary()


def session_of(path: Path) -> Session:
    """The session of a file; those who use it at the same time share it."""
    status = path.stat()
    key = (path.resolve(), status.st_mtime_ns, status.st_size, torch.get_num_threads())
    found = _OPEN.get(key)
    if found is None:
        _OPEN[key] = found = Session(path)
    return found
