"""A profile's output folder: where it lies, and whether it can be written."""

import os
from pathlib import Path

from lib.common.errors import StudyError
from lib.common.files import is_disk_full, resolve
from lib.study.params import Params


def output_folder(params: Params) -> Path:
    """Return the profile's folder; a relative `output_dir` starts at the repository's root."""
    return resolve(params.output_dir) / params.profile


def check_writable(folder: Path) -> None:
    """Make the folder; raise `StudyError` if it cannot be made or written."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True) if folder.is_dir() else None
        raise file_error(error, folder) from error


def file_error(error: OSError, folder: Path) -> StudyError:
    """Say what to do about a file that could not be written below `folder`."""
    if is_disk_full(error):
        return StudyError(
            f"disk full at {folder}: free some space, then run the same command again"
        )
    return StudyError(
        f"cannot write into {error.filename or folder} ({error.strerror or error}): "
        "mend its permissions or choose another output_dir"
    )
