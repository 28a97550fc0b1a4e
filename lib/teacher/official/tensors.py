"""Torch tensors as pickles store them: every size is checked before anything is built.

`STAND_INS` replaces the functions of torch and numpy that such a pickle names. Storages stay
views of the file until a tensor is asked for.
"""

import io
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import torch

from lib.common.errors import StudyError
from lib.teacher.official.arrays import STAND_INS as ARRAY_STAND_INS
from lib.teacher.official.arrays import are_sizes, byte_view, count_elements
from lib.teacher.official.pickle import Global, SafeUnpickler, StandIns, shown

STORAGE_TYPES: StandIns = {
    ("torch", f"{name}Storage"): dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Byte": torch.uint8,
    }.items()
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first value of a torch file before the zip format
LEGACY_PROTOCOL = 1001
ZIP_MAGIC = b"PK\x03\x04"
ZIP_ERRORS = (zipfile.BadZipFile, struct.error, LookupError, ValueError, OSError, EOFError)
ZIP_ERRORS += (RuntimeError, OverflowError)


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
    if not 6 <= len(arguments) <= 7:
        raise StudyError(f"{len(arguments)} arguments")
    storage, offset, shape, stride, requires_grad, hooks = arguments[:6]
    if type(storage) is not Storage or type(requires_grad) is not bool:
        raise StudyError("the arguments are not those of a plain tensor")
    _check_empty(hooks, *arguments[6:])
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


def load_from_bytes(arguments: tuple) -> Storage:
    """Stand in for `torch.storage._load_from_bytes`: read a torch file that is one storage."""
    if len(arguments) != 1:
        raise StudyError(f"{len(arguments)} arguments")
    data = byte_view(arguments[0])
    return _read_zip(data) if data[:4] == ZIP_MAGIC else _read_legacy(data)


def _read_legacy(data: memoryview) -> Storage:
    """Read five pickles (magic, version, system, storage, keys), a count and the elements."""
    reader = _StorageReader(data)
    magic, version, system, storage, keys = (reader.next() for _ in range(5))
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL:
        raise StudyError("no torch file")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise StudyError("the numbers are not little-endian")
    if type(storage) is not _Claim or keys != [storage.key]:
        raise StudyError("not one storage")
    rest = data[reader.position :]
    if len(rest) < 8 or int.from_bytes(rest[:8], "little") != storage.numel:
        raise StudyError("the count of elements contradicts itself")
    return storage.fill(rest[8:])


def _read_zip(data: memoryview) -> Storage:
    """Read a torch zip file: `<name>/data.pkl` and the elements in `<name>/data/<key>`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise StudyError("no torch file")
            storage = _StorageReader(_member(archive, names[0], len(data))).next()
            if type(storage) is not _Claim:
                raise StudyError("not one storage")
            root = names[0].removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in archive.namelist() and _member(archive, order, 16) != b"little":
                raise StudyError("the numbers are not little-endian")
            return storage.fill(_member(archive, f"{root}data/{storage.key}", len(data)))
    except ZIP_ERRORS as error:
        raise StudyError(f"damaged zip ({shown(str(error))})") from None


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> memoryview:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
        raise StudyError("a zip member is compressed or larger than the file")
    return memoryview(archive.read(entry))


@dataclass(frozen=True)
class _Claim:
    """What a torch file says about a storage, before its elements are seen."""

    dtype: torch.dtype
    key: str
    numel: int

    def fill(self, data: memoryview) -> Storage:
        if len(data) != self.numel * self.dtype.itemsize:
            raise StudyError(f"{self.numel:,} elements are claimed, {len(data):,} bytes are there")
        return Storage(self.dtype, data)


class _StorageReader:
    """The successive pickles in a torch file, which may name storage types and nothing else."""

    def __init__(self, data: memoryview):
        self.data, self.position = data, 0

    def next(self) -> Any:
        machine = SafeUnpickler(self.data, STORAGE_TYPES, _claim, self.position)
        value = machine.load()
        self.position = machine.position
        return value


def _claim(identity: Any) -> _Claim:
    match identity:
        case ("storage", Global(stand_in=dtype), str(key), str(), int(numel)):
            return _Claim(dtype, key, numel)
        case ("storage", Global(stand_in=dtype), str(key), str(), int(numel), None):
            return _Claim(dtype, key, numel)
    raise StudyError("the persistent id is not that of a plain storage")


def empty_dictionary(arguments: tuple) -> dict:
    """Stand in for `collections.OrderedDict` and its like, which are filled afterwards."""
    if arguments:
        raise StudyError("only an empty one may be made")
    return {}


def _check_empty(*values: Any) -> None:
    if any(value is not None and value != {} for value in values):
        raise StudyError("a tensor with hooks or extra data")


STAND_INS: StandIns = ARRAY_STAND_INS | {
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
    ("collections", "OrderedDict"): empty_dictionary,
}
