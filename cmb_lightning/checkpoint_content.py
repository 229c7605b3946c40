"""Whether a checkpoint is nothing but tensors, numbers and text, and no larger than its file, before it is loaded.

`torch.load` with `weights_only` runs no code of a file, but makes memory of any size that the file asks for.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_OPCODES = frozenset(
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT EMPTY_LIST "
    "EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS BINPUT LONG_BINPUT BINGET "
    "LONG_BINGET GLOBAL REDUCE BUILD BINPERSID".split()
)
"""What `torch.save` writes. Others can ask for memory, or refer to what the file does not hold."""

_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8}
_BYTES |= {"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1}


class BadContent(Exception):
    """The content is more than plain data, or claims more than there is; the message is the reason."""


def check_content(path: str | Path) -> None:
    """Reads a checkpoint's structure, and none of its tensors.

    Args:
        path: A file of `torch.save`.

    Raises:
        BadContent: It holds something else than plain data, or tensors that its file does not hold.
        zipfile.BadZipFile: It is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise BadContent("it is compressed")
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if sum(sizes.values()) > Path(path).stat().st_size:
            raise BadContent("its parts overlap")
        (name,) = [name for name in sizes if name.count("/") == 1 and name.endswith("/data.pkl")] or [None]
        if name is None:
            raise BadContent("it holds no data.pkl")
        structure = archive.read(name)
    folder = name.removesuffix("data.pkl") + "data/"
    try:
        highest = max((arg for code, arg, _ in _operations(structure) if code.endswith("PUT")), default=0)
        if highest > len(structure):
            raise BadContent("it counts more than it holds")
        _Reader(
            structure, {key.removeprefix(folder): size for key, size in sizes.items() if key.startswith(folder)}
        ).load()
    except BadContent:
        raise
    except Exception as error:  # whatever an entry leads to that is not where it should be
        raise BadContent(f"its structure cannot be read: {error}") from error


def _operations(structure: bytes) -> Any:
    for operation, argument, position in pickletools.genops(structure):
        if operation.name not in _OPCODES:
            raise BadContent(f"it holds {operation.name}")
        yield operation.name, argument, position


@dataclass(frozen=True)
class _Storage:
    """Numbers that the file holds."""

    count: int


class _Reader(pickle.Unpickler):
    """Goes through the structure with harmless stand-ins for all that it names."""

    def __init__(self, structure: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(structure))
        self._sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in _KNOWN:
            return _KNOWN[path]
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if module in ("torch", "torch.storage") and name.removesuffix("Storage") in _BYTES:
            return _BYTES[name.removesuffix("Storage")]
        raise BadContent(f"it holds {path}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, itemsize, key, _, count = pid
        if kind != "storage" or not isinstance(itemsize, int) or itemsize * count != self._sizes.get(key):
            raise BadContent(f"its tensor {key} is said to be {count} numbers, in {self._sizes.get(key)} bytes")
        return _Storage(count)


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
    size = last = 1
    for length, step in zip(shape, stride, strict=True):
        if length < 0 or step < 0:
            raise BadContent(f"it holds a tensor of shape {shape}")
        size, last = size * length, last + (length - 1) * step
    if size > storage.count or (size and not 0 <= offset <= storage.count - last):
        raise BadContent(f"it holds a tensor of shape {shape} in {storage.count} numbers")


def _parameter(data: None, *_: Any) -> None:
    pass


_KNOWN = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": tuple,
    "torch.device": str,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
