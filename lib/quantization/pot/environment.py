"""POT's own Python environment: made on first use, apart from the study's.

OpenVINO's Post-training Optimization Tool ended with openvino-dev 2023.3, which wants an older
numpy and its own OpenVINO.
"""

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

from filelock import FileLock

from lib.common.download import cache_folder
from lib.common.errors import Unavailable
from lib.common.files import sha256_json

PINS = (
    "openvino-dev==2023.3.0",
    "numpy==1.26.4",
    "scipy==1.10.1",
    "opencv-python==4.11.0.86",
    "networkx==3.1",
)
PYTHONS = ((3, 8), (3, 11))  # the oldest and newest that these have wheels for
TELEMETRY = "openvino-telemetry"  # POT and mo do without it, and then report nothing
PATIENCE = ("--retries", "1", "--timeout", "20")  # of pip, where there is no network
FORGOTTEN = 600.0  # seconds after which a process tries once more
_refused: dict[Path, tuple[str, float]] = {}  # why one could not be made here, and when


def pot_python(again: bool = False) -> Path:
    """Return the interpreter of POT's environment, which is made if it is not there yet.

    That takes the network, about 2 minutes and 1 GB in the study's cache folder; a making that
    was killed is done again. Raises `Unavailable` with the reason where it cannot be made; a
    process in which that happened does not try once more for `FORGOTTEN` seconds, unless told
    to by `again`.
    """
    folder = environment_folder()
    reason, since = _refused.get(folder, ("", -FORGOTTEN))
    if time.monotonic() - since < FORGOTTEN and not again:
        raise Unavailable(reason)
    try:
        if not is_ready(folder):
            make_environment(folder)
    except (Unavailable, OSError) as error:
        known = isinstance(error, Unavailable)
        reason = str(error) if known else f"POT's environment could not be made ({error})"
        _refused[folder] = reason, time.monotonic()
        raise Unavailable(reason) from error
    return folder / "bin" / "python"


def is_ready(folder: Path) -> bool:
    """Tell whether an environment was made to the end and its interpreter is still there."""
    return (folder / "ready").is_file() and (folder / "bin" / "python").exists()


def environment_folder() -> Path:
    """Return where POT's environment is, or will be: one for each set of pins and Python."""
    return cache_folder() / f"pot-{sha256_json([*PINS, *sys.version_info[:2]])[:12]}"


def make_environment(folder: Path) -> None:
    """Make the environment; of several processes that want it one does, and the others wait."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        here = ".".join(map(str, sys.version_info[:2]))
        raise Unavailable(f"POT has no release for Python {here}: run the study with Python 3.11")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if is_ready(folder):
            return
        print(f"POT's environment: making {folder}, about 2 minutes", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-I", "-m", "pip", "--no-color"]
        _run([*pip, "install", "--disable-pip-version-check", *PATIENCE, *PINS])
        _run([*pip, "uninstall", "--yes", TELEMETRY])
        (folder / "ready").touch()


def _run(command: list) -> None:
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        last = (lines or done.stderr.strip().splitlines() or ["no message"])[-1]
        reason = " ".join(last.split())[:300]
        if "Retrying" in done.stderr:
            reason = f"the package index cannot be reached ({reason})"
        raise Unavailable(f"POT's environment could not be made: {reason}")


def clean_environment() -> dict[str, str]:
    """Return this process's variables without those that lead Python to other modules."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
