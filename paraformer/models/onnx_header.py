"""The head of an ONNX file: inputs, outputs, operators and metadata of its graph, read without the
weights and without any package.

The file is a protocol buffer: fields of a number and a value, of which those that nobody asks for
are stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paraformer.errors import CheckpointError

# Fields of the messages of onnx.proto: ModelProto, GraphProto, NodeProto, ValueInfoProto and below.
GRAPH, METADATA = 7, 14
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
OPERATOR, TENSOR_NAME = 4, 8
FLOAT, INT32, INT64 = 1, 6, 7
ELEMENTS = {FLOAT: "float32", INT32: "int32", INT64: "int64", 10: "float16", 11: "float64"}

_Value = int | tuple[int, int]  # a number, or where the bytes of a field begin and end


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    element: int  # see `ELEMENTS`
    shape: tuple[int | None, ...] | None  # None inside: of any size; None: nothing is said

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(str(n or "*") for n in self.shape)
        return f"{self.name} {ELEMENTS.get(self.element, 'of another type')} ({sizes})"


class Header(NamedTuple):
    """The inputs and outputs of a graph, by position, and the metadata of its file."""

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str]
    metadata: dict[str, str]

    def value(self, key: str) -> str:
        """A value of the metadata, which has to be there."""
        if key not in self.metadata:
            raise CheckpointError(f"{self.path}: its metadata has no {key}; export it again")
        return self.metadata[key]

    def numbers(self, key: str, count: int) -> list[float]:
        """So many numbers of the metadata, divided by commas."""
        try:
            found = [float(number) for number in self.value(key).split(",")]
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {key} of its metadata: {error}") from None
        if len(found) != count:
            raise CheckpointError(f"{self.path}: {key} has {len(found)} numbers, not {count}")
        return found


def read_header(path: Path) -> Header:
    """The head of an ONNX file; one that is cut short or something else is refused."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; give a graph") from error
    except (ValueError, IndexError):  # an empty file is a ValueError too
        pass
    raise CheckpointError(f"{path}: is no ONNX graph, or cut short; copy or export it again")


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data

    def header(self, path: Path) -> Header:
        ports: dict[int, list[Port]] = {INPUT: [], OUTPUT: []}
        operators, constants = set[str](), set[str]()
        metadata = dict(map(self._entry, self._all((0, len(self.data)), METADATA)))
        (graph,) = self._all((0, len(self.data)), GRAPH)
        for number, value in self._fields(graph):
            if number == NODE:
                operators.update(map(self._text, self._all(value, OPERATOR)))
            elif number == INITIALIZER:
                constants.update(map(self._text, self._all(value, TENSOR_NAME)))
            elif number in ports:
                ports[number].append(self._port(value))
        inputs = tuple(port for port in ports[INPUT] if port.name not in constants)
        return Header(path, inputs, tuple(ports[OUTPUT]), frozenset(operators), metadata)

    def _port(self, value: _Value) -> Port:
        name, element, shape = "", 0, None
        for number, part in self._fields(value):
            if number == 1:
                name = self._text(part)
            for tensor in self._all(part, 1) if number == 2 else ():
                told = dict(self._fields(tensor))
                element = int(told.get(1, 0))  # type: ignore[arg-type]
                if 2 in told:
                    sizes = (dict(self._fields(size)).get(1) for size in self._all(told[2], 1))
                    shape = tuple(size if isinstance(size, int) else None for size in sizes)
        return Port(name, element, shape)

    def _entry(self, value: _Value) -> tuple[str, str]:
        told = dict(self._fields(value))
        return self._text(told[1]), self._text(told[2]) if 2 in told else ""

    def _text(self, value: _Value) -> str:
        if isinstance(value, int):
            raise ValueError
        return self.data[slice(*value)].decode()

    def _all(self, value: _Value, wanted: int) -> list[_Value]:
        return [found for number, found in self._fields(value) if number == wanted]

    def _fields(self, value: _Value) -> Iterator[tuple[int, _Value]]:
        """The fields of a message that lies there."""
        if isinstance(value, int):
            raise ValueError
        place, end = value
        while place < end:
            key, place = self._number(place)
            kind, found = key & 7, 0
            if kind in (0, 2):
                found, place = self._number(place)
            if kind == 0:
                yield key >> 3, found
                continue
            size = {1: 8, 2: found, 5: 4}.get(kind, end)  # another kind is none
            yield key >> 3, (place, place + size)
            place += size
        if place != end:
            raise ValueError

    def _number(self, place: int) -> tuple[int, int]:
        """A number of seven bits a byte, the last one below 128, and the place behind it."""
        found, shift = 0, 0
        while (byte := self.data[place]) > 127:
            found, shift, place = found | (byte & 127) << shift, shift + 7, place + 1
        return found | byte << shift, place + 1
