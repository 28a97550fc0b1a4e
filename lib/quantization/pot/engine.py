"""The engine `pot`: OpenVINO's Post-training Optimization Tool, run in an environment of its own.

The tool ended with openvino-dev 2023.3, which wants an older numpy and its own OpenVINO: the
environment is made on first use, apart from the study's.
Files lie between: an ONNX network and images go in, an INT8 IR comes back, which the current
OpenVINO reads and evaluates. The process that does the work stays for the next network.
"""

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import openvino as ov
from filelock import FileLock

from lib.common.download import cache_folder
from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.files import read_json, sha256_file, sha256_json, write_json
from lib.common.openvino import read_ir
from lib.data.samples import SampleSet
from lib.quantization.models import free_batch
from lib.quantization.nncf import DEFAULTS, CalibrationImages, Quantized, accuracy_drop
from lib.quantization.options import QuantizationOptions
from lib.quantization.own.parameters import Input
from lib.quantization.pot import worker as pot_worker
from lib.quantization.pot.worker import IMAGES, JOB, READ, RESULT

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
WORKER = Path(pot_worker.__file__)
LOCK = threading.Lock()  # one job at a time
# names in POT's networks follow the order of sets, which hashes decide
ISOLATED = {"PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}


def quantize_pot(
    onnx: Path,
    calibration: SampleSet,
    options: QuantizationOptions = DEFAULTS,
    *,
    seed: int = 0,
    takes: Input | None = None,
    validation: SampleSet | None = None,
) -> Quantized:
    """Quantize an ONNX network to INT8 by POT's default quantization.

    The images that are read and their order are those of `lib.quantization.nncf`'s
    `quantize_default`. Bias correction `none` leaves POT's DefaultQuantization without its last
    step, which is POT's MinMaxQuantization. The network has one input, of pixels `(n, 3, 32, 32)`
    float32 in [0, 255] or what `takes` makes of them; the INT8 network takes pixels all the same.
    With `validation` images POT's accuracy control runs, whatever default quantization loses.

    Raises `Skipped` where POT's environment cannot be made, and `StudyError` where POT fails.
    """
    options.check_decided()
    if not onnx.is_file():
        raise Skipped(
            f"POT takes ONNX networks of batch 1, and there is no {onnx.name}: the network is of "
            "another format, or its batch cannot be changed"
        )
    images = CalibrationImages(calibration, seed)
    chosen = images.order[: options.subset_size]
    arrays = {"calibration": calibration.images[chosen]}
    job = asdict(options) | {"onnx": str(onnx.resolve()), "calibration_images": len(chosen)}
    job |= {"input": {} if takes is None else takes.for_model_optimizer(), "method": "default"}
    if validation is not None:
        arrays |= {"validation": validation.images, "labels": validation.labels}
        job["method"] = "accuracy_aware"
    with tempfile.TemporaryDirectory(prefix="pot-") as name:
        folder = Path(name)
        np.savez(folder / IMAGES, **arrays)
        Worker.current().do(folder, job)
        images.given.update(int(chosen[k]) for k in read_json(folder / READ))
        model = free_batch(read_ir(folder / RESULT), arrays["calibration"])
    return Quantized(model, images.labels_read())


def quantize_pot_accuracy_aware(
    onnx: Path,
    calibration: SampleSet,
    validation: SampleSet,
    options: QuantizationOptions = DEFAULTS,
    *,
    reference: ov.Model,
    seed: int = 0,
    takes: Input | None = None,
    default: Quantized | None = None,
) -> Quantized:
    """Quantize, then have POT return layers to floating point until the drop is within bounds.

    As `quantize_accuracy_aware`; `reference` is the network in FP32. Default quantization within
    `max_drop` on `validation` is the result, which is where POT's own algorithm would end;
    `default` is what `quantize_pot` gave for the same options and seed.
    """
    common = {"seed": seed, "takes": takes}
    default = default or quantize_pot(onnx, calibration, options, **common)
    if accuracy_drop(reference, default.model, validation) <= options.max_drop:
        return default
    return quantize_pot(onnx, calibration, options, validation=validation, **common)


class Worker:
    """A process in POT's environment; each process of the study has one at most."""

    _current: "Worker | None" = None

    def __init__(self, python: Path):
        self.folder = tempfile.TemporaryDirectory(prefix="pot-worker-")
        try:
            self.process = subprocess.Popen(
                [python, WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.folder.name,
                env=clean_environment() | ISOLATED | {"TMPDIR": self.folder.name},
                text=True,
            )
        except OSError as error:
            self.folder.cleanup()
            raise Unavailable(
                f"POT's Python cannot be started ({error}): delete {environment_folder()} and "
                "run again"
            ) from error

    @classmethod
    def current(cls) -> "Worker":
        """Return the worker of this process, which is started if it is not there."""
        if cls._current is None or cls._current.process.poll() is not None:
            cls.close()
            cls._current = cls(pot_python())
        return cls._current

    def do(self, folder: Path, job: dict) -> None:
        """Do one job in `folder`; raise `StudyError` if it fails."""
        source = sha256_json([sha256_file(job["onnx"]), job["input"]])
        converted = Path(self.folder.name) / f"{source}.xml"
        write_json(folder / JOB, job | {"converted": str(converted)})
        answer = ""
        with LOCK, contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.close()
            raise StudyError(
                f"POT's process ended with code {code}, perhaps for want of memory: lower jobs "
                "and run again"
            )
        if error := json.loads(answer).get("error"):
            raise StudyError(f"POT failed: {error[:500]}")

    @classmethod
    def close(cls) -> None:
        """End this process's worker, if it has one."""
        worker, cls._current = cls._current, None
        if worker is not None:
            with contextlib.suppress(OSError), worker.process:  # which waits for its end
                worker.process.kill()
            worker.folder.cleanup()


atexit.register(Worker.close)


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
