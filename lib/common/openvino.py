"""OpenVINO models: converted, written, read and compiled in one way everywhere; without torch.

All networks compute with INFERENCE_PRECISION_HINT f32: on CPUs with AMX the default is bfloat16,
and an FP32 reference would not be one.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino as ov
import openvino.properties.hint as hints

from lib.common.errors import StudyError
from lib.common.files import atomic_path

AUTOMATIC_NAME = re.compile(r"[A-Za-z]+_\d+")  # OpenVINO's own, numbered through the process
LATENCY, THROUGHPUT = hints.PerformanceMode.LATENCY, hints.PerformanceMode.THROUGHPUT


def convert(network: Any, example: Any, shapes: Sequence | None = None) -> ov.Model:
    """Convert a torch module in eval mode; `example` are inputs to trace it with.

    `shapes` are those of its inputs, -1 where any size will do.
    """
    with traceable():
        return ov.convert_model(network, example_input=example, input=shapes)


@contextmanager
def traceable() -> Iterator[None]:
    """Silence what torch's tracer says of itself; have attention use operations it can name."""
    import torch  # whoever has a module to convert has it

    fused = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def save_ir(out_xml: Path, model: ov.Model, half: bool = False) -> None:
    """Write `out_xml` and the .bin beside it, with their weights as they are or, `half`, in FP16.

    While they are replaced there is no .xml, so that no one reads one model's graph with another
    one's weights. Equal models give equal files: operations whose automatic names hold numbers
    that depend on the process's past are renamed.
    """
    for index, operation in enumerate(model.get_ordered_ops()):
        if AUTOMATIC_NAME.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    model.set_friendly_name(out_xml.stem)
    out_xml.unlink(missing_ok=True)
    with atomic_path(out_xml) as xml, atomic_path(out_xml.with_suffix(".bin")) as weights:
        ov.save_model(model, xml, compress_to_fp16=half)
        xml.with_suffix(".bin").replace(weights)


def read_ir(xml: Path, remedy: str = "export the classifiers again") -> ov.Model:
    """Read an IR; one that is missing or damaged is a `StudyError` that names the file."""
    if not (xml.is_file() and xml.with_suffix(".bin").is_file()):
        raise StudyError(f"{xml} or its .bin is missing: {remedy}")
    try:
        return ov.Core().read_model(xml)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{xml} is damaged ({reason}): {remedy}") from error


def compile_model(
    model: ov.Model, mode: hints.PerformanceMode = LATENCY, more: Mapping[str, Any] | None = None
) -> ov.CompiledModel:
    """Compile a model for the CPU in float32; `more` are further properties."""
    config = {hints.inference_precision: ov.Type.f32, hints.performance_mode: mode}
    # else processes that run side by side would all be pinned to the same first core
    config[hints.enable_cpu_pinning] = False
    return ov.compile_model(model, "CPU", config | dict(more or {}))
