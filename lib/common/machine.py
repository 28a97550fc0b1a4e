"""What the study ran on: revision, versions, processor."""

import platform
import re
import subprocess
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from lib.common.files import ROOT

PACKAGES = ("torch", "torchvision", "openvino", "nncf", "torch-fidelity")
PACKAGES += ("numpy", "scipy", "scikit-learn", "statsmodels", "safetensors")
CPU = Path("/proc/cpuinfo")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe_environment() -> dict:
    """Return git revision, Python and library versions, processor with its vector flags, GPUs."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    versions = {name: [found.version for found in distributions(name=name)] for name in PACKAGES}
    return {
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: (found or ["absent"])[0] for name, found in versions.items()},
        "cpu": _field(CPU, "model name") or platform.processor(),
        "cpu_flags": cpu_flags(),
        "gpus": [_field(gpu, "Model") for gpu in gpus],
    }


def cpu_flags() -> list[str]:
    """Return which of the vector instructions that INT8 kernels use this processor has.

    NNCF's ranges and OpenVINO's INT8 results depend on them.
    """
    present = set(_field(CPU, "flags").split())
    return [flag for flag in CPU_FLAGS if flag in present]


def working_precision(wanted: str, device: str) -> str:
    """Return the precision to train in: `wanted`, but float32 where bfloat16 would be emulated.

    Emulated, on a CPU with AVX2 alone, a training step takes ten times as long as in float32.
    """
    if wanted == "float32" or device != "cpu" or has_bfloat16():
        return wanted
    print("This processor has no bfloat16 (AVX512-BF16 or AMX): training in float32")
    return "float32"


def has_bfloat16() -> bool:
    """Tell whether this processor multiplies in bfloat16."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def _git_revision() -> str:
    """Return the commit, with `+` behind it where lib, notebooks or params differ from it."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    try:
        head = git(["git", "rev-parse", "HEAD"])
        status = git(["git", "status", "--porcelain", "--", "lib", "notebooks", "params"])
    except OSError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _field(file: Path, name: str) -> str:
    """Return what stands first behind `name:` in a file, which may be missing."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(rf"^{name}\s*: *(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
