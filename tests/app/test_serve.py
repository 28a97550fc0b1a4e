"""The web app as a visitor sees it, and as one who means harm tries it; one server for all."""

import asyncio
import base64
import contextlib
import getpass
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from http.cookiejar import CookieJar
from pathlib import Path

import psutil
import pytest
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lib.app import serve
from lib.app.server import PROTOCOL, allowed
from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, write_json
from lib.study.params import read_profile, validate
from tests.app.conftest import CLASSES

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
ARGUMENTS += " --disable-sync --no-first-run"
VISITORS = 2
KERNEL = re.compile(r'"kernelId": "([\w-]+)"')
SHOWN = """() => Object.fromEntries([...document.querySelectorAll("section.ig-class")]
  .filter(part => part.checkVisibility())
  .map(part => [part.querySelector("h3").firstChild.data.trim(),
                [...part.querySelectorAll("img")].map(image => image.src)]))"""

NONE_CHECKED = """() => ![...document.querySelectorAll(".ig-classes input:checked")]
  .some(box => box.checkVisibility())"""


@contextlib.contextmanager
def serving(networks, base="/"):
    """Serve random networks at the path `base`; yield the port and the process."""
    folder = Path(tempfile.mkdtemp(prefix="app-"))  # short: kernels' sockets lie below it
    notebook = serve.prepare(folder / "served" / "page", networks, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "lib.app.server", notebook, str(port), str(VISITORS), base]
    environment = serve.server_environment(folder / "served")
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: status(port, "/nothing") == 404 or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield port, process
    finally:
        process.terminate()
        process.wait(30)
    assert not (folder / "served").exists()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(networks, tmp_path_factory):
    """The app with random networks, of two sets of data; yields its port and its process."""
    other = tmp_path_factory.mktemp("other") / "networks"
    shutil.copytree(networks, other)
    about = read_json(other / "config.json")
    write_json(other / "config.json", about | {"data": "other", "class_names": ["oak", "elm", "x"]})
    with serving([networks, other]) as running:
        yield running


