"""A network file at its own size: what it takes, how images get there, what it gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.quantization.own.imports import (
    FLOATS,
    NORMALISATIONS,
    check_floating,
    fold_normalisations,
    named,
    read_source,
    widen_constants,
)
from lib.quantization.own.parameters import SUFFIXES

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue (ITU-R BT.601)
LARGE = 16  # of a constant beside the input: from there on it is one of pixels, not of 0 … 1
AROUND = {"Convert", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Reverse", "Gather"}
ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide"}


@dataclass(frozen=True)
class Takes:
    """What somebody says of a network's input; None: not said.

    It is fed `(pixels * input_max / 255 - mean) / std`, by channel in the order `colours`.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    input_max: Literal[1, 255] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    colours: Literal["RGB", "BGR"] = "RGB"
    size: tuple[int, int] | None = None  # height and width, where the file leaves them open


@dataclass(frozen=True)
class Network:
    """A network in floating point with one input of images `(channels, height, width)`."""

    file: Path
    model: ov.Model
    layout: str
    channels: int
    size: tuple[int, int]
    batch: int
    colours: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_max: int
    words: str
    """What it is fed, and who says so."""

    @property
    def outputs(self) -> list[str]:
        """The outputs' names, or numbers where they have none."""
        return [min(o.names, default=str(k)) for k, o in enumerate(self.model.outputs)]

    @property
    def classifies(self) -> list[bool]:
        """Whether each output gives a score to each of several classes."""
        shapes = [output.get_partial_shape() for output in self.model.outputs]
        return [len(s) == 2 and s[1].is_static and s[1].get_length() > 1 for s in shapes]

    def feed(self, images: np.ndarray) -> np.ndarray:
        """Return the network's input for images `(n, 3, height, width) uint8`, RGB."""
        pixels = images.astype(np.float32)
        if self.channels == 1:
            pixels = np.round(np.einsum("nchw,c->nhw", pixels, LUMA))[:, None]
        elif self.colours == "BGR":
            pixels = pixels[:, ::-1]
        if self.model.input(0).get_element_type() != ov.Type.u8:
            mean, std = (np.float32(v).reshape(-1, 1, 1) for v in (self.mean, self.std))
            pixels = (pixels * np.float32(self.input_max / 255) - mean) / std
        if self.layout == "NHWC":
            pixels = pixels.transpose(0, 2, 3, 1)
        kind = self.model.input(0).get_element_type().to_dtype()
        return np.ascontiguousarray(pixels.astype(kind))

    def batches(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Yield inputs of the network's batch, the last filled up, and how many of each count."""
        for start in range(0, len(images), self.batch):
            some = images[start : start + self.batch]
            yield self.feed(some[np.resize(np.arange(len(some)), self.batch)]), len(some)


def read_network(file: Path, takes: Takes) -> Network:
    """Read an .onnx, .xml or .tflite file; `StudyError` says in a line what does not do."""
    if file.is_dir() or file.suffix.lower() not in SUFFIXES:
        raise StudyError(f"{file} is no network: give a file that ends in {', '.join(SUFFIXES)}")
    model = read_source(file)
    if len(model.inputs) != 1:
        raise StudyError(f"{file} has {len(model.inputs)} inputs: give a network of one image")
    check_floating(model, file)
    entry = model.input(0)
    kind, shape = entry.get_element_type(), entry.get_partial_shape()
    if kind not in (*FLOATS, ov.Type.u8):
        taken = f"{file} takes {kind.get_type_name()} numbers"
        raise StudyError(f"{taken}: export it with a floating-point or 8-bit input")
    if shape.rank.is_dynamic or len(shape) != 4:
        raise StudyError(f"{file} takes {shape}, no images: those are (n, channels, h, w)")
    layout, channels = _layout(file, shape, takes.layout)
    if channels == 1 and takes.colours == "BGR":
        raise StudyError(f"{file} takes one channel: leave --colours out")
    size = _size(file, model, layout, channels, takes.size)
    with named(file, "does not take such images"):
        widen_constants(model)
    batch = model.input(0).get_partial_shape()[0]
    mean, std, input_max, words = _values(file, model, channels, takes)
    fold_normalisations(model)  # and constants, which tell of the values
    return Network(
        file=file,
        model=model,
        layout=layout,
        channels=channels,
        size=size,
        batch=batch.get_length() if batch.is_static else 1,
        colours=takes.colours,
        mean=mean,
        std=std,
        input_max=input_max,
        words=words,
    )


def _layout(file: Path, shape: ov.PartialShape, said: str | None) -> tuple[str, int]:
    """Return the layout and the number of channels, 1 or 3."""
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        length = shape[axis].get_length() if shape[axis].is_static else 0
        if said in (None, layout) and length in (1, 3):
            return layout, length
    wanted = {"NCHW": "axis 1", "NHWC": "axis 3"}.get(said or "", "axis 1 or 3")
    raise StudyError(
        f"{file} takes {shape}: the tool makes images of 1 or 3 channels, on {wanted}"
        + ("; is --layout right?" if said else "")
    )


def _size(
    file: Path, model: ov.Model, layout: str, channels: int, said: tuple[int, int] | None
) -> tuple[int, int]:
    """Return height and width, which the network then has."""
    shape = model.input(0).get_partial_shape()
    axes = (2, 3) if layout == "NCHW" else (1, 2)
    open_ = any(shape[axis].is_dynamic for axis in axes)
    if said is None and open_:
        raise StudyError(f"{file} takes images of any size: say which, such as --size 224x224")
    size = said or tuple(shape[axis].get_length() for axis in axes)
    if not all(shape[a].compatible(ov.Dimension(s)) for a, s in zip(axes, size, strict=True)):
        raise StudyError(f"{file} takes {shape}: leave --size out")
    if open_:
        form = [channels, *size] if layout == "NCHW" else [*size, channels]
        with named(file, f"does not take images of {size[0]}x{size[1]}"):
            model.reshape([shape[0], *form])
    return size


def _values(
    file: Path, model: ov.Model, channels: int, takes: Takes
) -> tuple[tuple[float, ...], tuple[float, ...], int, str]:
    """Return mean, std and input_max as said, as the network shows, or as mostly is."""
    plain = (0.0,) * channels, (1.0,) * channels
    said = takes.mean is not None or takes.std is not None or takes.input_max is not None
    mean, std = (tuple(v or p) for v, p in zip((takes.mean, takes.std), plain, strict=True))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels or (name == "std" and min(values) <= 0):
            above = ", above 0" if name == "std" else ""
            raise StudyError(f"--{name} {values}: {file} takes {channels}, one a channel{above}")
    if model.input(0).get_element_type() == ov.Type.u8:
        if said and (mean, std, takes.input_max or 255) != (*plain, 255):
            raise StudyError(f"{file} takes pixels of 8 bits: leave out mean, std and input-max")
        return *plain, 255, "pixels of 8 bits, as its input says"
    if said:
        input_max = takes.input_max or 1
        words = f"values 0 … {input_max}"
        if takes.mean or takes.std:
            shown = ([round(value, 4) for value in values] for values in (mean, std))
            words += ", less {} and divided by {}".format(*shown)
        return mean, std, input_max, words
    if (found := inner_scale(model)) is not None:
        sure = "" if found == 255 else ", assumed: say --mean, --std or --input-max if not"
        return *plain, found, f"values 0 … {found}, which it normalises itself{sure}"
    if channels == 1:
        return *plain, 1, "values 0 … 1, assumed: say --mean, --std or --input-max if not"
    order = -1 if takes.colours == "BGR" else 1
    mean, std = (tuple(values[::order]) for values in NORMALISATIONS["ImageNet's mean and std"])
    words = "values with ImageNet's mean and std, assumed: say --mean, --std or --input-max if not"
    return mean, std, 1, words


def affine_of_input(output: ov.Output) -> bool:
    """Tell whether this is the input itself, but for layout, order and constants of arithmetic."""
    while (kind := output.get_node().get_type_name()) != "Parameter":
        if kind not in AROUND | ARITHMETIC:
            return False
        ports = output.get_node().input_values()
        if kind in ARITHMETIC:
            ports = [port for port in ports if port.get_node().get_type_name() != "Constant"]
            if len(ports) != 1 or (
                kind == "Divide" and ports[0] != output.get_node().input_value(0)
            ):
                return False
        output = ports[0]
    return True


def inner_scale(model: ov.Model) -> int | None:
    """Return 255 or 1 where the network first normalises such values itself, None if not.

    Constants that are added, subtracted, multiplied or divided by before the first layer tell it.
    """
    output, found = model.input(0), None
    while len(targets := output.get_target_inputs()) == 1:
        node = targets.pop().get_node()
        kind = node.get_type_name()
        if kind in ARITHMETIC:
            constants = [
                source.get_data()
                for source in (port.get_node() for port in node.input_values())
                if source.get_type_name() == "Constant"
            ]
            if not constants:
                return found
            largest = np.abs(constants[0]).max()
            small = kind == "Multiply" and largest <= 1 / LARGE
            found = 255 if found == 255 or largest >= LARGE or small else 1
        elif kind not in AROUND:
            return found
        output = node.output(0)
    return found
