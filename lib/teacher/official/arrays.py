"""Numpy arrays and byte strings as pickles store them, checked before they are built.

`STAND_INS` replaces the functions that such a pickle names.
"""

import math
from typing import Any

import numpy as np

from lib.common.errors import StudyError
from lib.teacher.official.pickle import Global, StandIns

NUMPY_MODULES = ("numpy.core", "numpy._core")
NUMPY_TYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
MAX_DIMS = 8
MAX_ELEMENTS = 2**48


class NumpyType:
    """Stand-in for a `numpy.dtype`."""

    def __init__(self, code: str):
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Accept the state of a plain little-endian type."""
        match state:
            case (int(), "<" | "|" | "=", None, None, None, -1, -1, 0):
                return
        raise StudyError("numpy.dtype: not a plain little-endian type")


class NumpyArray:
    """Stand-in for a `numpy.ndarray`, empty until its state arrives."""

    def __init__(self) -> None:
        self.array = np.empty(0)

    def build(self, state: Any) -> None:
        """Take the state `(version, shape, dtype, is_fortran, bytes)`."""
        match state:
            case (1, tuple(shape), NumpyType(dtype=dtype), bool(fortran), data):
                self.array = fill_array(data, dtype, shape, "F" if fortran else "C")
            case _:
                raise StudyError("numpy.ndarray: not the state of a plain array")


def numpy_type(arguments: tuple) -> NumpyType:
    """Stand in for `numpy.dtype`: numbers and truth values only."""
    match arguments:
        case (str(code), False | 0, True | 1) if code in NUMPY_TYPES:
            return NumpyType(code)
    raise StudyError(f"only the types {', '.join(NUMPY_TYPES)} are known")


def numpy_scalar(arguments: tuple) -> int | float | bool:
    """Stand in for numpy's `scalar`: return a Python number."""
    match arguments:
        case (NumpyType(dtype=dtype), data):
            return fill_array(data, dtype, (), "C").item()
    raise StudyError("the arguments are not those of a number")


def numpy_array(arguments: tuple) -> NumpyArray:
    """Stand in for numpy's `_reconstruct`."""
    match arguments:
        case (Global(name="numpy.ndarray"), (0,), memoryview() | bytes()):
            return NumpyArray()
    raise StudyError("the arguments are not those of a plain array")


def numpy_from_buffer(arguments: tuple) -> NumpyArray:
    """Stand in for numpy's `_frombuffer`, which protocol 5 uses."""
    match arguments:
        case (data, NumpyType(dtype=dtype), tuple(shape), "C" | "F" as order):
            array = NumpyArray()
            array.array = fill_array(data, dtype, shape, order)
            return array
    raise StudyError("the arguments are not those of a plain array")


def latin1_bytes(arguments: tuple) -> bytes:
    """Stand in for `_codecs.encode`, by which protocol 2 stores bytes."""
    match arguments:
        case (str(text), "latin1" | "latin-1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                raise StudyError("a text does not hold bytes") from None
    raise StudyError("only bytes stored as latin-1 are known")


def fill_array(data: Any, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    """Return an array that fills exactly the bytes of `data`, a view of them."""
    data = byte_view(data)
    if not are_sizes(shape) or count_elements(shape) * dtype.itemsize != len(data):
        raise StudyError(f"an array of {dtype} does not fill its {len(data):,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def byte_view(data: Any) -> memoryview:
    """Return bytes as a view; anything else is a `StudyError`."""
    if not isinstance(data, bytes | memoryview):
        raise StudyError(f"{type(data).__name__} in the place of bytes")
    return memoryview(data)


def are_sizes(values: Any) -> bool:
    """Tell whether `values` is a tuple of a few whole numbers from 0 on."""
    numbers = type(values) is tuple and len(values) <= MAX_DIMS
    return numbers and all(type(n) is int and n >= 0 for n in values)


def count_elements(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape, which must not be absurd beside a 0 either."""
    if math.prod(n or 1 for n in shape) > MAX_ELEMENTS:
        raise StudyError(f"shape {shape} is larger than any file")
    return math.prod(shape)


STAND_INS: StandIns = {
    ("numpy", "dtype"): numpy_type,
    ("numpy", "ndarray"): "ndarray",
    **{(f"{core}.multiarray", "scalar"): numpy_scalar for core in NUMPY_MODULES},
    **{(f"{core}.multiarray", "_reconstruct"): numpy_array for core in NUMPY_MODULES},
    **{(f"{core}.numeric", "_frombuffer"): numpy_from_buffer for core in NUMPY_MODULES},
    ("_codecs", "encode"): latin1_bytes,
}
