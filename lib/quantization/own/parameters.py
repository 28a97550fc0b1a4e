"""A user's own networks as the parameters describe them: the file and what goes into it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data
from pydantic import BaseModel, ConfigDict, Field, field_validator

from lib.common.errors import StudyError
from lib.common.files import LFS, read_json, resolve, sha256_file, sha256_json
from lib.data.samples import IMAGE_SHAPE

SUFFIXES = (".onnx", ".xml", ".tflite")
Finite = Annotated[float, Field(strict=False, allow_inf_nan=False)]
Channels = Annotated[list[Finite], Field(min_length=3, max_length=3)]


class Input(BaseModel):
    """What a network is fed: `(pixels * input_max / 255 - mean) / std` by channel.

    The channels come in the order `colours`, which is that of `mean` and `std`, too, and the
    image in `layout`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    mean: Channels
    std: Channels
    input_max: Literal[1, 255] = 1
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"

    @field_validator("std")
    @classmethod
    def _positive(cls, std: list[float]) -> list[float]:
        if min(std) <= 0:
            raise ValueError(f"std {std} must be above 0")
        return std

    @property
    def shape(self) -> list[int]:
        """Shape of an image in the network's layout."""
        return [*IMAGE_SHAPE[1:], IMAGE_SHAPE[0]] if self.layout == "NHWC" else [*IMAGE_SHAPE]

    def for_model_optimizer(self) -> dict[str, Any]:
        """Return the options of OpenVINO's Model Optimizer that put all this into a network."""
        width = 255 / self.input_max
        return {
            "mean_values": [width * value for value in self.mean],
            "scale_values": [width * value for value in self.std],
            "reverse_input_channels": self.colours == "BGR",
            "layout": "nhwc->nchw" if self.layout == "NHWC" else "nchw",
        }


class OwnModel(Input):
    """A network of one's own: its `name` in the tables, its file, and what it takes.

    Fixed or dynamic batch is read from the file. `output` names the output that is meant, where
    there are several.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    path: Annotated[str, Field(min_length=1)]
    output: str = ""

    @field_validator("path")
    @classmethod
    def _known_format(cls, path: str) -> str:
        if Path(path).suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: give a file that ends in {', '.join(SUFFIXES)}")
        return path

    @property
    def file(self) -> Path:
        """The network's file; a relative path starts at the repository's root."""
        return resolve(self.path)


def source_files(file: Path) -> list[Path]:
    """Return the files of a network: an .xml has a .bin, an .onnx may keep weights beside it.

    A missing one, or one outside of the network's folder, is a `StudyError`.
    """
    files = [file]
    if file.suffix.lower() == ".xml":
        files.append(file.with_suffix(".bin"))
    if file.suffix.lower() == ".onnx" and file.is_file():
        files += [file.parent / name for name in external_files(read_onnx(file))]
    for path in files:
        inside = path.resolve().is_relative_to(file.parent.resolve())
        if not inside and path not in (file, file.with_suffix(".bin")):
            copied = "export it again, or copy the folder with its links followed, by cp -rL"
            raise StudyError(f"{path} lies, or links, outside of the network's folder: {copied}")
        if not path.is_file():
            raise StudyError(f"{path} is missing: put it there or mend its path")
    return files


def read_onnx(file: Path) -> onnx.ModelProto:
    """Read an .onnx file without the weights that it keeps in others."""
    try:
        return onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError) as error:
        if file.read_bytes()[: len(LFS)] == LFS:
            raise StudyError(f"{file} is a pointer of Git LFS: run git lfs pull") from error
        raise StudyError(f"{file} is damaged ({error}): export the network again") from error


def whole_onnx(file: Path) -> onnx.ModelProto:
    """Read an .onnx file and the weights that it keeps in others, `source_files`."""
    source_files(file)
    model = read_onnx(file)
    for tensor in filter(uses_external_data, _get_all_tensors(model)):
        info = ExternalDataInfo(tensor)
        with (file.parent / info.location).open("rb") as weights:
            weights.seek(info.offset or 0)
            tensor.raw_data = weights.read(info.length or -1)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of the files, sorted, in which a network keeps weights."""
    tensors = filter(uses_external_data, _get_all_tensors(model))
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors})


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a network's content, whatever it is called."""
    return sha256_json([sha256_file(path) for path in source_files(file)])


def own_records(models: list[OwnModel]) -> list[dict[str, Any]]:
    """Return what decides how networks come out: the content of their files, not where they lie."""
    return [
        model.model_dump(exclude={"path"} if model.output else {"path", "output"})
        | {"sha256": content_hash(model.file)}
        for model in models
    ]


def read_input(folder: Path, name: str) -> Input | None:
    """Return what the ONNX form of a network takes, None where that is pixels."""
    file = folder / f"{name}.json"
    return Input(**read_json(file)) if file.is_file() else None


def own_files(models: list[OwnModel]) -> dict[str, Path]:
    """Return where the file of each network lies."""
    return {model.name: model.file for model in models}