@contextlib.contextmanager
def proxy(target, address):
    """Pass connections on to a port, as a web server that is asked for as `address` would.

    It sets the headers that docs/image-generator.md names, and closes after each answer.
    """

    async def pump(reader, writer):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def handle(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        own = f"127.0.0.1:{target}"
        head = re.sub(r"(?im)^Host: .*$", f"Host: {own}\r", head.replace(address, own))
        if "upgrade: websocket" not in head.lower():
            head = re.sub(r"(?im)^Connection: .*$", "Connection: close\r", head)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)
        inner_writer.write(head.encode())
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def listen():
        async with await asyncio.start_server(handle, "127.0.0.1", int(address.split(":")[1])):
            ready.set()
            await asyncio.sleep(300)

    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(listen()), daemon=True).start()
    assert ready.wait(10)
    yield


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def visitor(server, browser):
    """One visitor's page, kept for all tests; with what came over the wire."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.wire = {"requests": [], "frames": [], "bodies": []}
    page.on("request", lambda request: page.wire["requests"].append(request.url))

    def keep(frame):
        page.wire["frames"] += [frame] if len(page.wire["frames"]) < 500 else []

    page.on("websocket", lambda ws: ws.on("framereceived", keep))
    page.set_default_timeout(60_000)
    page.on("dialog", lambda dialog: dialog.accept())
    response = page.goto(f"http://127.0.0.1:{server[0]}/")
    page.wire["bodies"].append(response.text())
    page.wait_for_selector(".ig-image img", timeout=60_000)
    yield page
    page.goto("about:blank")
    page.close()


def generate(page, classes=("cat", "dog"), **fields):
    page.get_by_role("button", name="None", exact=True).click()
    page.wait_for_function(NONE_CHECKED)
    for name in classes:
        page.get_by_label(name, exact=True).check()
    for label, value in fields.items():
        page.get_by_label(re.compile(label.replace("_", " "))).locator("visible=true").fill(value)
    press_generate(page)
    return page.evaluate(SHOWN)


def press_generate(page):
    """Press the button and wait for the answer, which is a new line above the images."""
    page.evaluate(
        "() => document.querySelectorAll('[role=status], [role=alert]').forEach("
        "line => line.dataset.old = 1)"
    )
    page.get_by_role("button", name="Generate").click()
    page.wait_for_selector(
        ".ig-status:not([data-old]):not(:text('Working')):visible,.ig-alert:not([data-old]):visible"
    )


def test_a_page_shows_images_and_gives_its_seat_back(server):
    url = f"http://127.0.0.1:{server[0]}/"
    jar = CookieJar()
    opened = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with opened.open(url, timeout=180) as response:
        page = response.read().decode()
    assert "application/vnd.jupyter.widget-view+json" in page
    kernel = KERNEL.search(page)[1]
    values = [m["state"].get("value") for m in widget_states(server[0], kernel).values()]
    (shown,) = [value for value in values if str(value).startswith("<section")]
    assert shown.count("<img") == 12 * len(CLASSES)
    (token,) = [cookie.value for cookie in jar if cookie.name == "_xsrf"]
    left = urllib.request.Request(
        f"{url}voila/api/shutdown/{kernel}", b"", {"X-XSRFToken": token, "Referer": url}
    )
    with opened.open(left, timeout=60) as response:
        assert response.status == 204
    assert status(server[0], f"/api/kernels/{kernel}") == 404


def test_the_page_lies_below_a_path_of_a_web_server(networks, browser):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    with serving([networks], "/tools/generator/") as (port, _), proxy(port, address):
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{address}/tools/generator/?x=1")
        page.wait_for_selector(".ig-image img", timeout=60_000)
        assert generate(page, Images_a_class="2")
        below = f"http://{address}/tools/generator/"
        assert all(url.startswith((below, "data:", "blob:")) for url in asked), asked
        page.goto("about:blank")
        page.close()
        assert status(port, "/") == status(port, "/voila/static/voila.js") == 404


def test_classes_number_and_seed_decide_what_is_shown(visitor):
    first = generate(visitor, Images_a_class="5", Seed="1")
    assert list(first) == ["Class cat", "Class dog"]
    assert [len(images) for images in first.values()] == [5, 5]
    assert len({image for images in first.values() for image in images}) == 10
    line = visitor.get_by_role("status").locator("visible=true").inner_text()
    assert line.startswith("10 images")
    other = generate(visitor, Seed="2")
    assert not set(sum(first.values(), [])) & set(sum(other.values(), []))
    assert generate(visitor, Seed="1") == first


def test_the_downloaded_zip_holds_the_images_shown(visitor):
    shown = generate(visitor, classes=("dog", "<b>bird</b>"), Images_a_class="3", Seed="7")
    with visitor.expect_download() as download:
        visitor.get_by_role("link", name="ZIP").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    pictures = [content[name] for name in content if name.endswith(".png")]
    sources = [base64.b64decode(src.partition(",")[2]) for src in sum(shown.values(), [])]
    assert pictures == sources and len(pictures) == 6
    assert {"latents.safetensors", "request.json"} < set(content)
    assert json.loads(content["request.json"])["seed"] == 7


def test_typed_values_out_of_range_are_refused(visitor):
    before = generate(visitor, Images_a_class="2", Seed="1")
    assert generate(visitor, Images_a_class="101") == before
    assert "1 to 100, not 101" in visitor.get_by_role("alert").locator("visible=true").inner_text()
    assert [len(images) for images in generate(visitor, Images_a_class="2").values()] == [2, 2]


def test_other_panels_show_images(visitor):
    visitor.get_by_role("button", name="Interpolation").click()
    visitor.wait_for_selector("h3:has-text('From class cat')")
    assert visitor.locator("section.ig-class:visible img").count() == 10
    visitor.get_by_role("button", name="Networks").click()
    visitor.wait_for_selector("h3:has-text('Student INT8')")
    assert visitor.locator("section.ig-class:visible").count() == 3
    visitor.get_by_role("button", name="Images", exact=True).click()


def test_networks_of_other_data_can_be_chosen(visitor):
    visitor.get_by_label("Images of").select_option("other")
    visitor.wait_for_selector("h3:has-text('elm')")
    assert set(visitor.evaluate(SHOWN)) == {"Class oak", "Class elm", "Class x"}
    visitor.get_by_label("Images of").select_option("test")
    visitor.wait_for_selector("h3:has-text('cat')")


def test_everything_can_be_reached_by_the_keyboard(visitor):
    visitor.locator("body").click(position={"x": 2, "y": 2})
    reached = set()
    for _ in range(25):
        visitor.keyboard.press("Tab")
        reached.add(
            visitor.evaluate(
                "() => { const e = document.activeElement; const name = e.labels?.[0] ?? e; "
                "return name.textContent.trim() }"
            )
        )
    wanted = {"Images", "Interpolation", "All", "None", "Another seed", "Generate", *CLASSES}
    assert wanted <= reached
    assert {"Seed", "Truncation (0–1)", "Images a class (1–100)"} <= reached


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits(visitor, width):
    visitor.set_viewport_size({"width": width, "height": 844})
    generate(visitor, Images_a_class="12")
    assert visitor.evaluate("document.documentElement.scrollWidth") <= width
    right = visitor.locator("section.ig-class img:visible").evaluate_all(
        "images => Math.max(...images.map(image => image.getBoundingClientRect().right))"
    )
    assert right <= width


def test_nothing_is_fetched_from_elsewhere_and_no_path_gets_out(visitor, server):
    own = (f"http://127.0.0.1:{server[0]}/", "data:", "blob:")
    assert [url for url in visitor.wire["requests"] if not url.startswith(own)] == []
    assert len(visitor.wire["frames"]) > 10
    seen = b"\n".join(
        part.encode() if isinstance(part, str) else part
        for part in visitor.wire["frames"] + visitor.wire["bodies"]
    )
    seen = re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", seen)  # pictures may spell any short word
    secrets = {str(ROOT), str(Path.home()), sys.prefix, "/tmp", "site-packages", "import "}
    secrets |= {f'"username": "{getpass.getuser()}"', sys.version.split()[0], "Traceback"}
    assert [secret for secret in secrets if secret.encode() in seen] == []


def test_memory_stays_bounded(visitor, server):
    generate(visitor, CLASSES, Images_a_class="100")
    before = memory(server[1])
    for _ in range(10):
        press_generate(visitor)
    assert memory(server[1]) - before < 60e6
    generate(visitor, Images_a_class="2")


def test_code_and_foreign_widgets_are_refused(server, visitor, tmp_path):
    kernel = KERNEL.search(visitor.wire["bodies"][0])[1]
    proof = tmp_path / "proof"
    code = {"code": f"open({str(proof)!r}, 'w')", "silent": True}
    own = {"target_name": "jupyter.widget", "comm_id": "x", "data": {"state": {}}}
    forged = [("shell", "execute_request", code), ("control", "execute_request", code)]
    forged += [("shell", "comm_open", own), ("control", "shutdown_request", {"restart": False})]
    for channel, kind, content in forged:
        with channels(server[0], kernel) as socket_:
            socket_.send(message(channel, kind, content))
            with pytest.raises(ConnectionClosed):
                while True:
                    socket_.recv(10)
    assert not proof.exists()
    assert [len(images) for images in generate(visitor, Images_a_class="2").values()] == [2, 2]


def test_forged_values_are_refused(server, visitor):
    kernel = KERNEL.search(visitor.wire["bodies"][0])[1]
    before = generate(visitor, Images_a_class="2", Seed="3")
    states = widget_states(server[0], kernel)
    counts = [
        key
        for key, model in states.items()
        if model["state"].get("description") == "Images a class (1–100)"
    ]
    assert len(counts) == 2  # one for each data's networks
    for value in (10**9, -1, "500", None, [], {"a": 1}):
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        with channels(server[0], kernel) as socket_:
            for count in counts:
                socket_.send(message("shell", "comm_msg", {"comm_id": count, "data": data}))
            socket_.send(message("shell", "kernel_info_request", {}))
            while kind(socket_.recv(10)) != "kernel_info_reply":
                pass
        press_generate(visitor)
        shown = visitor.locator("section.ig-class:visible img").count()
        assert shown == sum(map(len, before.values())), value
    assert [len(images) for images in generate(visitor, Images_a_class="2").values()] == [2, 2]


def test_the_channel_takes_whole_messages_of_widgets_alone():
    assert allowed(message("shell", "kernel_info_request", {}))
    assert allowed(message("shell", "comm_open", {"target_name": "jupyter.widget.control"}))
    whole = message("shell", "comm_msg", {"comm_id": "x", "data": {}})
    assert allowed(whole)
    assert not any(allowed(whole[:end]) for end in range(0, len(whole) - 2, 7))
    assert not allowed("text") and not allowed(b"\xff" * 64) and not allowed(b"")
    assert not allowed(message("iopub", "comm_msg", {}))
    assert not allowed(message("stdin", "input_reply", {}))
    encoded = whole.replace(b'"comm_msg"', b'["comm_m"]')
    assert not allowed(encoded)


NOTHING = """
/api /api/contents /api/contents/generator.ipynb /api/kernels /api/sessions /api/terminals
/api/kernelspecs /files/generator.ipynb /generator.ipynb /voila/files/generator.ipynb
/voila/files/networks/config.json /voila/tree /voila/render/generator.ipynb
/voila/query/0-0-0-0-0 /voila/templates/lab/index.html.j2
/voila/templates/generator/static/../index.html.j2
/voila/templates/generator/static/%2e%2e/index.html.j2 /voila/templates/../static/x
/voila/static/../../etc/passwd /voila/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd
/voila/static//etc/passwd /voila/labextensions/%2e%2e/%2e%2e/kernels/python3/kernel.json
/terminals/websocket/1 /login /metrics
"""


@pytest.mark.parametrize("path", NOTHING.split())
def test_nothing_else_is_served(server, path):
    assert status(server[0], path) in (403, 404)


def test_names_of_other_hosts_are_refused(server):
    assert status(server[0], "/", Host="evil.example") == 403


def test_who_finds_all_seats_taken_is_told_so(server, visitor, browser):
    url = f"http://127.0.0.1:{server[0]}/"
    others = [browser.new_page() for _ in range(VISITORS - 1)]
    for page in others:
        assert page.goto(url).status == 200
        page.wait_for_selector(".ig-image img", timeout=60_000)
    late = browser.new_page()
    assert late.goto(url).status == 503
    assert "All places are taken" in late.locator("body").inner_text()
    assert [len(images) for images in generate(others[0], Images_a_class="1").values()] == [1, 1]
    others[0].goto("about:blank")  # leaves, and the seat is free again
    wait_for(lambda: late.goto(url).status == 200)
    late.wait_for_selector(".ig-image img", timeout=60_000)
    late.goto("about:blank")


def test_a_profile_without_a_student_names_the_command(tmp_path, monkeypatch):
    values = read_profile(ROOT / "params" / "tiny.yaml") | {"output_dir": str(tmp_path)}
    params = validate(values)
    shipped = [tmp_path / name / "student" for name in ("cifar10-cpu", "digits")]
    monkeypatch.setattr(serve, "SHIPPED", shipped)
    with pytest.raises(StudyError, match="make study PROFILE=params/tiny.yaml"):
        serve.find_networks(params)
    for folder, data in zip(shipped, ("CIFAR-10", "digits"), strict=True):
        write_json(folder / "config.json", {"data": data})
    found, notice = serve.find_networks(params)
    assert found == shipped and "make study PROFILE=params/tiny.yaml" in notice
    own = tmp_path / "tiny" / "artifacts" / "image_generator"
    write_json(own / "config.json", {"data": "digits"})
    assert serve.find_networks(params) == ([own, shipped[0]], "")


def test_a_fresh_checkout_opens_with_cifar10_and_digits_to_choose(tmp_path, monkeypatch):
    shipped = [tmp_path / name / "student" for name in ("cifar10-cpu", "digits")]
    monkeypatch.setattr(serve, "SHIPPED", shipped)
    for folder, data in zip(shipped, ("CIFAR-10", "digits"), strict=True):
        write_json(folder / "config.json", {"data": data})
    values = read_profile(ROOT / "params" / "digits.yaml") | {"output_dir": str(tmp_path)}
    assert serve.find_networks(validate(values)) == (shipped, "")


def test_ports_that_are_taken_are_named(server):
    with pytest.raises(StudyError, match=f"--port {server[0]}.*give another one"):
        serve.check_options(server[0], 5)
    with pytest.raises(StudyError, match="--visitors 0"):
        serve.check_options(server[0], 0)


def status(port: int, path: str, **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            assert b"Traceback" not in error.read()
            return error.code
    except (urllib.error.URLError, ConnectionError):
        return 0


def wait_for(condition, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)


def memory(process: subprocess.Popen) -> int:
    server = psutil.Process(process.pid)
    return sum(p.memory_info().rss for p in [server, *server.children(recursive=True)])


def channels(port: int, kernel: str):
    url = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels?session_id=x"
    return connect(url, subprotocols=[PROTOCOL], max_size=None, open_timeout=60)


def message(channel: str, kind: str, content: dict) -> bytes:
    made = Session().msg(kind, content, metadata={"version": "1.0.0"})
    made["header"]["date"] = "2026-01-01T00:00:00Z"
    return serialize_msg_to_ws_v1(made, channel, pack=lambda part: json.dumps(part).encode())


def kind(received: bytes) -> str:
    return json.loads(deserialize_msg_from_ws_v1(received)[1][0])["msg_type"]


def widget_states(port: int, kernel: str) -> dict:
    """Ask for the states of all widgets, as a page does when it opens."""
    with channels(port, kernel) as socket_:
        opened = {"target_name": "jupyter.widget.control", "comm_id": "c", "data": {}}
        socket_.send(message("shell", "comm_open", opened))
        asked = {"comm_id": "c", "data": {"method": "request_states"}}
        socket_.send(message("shell", "comm_msg", asked))
        while True:
            received = socket_.recv(60)
            content = json.loads(deserialize_msg_from_ws_v1(received)[1][3])
            if content.get("data", {}).get("method") == "update_states":
                return content["data"]["states"]
