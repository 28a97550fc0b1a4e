"""Downloads a file once: verified by its SHA-256, kept in the user's cache folder."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from requests import RequestException, Response

from lib.common.errors import StudyError
from lib.common.files import atomic_path, sha256_file, write_text
from lib.common.progress import PlainProgress, person_watches

CHUNK = 2**20
TIMEOUT = 30.0  # seconds without an answer


def cache_folder() -> Path:
    """Return the user's folder for downloaded files; `XDG_CACHE_HOME` moves it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "synthetic-calibration-study"


def download(url: str, target: Path | str, sha256: str | None = None) -> str:
    """Make sure that `target` holds the file at `url`; return its SHA-256.

    A file that is there, put by hand or by an earlier call, is verified and not fetched again: its
    hash must be `sha256`, or begin so where only the first digits are known, if given, and the one
    that `<target>.sha256` has recorded. A wrong file is named and left as it is. What is fetched
    appears when it is complete and verified; a transfer that breaks off starts anew with the next
    call. Every failure is a `StudyError` that says what to do.
    """
    target = Path(target)
    record = target.with_name(f"{target.name}.sha256")
    try:
        if target.is_file():
            remedy = f"delete it{f' and {record.name}' if record.is_file() else ''}, then run again"
            found = _verified(target, f"{target} has", remedy, sha256, record)
        else:
            with atomic_path(target) as temporary:
                _fetch(url, temporary, target)
                remedy = f"nothing is kept; put the right file at {target}"
                found = _verified(temporary, f"{url} gives", remedy, sha256, record)
        if not record.is_file():
            write_text(record, f"{found}  {target.name}\n")
        return found
    except OSError as error:
        reason = error.strerror or error
        raise StudyError(f"cannot write {target} ({reason}): mend the path") from None


def _verified(path: Path, what: str, remedy: str, sha256: str | None, record: Path) -> str:
    """Return the hash of `path`, or raise what is to be said of one that is not as expected."""
    found = sha256_file(path)
    recorded = record.read_text(encoding="utf-8").split()[:1] if record.is_file() else []
    for expected in [(sha256 or "").lower(), *recorded]:
        if not found.startswith(expected):
            raise StudyError(f"{what} SHA-256 {found}, expected {expected}: {remedy}")
    return found


def _fetch(url: str, path: Path, target: Path) -> None:
    bar = True if person_watches() else PlainProgress((), target.name, None, "bytes")
    hooks = {"response": _stay_with_https}
    try:
        pooch.HTTPDownloader(bar, CHUNK, timeout=TIMEOUT, hooks=hooks)(url, path, None)
    except RequestException as error:
        remedy = f"run again, or download it elsewhere and put the file at {target}"
        raise StudyError(f"{url} cannot be fetched ({_reason(error)}): {remedy}") from None


def _stay_with_https(response: Response, **_) -> None:
    schemes = (response.url, response.headers.get("Location", ""))
    if response.is_redirect and [urlsplit(url).scheme for url in schemes] == ["https", "http"]:
        raise RequestException("unsafe redirect")


def _reason(error: BaseException) -> str:
    """Return the innermost reason of a failed request."""
    if getattr(error, "response", None) is not None:
        return f"HTTP {error.response.status_code}"
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
