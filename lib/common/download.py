"""Downloads a file once: resumed after interruptions, verified by its SHA-256, kept."""

import errno
import fcntl
import math
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from lib.common.errors import StudyError
from lib.common.files import read_json, sha256_file, write_json, write_text
from lib.common.progress import progress

CHUNK = 2**20
ATTEMPTS = 5
PAUSE = 2.0  # seconds between attempts
TIMEOUT = 30.0  # seconds without an answer


def cache_folder() -> Path:
    """Return the user's folder for downloaded files; `XDG_CACHE_HOME` moves it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "synthetic-calibration-study"


def download(url: str, target: Path | str, sha256: str | None = None) -> str:
    """Make sure that `target` holds the file at `url`; return its SHA-256.

    A file that is there, put by hand or by an earlier call, is verified and not fetched again: its
    hash must be `sha256`, or begin so where only the first digits are known, if given, and the one
    that `<target>.sha256` has recorded. A transfer
    that breaks off is resumed from `<target>.part`, now or by the next call. Of several processes
    one fetches and the others wait for it. Every failure is a `StudyError` that says what to do.
    """
    target = Path(target)
    if urlsplit(url).scheme not in ("http", "https"):
        raise StudyError(f"{url} is no http or https address")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent):
            if target.is_file():
                return _verified(target, target, sha256)
            part = _beside(target, ".part")
            _fetch(url, target, part)
            found = _verified(part, target, sha256)
            os.replace(part, target)
            _notes(part).unlink(missing_ok=True)
            return found
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "disk full" if full else error.strerror or error
        raise StudyError(f"cannot write {target} ({reason}): free space or mend the path") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder`; the system frees the lock of a killed one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        _wait_for_lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another process downloads into {folder}: waiting for it", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks, such as some network shares


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _verified(path: Path, target: Path, sha256: str | None) -> str:
    """Compare the hash of `path` with what is known of `target`, and record it if new."""
    record, found = _beside(target, ".sha256"), sha256_file(path)
    recorded = record.read_text(encoding="utf-8").split()[:1] if record.is_file() else []
    for expected in ([sha256.lower()] if sha256 else []) + recorded:
        if not found.startswith(expected):
            if path != target:
                path.unlink()
            raise StudyError(
                f"{target} has SHA-256 {found}, expected {expected}: "
                f"delete it{' and ' + record.name if recorded else ''}, then download it again"
            )
    if not recorded:
        write_text(record, f"{found}  {target.name}\n")
    return found


def _fetch(url: str, target: Path, part: Path) -> None:
    """Fill `part`; a connection that breaks off is taken up again a few times."""
    reason = ""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE if attempt else 0)
        response = _open(url, target, part)
        if response is None:
            return
        try:
            with response:
                return _receive(response, url, target.name, part)
        except _BrokenOff as error:
            reason = str(error)
    raise StudyError(f"the download of {url} broke off ({reason}): run again to resume it")


def _open(url: str, target: Path, part: Path) -> HTTPResponse | None:
    """Ask for what is missing in `part`; None if nothing is."""
    size = part.stat().st_size if part.is_file() else 0
    validator = read_json(_notes(part)).get(url) if size and _notes(part).is_file() else None
    headers = {"Range": f"bytes={size}-", "If-Range": validator} if validator else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.build_opener(_Redirect).open(request, timeout=TIMEOUT)
        given = response.headers.get("Content-Range", "")
        if response.status != 206 or given.startswith(f"bytes {size}-"):
            return response
        response.close()
    except HTTPError as error:
        error.close()
        if error.code != 416:
            raise _unreachable(url, target, f"HTTP {error.code}") from None
        if error.headers.get("Content-Range") == f"bytes */{size}":
            return None
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(url, target, getattr(error, "reason", None) or error) from None
    part.unlink()  # of no use to this server: start again
    return _open(url, target, part)


def _receive(response: HTTPResponse, url: str, name: str, part: Path) -> None:
    """Write an answer's body to `part`, or raise `_BrokenOff`."""
    start = part.stat().st_size if response.status == 206 else 0
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    with open(part, "ab" if start else "wb") as file:
        write_json(_notes(part), _validators(response.headers, url))
        chunks = math.ceil(total / CHUNK) if total else None
        for block in progress(_blocks(response), name, chunks, "MiB", start // CHUNK):
            file.write(block)
    if total is not None and part.stat().st_size != total:
        raise _BrokenOff(f"{part.stat().st_size:,} of {total:,} bytes arrived")


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise _BrokenOff(str(error) or type(error).__name__) from None
        if not block:
            return
        yield block


def _notes(part: Path) -> Path:
    """Return where the server's mark of this version of the file is kept, for resuming."""
    return _beside(part, ".json")


def _validators(headers: Message, url: str) -> dict[str, str]:
    """Return `{url: mark}`; a weak ETag does not promise the same bytes."""
    mark = headers.get("ETag", "")
    mark = headers.get("Last-Modified", "") if mark.startswith("W/") or not mark else mark
    return {url: mark} if mark else {}


def _unreachable(url: str, target: Path, reason: object) -> StudyError:
    remedy = f"download it elsewhere and put the file at {target}"
    return StudyError(f"{url} cannot be fetched ({reason}): {remedy}")


class _BrokenOff(Exception):
    """The connection ended before the file did."""


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise HTTPError(newurl, code, "unsafe redirect", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
