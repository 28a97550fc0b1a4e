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


def test_wrong_files_are_named_and_never_replaced(server, tmp_path):
    target = tmp_path / "x"
    with pytest.raises(StudyError, match=f"SHA-256 {SHA}, expected {'0' * 64}: nothing is kept"):
        download(server.url, target, "0" * 64)
    assert names(tmp_path) == []
    target.write_bytes(BODY)  # put by hand: needs no network
    with pytest.raises(StudyError, match="expected 0+: delete it, then run again"):
        download("https://127.0.0.1:1/x", target, "0" * 64)
    assert download("https://127.0.0.1:1/x", target) == SHA
    target.write_bytes(b"other")
    with pytest.raises(StudyError, match="x has SHA-256 .* expected .*: delete it and x.sha256"):
        download(server.url, target)
    assert target.read_bytes() == b"other"


def test_offline_says_where_to_put_the_file(server, tmp_path):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/x"
        with pytest.raises(StudyError, match=f"^.*refused.*put the file at {tmp_path / 'x'}$"):
            download(url, tmp_path / "x")


def test_missing_pages_and_redirects(server, tmp_path):
    with pytest.raises(StudyError, match=r"HTTP 404.*put the file at"):
        download(server.url + "s", tmp_path / "x")
    redirect = server.url.replace("/file", "/redirect?")
    assert download(f"{redirect}/file", tmp_path / "y") == SHA
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(StudyError, match="cannot be fetched .No connection adapters"):
            download(redirect + location, tmp_path / "x")


def test_no_redirect_from_https_to_http():
    response = Response()
    response.status_code, response.url = 302, "https://a"
    response.headers["Location"] = "https://a/x"
    _stay_with_https(response)
    response.headers["Location"] = "http://a/x"
    with pytest.raises(RequestException, match="unsafe redirect"):
        _stay_with_https(response)


def test_folders_that_are_set_or_cannot_be_written(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "synthetic-calibration-study"
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write .*x .*: mend the path"):
        download(server.url, tmp_path / "file" / "x")
