"""Downloads against a local server: verification, broken connections, errors with a remedy."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from requests import RequestException, Response

from lib.common.download import _stay_with_https, cache_folder, download
from lib.common.errors import StudyError

BODY = bytes(range(256)) * 5000 + b"end"
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY at /file, the first `server.cut` bytes of it."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
        elif self.path == "/file":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY[: self.server.cut])
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    server.cut, server.requests = None, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sha256", [None, SHA, SHA.upper(), SHA[:8]])
@pytest.mark.parametrize("watched", [True, False])
def test_fetches_once_and_records_the_hash(server, tmp_path, monkeypatch, capsys, sha256, watched):
    monkeypatch.setattr("lib.common.download.person_watches", lambda: watched)
    target = tmp_path / "cache" / "x.pkl"
    assert download(server.url, target, sha256) == SHA
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["x.pkl", "x.pkl.sha256"]
    assert (target.parent / "x.pkl.sha256").read_text() == f"{SHA}  x.pkl\n"
    assert download(server.url, target, sha256) == SHA
    assert server.requests == ["/file"]
    out, err = capsys.readouterr()
    assert out.startswith("" if watched else "x.pkl: 1,280,003 bytes in 0 s")
    assert bool(err) == watched


def test_what_breaks_off_leaves_nothing_and_starts_anew(server, tmp_path):
    server.cut = 300_000
    with pytest.raises(StudyError, match="300000 bytes read.*: run again"):
        download(server.url, tmp_path / "x")
    assert names(tmp_path) == []
    server.cut = None
    assert download(server.url, tmp_path / "x") == SHA


def test_wrong_hash_leaves_no_file(server, tmp_path):
    with pytest.raises(StudyError, match=f"SHA-256 {SHA}, expected {'0' * 64}: nothing is kept"):
        download(server.url, tmp_path / "x", "0" * 64)
    assert names(tmp_path) == []


def test_changed_file_is_named_and_left(server, tmp_path):
    download(server.url, tmp_path / "x")
    (tmp_path / "x").write_bytes(b"other")
    with pytest.raises(StudyError, match="x has SHA-256 .* expected .*: delete it and x.sha256"):
        download(server.url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"other"


def test_file_put_by_hand_needs_no_network(tmp_path):
    (tmp_path / "x").write_bytes(BODY)
    with pytest.raises(StudyError, match="expected 0+: delete it, then run again"):
        download("https://127.0.0.1:1/x", tmp_path / "x", "0" * 64)
    assert download("https://127.0.0.1:1/x", tmp_path / "x") == SHA


def test_offline_says_where_to_put_the_file(server, tmp_path):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/x"
        with pytest.raises(StudyError, match=f"refused.*put the file at {tmp_path / 'x'}") as info:
            download(url, tmp_path / "x")
    assert "\n" not in str(info.value)


def test_missing_pages_and_redirects(server, tmp_path):
    with pytest.raises(StudyError, match=r"HTTP 404.*put the file at"):
        download(server.url + "s", tmp_path / "x")
    redirect = server.url.replace("/file", "/redirect?")
    assert download(f"{redirect}/file", tmp_path / "y") == SHA
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(StudyError, match="cannot be fetched .No connection adapters"):
            download(redirect + location, tmp_path / "x")


@pytest.mark.parametrize("target, refused", [("http://a/x", True), ("https://a/x", False)])
def test_no_redirect_from_https_to_http(target, refused):
    response = Response()
    response.status_code, response.url, response.headers["Location"] = 302, "https://a", target
    if not refused:
        return _stay_with_https(response)
    with pytest.raises(RequestException, match="unsafe redirect"):
        _stay_with_https(response)


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write .*x .*: mend the path"):
        download(server.url, tmp_path / "file" / "x")


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "synthetic-calibration-study"
