"""What the study ran on: revision, versions, processor."""

import platform
import re
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lib.common.files import ROOT

PACKAGES = ("torch", "torchvision", "openvino", "nncf", "torch-fidelity")
PACKAGES += ("numpy", "scipy", "scikit-learn", "statsmodels", "safetensors")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def describe_environment() -> dict:
    """Return git revision, Python and library versions, processor with its vector flags, GPUs."""
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu_field("model name") or platform.processor(),
        "cpu_flags": cpu_flags(),
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver knows."""
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found += re.findall(r"^Model:\s*(.+?)\s*$", file.read_text(), re.MULTILINE)
    return found


def git_revision() -> str:
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


def cpu_flags() -> list[str]:
    """Return which of the vector instructions that INT8 kernels use this processor has.

    NNCF's ranges and OpenVINO's INT8 results depend on them.
    """
    present = set(_cpu_field("flags").split())
    return [flag for flag in CPU_FLAGS if flag in present]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _cpu_field(name: str) -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(rf"^{name}\s*: *(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
