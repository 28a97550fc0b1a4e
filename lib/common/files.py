"""Where files are, atomic writes, content hashes."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]  # the repository
NOTEBOOKS = ROOT / "notebooks"

LFS = b"version https://git-lfs"  # begins what stands in for a file that is not fetched yet


def resolve(path: Path | str) -> Path:
    """Return a path from the parameters; a relative one starts at the repository's root."""
    return ROOT / Path(path).expanduser()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary file name beside `path`; move it to `path` when the block succeeds.

    A reader sees the old file or the whole new one, never a part. Missing parents are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # safetensors makes files that only their owner may read
        os.replace(temporary, path)
    except Exception as error:
        if is_disk_full(error):
            remedy = "free some space and run the same command again"
            raise StudyError(f"disk full while writing {path}: {remedy}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_disk_full(error: Exception) -> bool:
    """Tell whether an error means a full disk; safetensors says so in words alone."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path | str, table: Any) -> None:
    """Write a pandas `table` without its index, floats to six digits, atomically."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def read_named(path: Path | str) -> Any:
    """Read a CSV file in which the column `class` has names, whatever these look like."""
    import pandas as pd  # slow, and most who import this module read no table

    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values=[""])


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or damaged one is a `StudyError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{path} is missing: run the notebook that writes it first") from error
    except ValueError as error:
        raise StudyError(f"{path} is damaged ({error}): delete it and run again") from error


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_tree(folder: Path) -> dict[str, str]:
    """Return `{relative path: SHA-256}` of all files below `folder`, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`, which may exist."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
