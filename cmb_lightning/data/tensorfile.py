"""safetensors files, written without a copy of their content and read by the slice.

The `safetensors` package reads and writes these files too. Here a file's bytes depend on its content alone (the package
writes metadata in random order), the checksum of every tensor is in the header, and reads go through `pread`: a file
that somebody truncates is an error, where a memory map would end the process.
"""

import errno
import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

MAX_HEADER = 1 << 20  # bytes; ours are some kilobytes: more is damage, and is refused before anything is allocated
_ALIGNMENT = 64
_FIRST_READ = 8192
_TYPES = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class BadFile(ValueError):
    """A file that is damaged, or is not what its place says it is; the message is the reason."""


@dataclass(frozen=True)
class Entry:
    """One tensor in a file: its type, shape and first byte."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def digest(tensor: np.ndarray) -> str:
    """SHA-256 of a tensor's bytes, little-endian and in C order."""
    return hashlib.sha256(_bytes(_storable(tensor))).hexdigest()


def dump(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes tensors, in the order of their names, and metadata to an open file."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    arrays, position = [], 0
    for name in sorted(tensors):
        array = _storable(tensors[name])
        stop = position + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [position, stop]}
        arrays.append(array)
        position = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise ValueError(f"a header of {len(text)} bytes is over the limit of {MAX_HEADER}.")
    file.write(struct.pack("<Q", len(text)) + text)
    for array in arrays:
        file.write(_bytes(array))


class TensorFile:
    """An open file, its header read and its length checked; a context manager.

    Args:
        path: The file; a symbolic link is refused.

    Attributes:
        entries: The tensors by name.
        metadata: Metadata of the header.
        size: Length of the file [bytes].

    Raises:
        FileNotFoundError: There is no such file.
        BadFile: The header does not parse, or the length is not what it says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadFile("it is a symbolic link") from None
            raise
        try:
            self.size = os.fstat(self._descriptor).st_size
            self._parse()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            BadFile: There is no such tensor.
        """
        if name not in self.entries:
            raise BadFile(f"it holds no '{name}', only {', '.join(sorted(self.entries))}")
        return self.entries[name].shape

    def pixels(self, name: str) -> Callable[[np.ndarray, int, int], np.ndarray]:
        """What reads pieces of a tensor's rows: into a contiguous array of its type, which row, first pixel.

        Raises:
            BadFile: There is no such tensor, or, when called, the file ends too soon.
        """
        length, entry, descriptor = self.shape(name)[-1], self.entries[name], self._descriptor
        base, size = entry.start, entry.dtype.itemsize

        def read(out: np.ndarray, row: int, first: int) -> np.ndarray:
            start = base + (row * length + first) * size
            if os.preadv(descriptor, [out], start) != out.nbytes:
                self._pread(out, start)
            return out

        return read

    def read(self, name: str, row: int | None = None, pixels: slice | None = None) -> np.ndarray:
        """A tensor, or a part of it, read without the rest.

        Args:
            name: The tensor.
            row: One index of its first axis, which is then dropped; all when None.
            pixels: A contiguous slice of its last axis; all when None.

        Raises:
            BadFile: There is no such tensor, or the file ends too soon.
        """
        shape = self.shape(name)
        entry = self.entries[name]
        start = entry.start
        if row is not None:
            shape = shape[1:]
            start += range(entry.shape[0])[row] * entry.dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if pixels is None:
            return self._pread(np.empty(shape, entry.dtype), start)
        first, last, step = pixels.indices(shape[-1])
        if step != 1:
            raise ValueError(f"pixels: {pixels} is not a contiguous slice.")
        out = np.empty((*shape[:-1], max(last - first, 0)), entry.dtype)
        rows = out.reshape(-1, out.shape[-1])
        for i, part in enumerate(rows):
            self._pread(part, start + (i * shape[-1] + first) * entry.dtype.itemsize)
        return out

    def _pread(self, out: np.ndarray, start: int) -> np.ndarray:
        view = memoryview(_bytes(out))
        while view:
            count = os.preadv(self._descriptor, [view], start)
            if count == 0:
                raise BadFile(f"it ends at byte {start}, in the middle of a tensor")
            view, start = view[count:], start + count
        return out

    def _parse(self) -> None:
        head = os.pread(self._descriptor, _FIRST_READ, 0)
        if len(head) < 8:
            raise BadFile(f"it has {self.size} bytes, too few for a header")
        length = struct.unpack("<Q", head[:8])[0]
        if length > MAX_HEADER or 8 + length > self.size:
            raise BadFile(f"its header says it is {length} bytes long, in a file of {self.size}")
        if 8 + length > len(head):
            head += os.pread(self._descriptor, 8 + length - len(head), len(head))
        self.metadata, self.entries, position = _parsed(head[8 : 8 + length])
        if position != self.size:
            raise BadFile(f"it has {self.size} bytes, and its header describes {position}")


@lru_cache(maxsize=1024)
def _parsed(header: bytes) -> tuple[Mapping[str, str], Mapping[str, Entry], int]:
    """Metadata, tensors and end of the file, from the bytes of its header: training reads the same ones many times."""
    try:
        fields = json.loads(header)
        metadata = fields.pop("__metadata__", {})
        entries = {name: _entry(8 + len(header), **entry) for name, entry in fields.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadFile(f"its header cannot be read: {error}") from None
    position = 8 + len(header)
    for entry in sorted(entries.values(), key=lambda entry: entry.start):
        if entry.start != position:
            raise BadFile(f"its tensors do not follow each other at byte {position}")
        position += entry.size
    return MappingProxyType(metadata), MappingProxyType(entries), position


def _entry(base: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Entry:
    first, last = data_offsets
    entry = Entry(_TYPES[dtype], tuple(int(n) for n in shape), base + int(first))
    if min((0, *entry.shape)) < 0 or entry.size != int(last) - int(first):
        raise ValueError(f"a shape of {shape} does not fill {int(last) - int(first)} bytes")
    return entry


def _storable(tensor: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(tensor)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(np.shape(tensor))
    if array.dtype not in _NAMES:
        raise TypeError(f"a tensor of type {array.dtype} cannot be stored; these can: {', '.join(map(str, _NAMES))}.")
    return array


def _bytes(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))
