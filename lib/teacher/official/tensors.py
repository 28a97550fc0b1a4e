"""Torch's tensors and numpy's arrays as pickles store them: sizes come before memory.

`STAND_INS` replaces the functions of torch and numpy that such a pickle names. Storages stay
views of the file until a tensor is asked for.
"""

import io
import math
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lib.common.errors import StudyError
from lib.teacher.official.pickle import Global, SafeUnpickler, StandIns, shown

NUMPY_TYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
STORAGES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16"}
STORAGES |= {"Long": "int64", "Int": "int32", "Byte": "uint8"}
STORAGE_TYPES: StandIns = {
    ("torch", f"{name}Storage"): getattr(torch, dtype) for name, dtype in STORAGES.items()
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first value of a torch file before the zip format
LEGACY_PROTOCOL = 1001
ZIP_MAGIC = b"PK\x03\x04"
ZIP_ERRORS = (zipfile.BadZipFile, struct.error, LookupError, ValueError, OSError, EOFError)
ZIP_ERRORS += (RuntimeError, OverflowError)  # encrypted members, absurd sizes
MAX_DIMS = 8
MAX_ELEMENTS = 2**48


def are_sizes(values: Any) -> bool:
    """Tell whether `values` is a tuple of a few whole numbers from 0 on."""
    numbers = type(values) is tuple and len(values) <= MAX_DIMS
    return numbers and all(type(n) is int and n >= 0 for n in values)


def count_elements(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape, which must not be absurd beside a 0 either."""
    if math.prod(n or 1 for n in shape) > MAX_ELEMENTS:
        raise StudyError(f"shape {shape} is larger than any file")
    return math.prod(shape)


@dataclass
class NumpyType:
    """Stand-in for a `numpy.dtype`."""

    dtype: np.dtype

    def build(self, state: Any) -> None:
        """Accept the state of a plain little-endian type."""
        match state:
            case (int(), "<" | "|" | "=", None, None, None, -1, -1, 0):
                return
        raise StudyError("numpy.dtype: not a plain little-endian type")

    def fill(self, data: Any, shape: Any, order: str = "C") -> np.ndarray:
        """Return an array that fills exactly the bytes of `data`, a view of them."""
        if not isinstance(data, bytes | bytearray):
            raise StudyError(f"{type(data).__name__} in the place of bytes")
        if not are_sizes(shape) or count_elements(shape) * self.dtype.itemsize != len(data):
            raise StudyError(f"an array of {self.dtype} does not fill its {len(data):,} bytes")
        return np.frombuffer(data, self.dtype).reshape(shape, order=order)


@dataclass
class NumpyArray:
    """Stand-in for a `numpy.ndarray`, empty until its state arrives."""

    array: np.ndarray = field(default_factory=lambda: np.empty(0))

    def build(self, state: Any) -> None:
        """Take the state `(version, shape, dtype, is_fortran, bytes)`."""
        match state:
            case (1, shape, NumpyType() as dtype, bool(fortran), data):
                self.array = dtype.fill(data, shape, "F" if fortran else "C")
            case _:
                raise StudyError("numpy.ndarray: not the state of a plain array")


def numpy_type(arguments: tuple) -> NumpyType:
    """Stand in for `numpy.dtype`: numbers and truth values only."""
    match arguments:
        case (str(code), False | 0, True | 1) if code in NUMPY_TYPES:
            return NumpyType(np.dtype(code))
    raise StudyError(f"only the types {', '.join(NUMPY_TYPES)} are known")


def numpy_value(arguments: tuple) -> int | float | bool | NumpyArray:
    """Stand in for numpy's `scalar` (a Python number), `_reconstruct` and `_frombuffer`."""
    match arguments:
        case (NumpyType() as dtype, data):
            return dtype.fill(data, ()).item()
        case (Global(name="numpy.ndarray"), (0,), bytes() | bytearray()):
            return NumpyArray()
        case (data, NumpyType() as dtype, shape, "C" | "F" as order):
            return NumpyArray(dtype.fill(data, shape, order))
    raise StudyError("the arguments are not those of a plain number or array")


def latin1_bytes(arguments: tuple) -> bytes:
    """Stand in for `_codecs.encode`, by which protocol 2 stores bytes."""
    match arguments:
        case (str(text), "latin1" | "latin-1") if max(text, default="") <= "\xff":
            return text.encode("latin-1")
    raise StudyError("only bytes stored as latin-1 are known")


@dataclass(frozen=True)
class Storage:
    """The elements of a tensor, a view of the file."""

    dtype: torch.dtype
    data: memoryview

    @property
    def numel(self) -> int:
        """Number of elements."""
        return len(self.data) // self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's place in its storage; `offset` and `stride` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def extent(self) -> int:
        """Return the number of elements from the first to the last one, both included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def tensor(self) -> torch.Tensor:
        """Return a contiguous copy."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        size = self.storage.dtype.itemsize
        part = self.storage.data[self.offset * size : (self.offset + self.extent()) * size]
        flat = torch.frombuffer(bytearray(part), dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride).contiguous()


def rebuild_tensor(arguments: tuple) -> StoredTensor:
    """Stand in for `torch._utils._rebuild_tensor_v2`: check where the tensor lies."""
    match arguments:
        case (Storage() as storage, offset, shape, stride, bool(), hooks, *more):
            _check_empty(hooks, *more)
        case _:
            raise StudyError("the arguments are not those of a plain tensor")
    if not (are_sizes((offset,)) and are_sizes(shape) and are_sizes(stride)):
        raise StudyError("offset, shape and strides must be tuples of numbers from 0 on")
    if len(shape) != len(stride):
        raise StudyError(f"{len(shape)} dimensions but {len(stride)} strides")
    tensor = StoredTensor(storage, offset, shape, stride)
    if max(offset + tensor.extent(), count_elements(shape)) > storage.numel:
        raise StudyError(
            f"a tensor of shape {shape}, strides {stride} and offset {offset} "
            f"does not lie inside its storage of {storage.numel} elements"
        )
    return tensor


def rebuild_parameter(arguments: tuple) -> StoredTensor:
    """Stand in for `torch._utils._rebuild_parameter`: return the tensor."""
    match arguments:
        case (StoredTensor() as tensor, bool(), hooks):
            _check_empty(hooks)
            return tensor
    raise StudyError("the arguments are not those of a plain parameter")


def _check_empty(*values: Any) -> None:
    if any(value is not None and value != {} for value in values):
        raise StudyError("a tensor with hooks or extra data")


def load_from_bytes(arguments: tuple) -> Storage:
    """Stand in for `torch.storage._load_from_bytes`: read a torch file that is one storage."""
    match arguments:
        case (bytes(data) | bytearray(data),):
            return _read_zip(data) if data[:4] == ZIP_MAGIC else _read_legacy(data)
    raise StudyError("the argument is not bytes")


def _read_legacy(data: bytes) -> Storage:
    """Read five pickles (magic, version, system, storage, keys), a count and the elements."""
    file = io.BytesIO(data)
    reader = SafeUnpickler(file, STORAGE_TYPES, _place)
    magic, version, system, storage, keys = (reader.load() for _ in range(5))
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL:
        raise StudyError("no torch file")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise StudyError("the numbers are not little-endian")
    if type(storage) is not _Place or keys != [storage.key]:
        raise StudyError("not one storage")
    if int.from_bytes(file.read(8), "little") != storage.numel:
        raise StudyError("the count of elements contradicts itself")
    return storage.fill(memoryview(data)[file.tell() :])


def _read_zip(data: bytes) -> Storage:
    """Read a torch zip file: `<name>/data.pkl` and the elements in `<name>/data/<key>`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or sum(entry.file_size for entry in entries) > len(data):
                raise StudyError("zip members are compressed or larger than the file")
            parts = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
        storage = SafeUnpickler(io.BytesIO(parts["data.pkl"]), STORAGE_TYPES, _place).load()
        if type(storage) is not _Place or parts.get("byteorder", b"little") != b"little":
            raise StudyError("not one storage of little-endian numbers")
        return storage.fill(memoryview(parts[f"data/{storage.key}"]))
    except ZIP_ERRORS as error:
        raise StudyError(f"damaged zip ({shown(str(error))})") from None


@dataclass(frozen=True)
class _Place:
    """What a torch file says about a storage, before its elements are seen."""

    dtype: torch.dtype
    key: str
    numel: int

    def fill(self, data: memoryview) -> Storage:
        if len(data) != self.numel * self.dtype.itemsize:
            raise StudyError(f"{self.numel:,} elements are claimed, {len(data):,} bytes are there")
        return Storage(self.dtype, data)


def _place(identity: Any) -> _Place:
    match identity:
        case ("storage", Global(stand_in=dtype), str(key), str(), int(numel), *view):
            if view in ([], [None]):
                return _Place(dtype, key, numel)
    raise StudyError("the persistent id is not that of a plain storage")


def empty_dictionary(arguments: tuple) -> dict:
    """Stand in for `collections.OrderedDict` and its like, which are filled afterwards."""
    if arguments:
        raise StudyError("only an empty one may be made")
    return {}


NUMPY_FUNCTIONS = ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
STAND_INS: StandIns = {
    ("numpy", "dtype"): numpy_type,
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): latin1_bytes,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
    ("collections", "OrderedDict"): empty_dictionary,
}
for core in ("numpy.core", "numpy._core"):
    for part, name in (function.split(".") for function in NUMPY_FUNCTIONS):
        STAND_INS[f"{core}.{part}", name] = numpy_value
