"""Downloads against a local server: resumption, verification, broken connections."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lib.common import download as module
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError

BODY = bytes(range(256)) * 5000 + b"end"
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.body` with the faults that a test asks for."""

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if self.path != "/file":
            self.send_error(404)
            return
        start = self.range_start()
        if start is not None and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.end_headers()
            return
        self.send_body(start)

    def range_start(self) -> int | None:
        asked = self.headers.get("Range")
        if not asked or not self.server.ranges or self.headers.get("If-Range") != self.server.etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def send_body(self, start: int | None) -> None:
        server = self.server
        self.send_response(200 if start is None else 206)
        if start is not None:
            first = start if server.honest else 0
            total = len(server.body)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        body = server.body[start or 0 :]
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "CHUNK", 2**16)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    server.body, server.etag, server.location = BODY, '"one"', "/file"
    server.ranges, server.honest, server.cuts, server.requests = True, True, [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetches_once_and_records_the_hash(server, tmp_path):
    target = tmp_path / "cache" / "x.pkl"
    assert download(server.url, target) == SHA
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["x.pkl", "x.pkl.sha256"]
    assert (target.parent / "x.pkl.sha256").read_text() == f"{SHA}  x.pkl\n"
    assert download(server.url, target, SHA.upper()) == SHA
    assert len(server.requests) == 1


def test_cut_connection_is_resumed_at_once(server, tmp_path):
    server.cuts = [300_000, 200_000]
    assert download(server.url, tmp_path / "x", SHA) == SHA
    asked = [request.get("Range") for request in server.requests]
    assert asked == [None, "bytes=300000-", "bytes=500000-"]


def test_next_call_resumes_what_the_last_one_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    server.cuts = [300_000]
    with pytest.raises(StudyError, match="300,000 of 1,280,003 bytes arrived.*run again to resume"):
        download(server.url, tmp_path / "x")
    assert names(tmp_path) == ["x.part", "x.part.json"]
    assert download(server.url, tmp_path / "x") == SHA
    assert server.requests[1]["Range"] == "bytes=300000-"
    assert names(tmp_path) == ["x", "x.sha256"]


def test_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY)
    (tmp_path / "x.part.json").write_text(f'{{"{server.url}": "\\"one\\""}}')
    assert download(server.url, tmp_path / "x") == SHA


@pytest.mark.parametrize("fault", ["no ranges", "changed", "no validator", "wrong range", "long"])
def test_a_part_of_no_use_is_fetched_anew(server, tmp_path, fault):
    length = len(BODY) + 7 if fault == "long" else 1000
    (tmp_path / "x.part").write_bytes(b"?" * length)
    if fault != "no validator":
        (tmp_path / "x.part.json").write_text(f'{{"{server.url}": "\\"one\\""}}')
    server.ranges, server.honest = fault != "no ranges", fault != "wrong range"
    server.etag = '"two"' if fault == "changed" else '"one"'
    assert download(server.url, tmp_path / "x") == SHA


def test_server_without_ranges_and_marks(server, tmp_path):
    server.ranges, server.etag, server.cuts = False, "", [1000]
    assert download(server.url, tmp_path / "x") == SHA
    assert "Range" not in server.requests[1]


def test_wrong_hash_leaves_no_file(server, tmp_path):
    with pytest.raises(StudyError, match=f"SHA-256 {SHA}, expected {'0' * 64}"):
        download(server.url, tmp_path / "x", "0" * 64)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.part").exists()
    assert download(server.url, tmp_path / "x", SHA) == SHA


def test_changed_file_is_noticed_later(server, tmp_path):
    download(server.url, tmp_path / "x")
    (tmp_path / "x").write_bytes(b"other")
    with pytest.raises(StudyError, match="x has SHA-256 .* expected .*: delete it and x.sha256"):
        download(server.url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"other"


def test_file_put_by_hand_needs_no_network(tmp_path):
    (tmp_path / "x").write_bytes(BODY)
    assert download("https://127.0.0.1:1/x", tmp_path / "x") == SHA
    with pytest.raises(StudyError, match="expected"):
        download("https://127.0.0.1:1/x", tmp_path / "x", "0" * 64)


def test_offline_says_where_to_put_the_file(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StudyError, match=f"Connection refused.*put the file at {tmp_path / 'x'}"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x")


def test_of_several_downloads_one_fetches(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(download(server.url, tmp_path / "x")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SHA] * 4 and len(server.requests) == 1
    assert names(tmp_path) == ["x", "x.sha256"]


def test_missing_page_and_unsafe_redirects(server, tmp_path):
    with pytest.raises(StudyError, match=r"HTTP 404.*put the file at"):
        download(server.url + "s", tmp_path / "x")
    redirect = server.url.replace("/file", "/redirect")
    assert download(redirect, tmp_path / "y") == SHA
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "/redirect"):
        server.location = location
        with pytest.raises(StudyError, match="HTTP 302"):
            download(redirect, tmp_path / "x")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x", "data:,x"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(StudyError, match="no http or https address"):
        download(url, tmp_path / "x")


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write"):
        download(server.url, tmp_path / "file" / "x")


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "synthetic-calibration-study"
