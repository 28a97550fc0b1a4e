"""Voilà with one page, a fixed number of kernels and no way to run other code in them.

Jupyter lets a browser execute code in its kernel; here it may only move widgets. Of Voilà's routes
those that the page needs are kept, everything else is not found. `lib.app.serve` prepares the
notebook and the environment and starts `python -m lib.app.server NOTEBOOK PORT VISITORS PATH`.
"""

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError, RequestHandler
from traitlets import Float, Integer
from traitlets.config import Config
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

TEMPLATE = "generator"
PROTOCOL = "v1.kernel.websocket.jupyter.org"
COMMS = {"comm_open", "comm_msg", "comm_close"}
FROM_BROWSER = COMMS | {"comm_info_request", "kernel_info_request"}
TO_BROWSER = COMMS | {"comm_info_reply", "kernel_info_reply", "status"}
CONTROL_COMM = "jupyter.widget.control"  # the only comm that a page opens: it asks for the widgets
KERNEL_INFO = {  # what the page asks for, without the versions
    "status": "ok",
    "protocol_version": "5.3",
    "implementation": "python",
    "implementation_version": "",
    "banner": "",
    "help_links": [],
    "language_info": {"name": "python", "version": "", "file_extension": ".py"},
}
MAX_MESSAGE_BYTES = 200_000
MIN_OFFSETS, MAX_OFFSETS = 6, 32  # channel, header, parent, metadata, content, buffers, end
KEPT_ROUTES = ("voila/static/", "voila/labextensions/")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
FULL = "All places are taken at the moment. Each visitor has one; try again in a few minutes."


class SeatedKernelManager(AsyncMappingKernelManager):
    """Keeps `seats` warm kernels, each used by one visitor and then replaced.

    Those in Voilà's pool are free, the others have a visitor. Voilà derives its own manager from
    this class; `_pools` and what it does with them are there.
    """

    seats = Integer(5, config=True, help="kernels in all, so visitors at once")
    idle_seconds = Float(900, config=True, help="until a visitor who does nothing must go")
    absent_seconds = Float(60, config=True, help="until a kernel that no page holds must go")
    stopping = False

    def __init__(self, **kwargs):
        self.taken = {}
        super().__init__(**kwargs)

    def take_seat(self) -> bool:
        """Prepare for a visitor, to whom Voilà now gives a kernel of its pool; False: none left."""
        free = self.get_pool_size(self.notebook_path)
        self._keep(max(free - 1, 0))
        return free > 0

    async def start_kernel(self, **kwargs):
        """Start a kernel; there are never more than `seats`."""
        if len(self) >= self.seats:
            raise HTTPError(503, "all seats are taken")
        return await super().start_kernel(**kwargs)

    async def shutdown_kernel(self, kernel_id, *args, **kwargs):
        """Stop a kernel and warm another in its place."""
        await super().shutdown_kernel(kernel_id, *args, **kwargs)
        self.taken.pop(kernel_id, None)
        self.refill()

    async def shutdown_all(self, *args, **kwargs):
        """Stop all kernels for good."""
        self.stopping = True
        await super().shutdown_all(*args, **kwargs)

    async def cull_kernels(self):
        """Stop kernels that are no longer used; called every few seconds."""
        await super().cull_kernels()
        self.refill()

    async def cull_kernel_if_idle(self, kernel_id):
        """Stop the kernel of a visitor who is gone or idle; Voilà never asks this of free ones."""
        kernel, now = self._kernels[kernel_id], datetime.now(UTC)
        last = max(kernel.last_activity, self.taken.setdefault(kernel_id, now))
        held = self._kernel_connections.get(kernel_id, 0)
        if (now - last).total_seconds() > (self.idle_seconds if held else self.absent_seconds):
            await self.shutdown_kernel(kernel_id)

    def refill(self) -> None:
        """Warm a kernel for every seat that is neither free nor a visitor's."""
        pool = self._pools.get(self.notebook_path)
        if self.stopping or pool is None or any(not task.done() for task in pool):
            return  # while some start it is not known which seats are empty; asked again later
        pool[:] = [task for task in pool if task.exception() is None]
        visitors = len(self) - len(pool)
        self._keep(max(self.seats - visitors, 0))
        self.fill_if_needed(delay=0, notebook_name=self.notebook_path)

    def _keep(self, free: int) -> None:
        """Tell Voilà how many kernels its pool is to hold."""
        self.kernel_pools_config = {"default": {"pool_size": free}}


class GeneratorServer(Voila):
    """Serves one notebook, to as many visitors as `SeatedKernelManager` has seats."""

    port_retries = 0
    tornado_settings = {"headers": HEADERS, "websocket_max_message_size": MAX_MESSAGE_BYTES}

    def init_settings(self) -> dict:
        """Return Voilà's settings, with the checks of the host left on."""
        settings = super().init_settings()
        self.kernel_manager.allowed_message_types = list(FROM_BROWSER)
        settings |= {"allow_remote_access": False, "local_hostnames": ["localhost", "127.0.0.1"]}
        return settings | {"default_handler_class": NotFoundHandler}

    def init_handlers(self) -> list:
        """Return the page, what it loads, the filtered way to its kernel, and nothing else."""
        found, base = super().init_handlers(), self.base_url
        templates = next(route for route in found if "/voila/templates/" in route[0])
        page = next(route for route in found if route[1] is TornadoVoilaHandler)
        return [
            (base, PageHandler, page[2]),
            (rf"{base}api/kernels/(?P<kernel_id>[\w-]+)/channels", WidgetChannels),
            (rf"{base}api/kernels/(?P<kernel_id>[\w-]+)", StateHandler),
            (rf"{base}voila/api/shutdown/([\w-]+)", LeaveHandler),
            (rf"{base}voila/templates/((?:{TEMPLATE}|lab|base)/static/\w[\w.-]*)", *templates[1:]),
            *(route for route in found if route[0].removeprefix(base).startswith(KEPT_ROUTES)),
            (r".*", NotFoundHandler),
        ]


class PageHandler(TornadoVoilaHandler):
    """The page itself, while there are seats."""

    async def get(self) -> None:
        """Give the visitor a warm kernel, or say that there is none."""
        if self.request.query:  # Voilà would take a template or a theme from it
            return self.redirect(self.settings["base_url"])
        while not self.kernel_manager.notebook_data:  # the first kernel is starting
            await asyncio.sleep(0.1)
        if not self.kernel_manager.take_seat():
            return write_page(self, 503, "Please wait a moment", FULL, again=True)
        _ = self.xsrf_token  # sets the cookie that closing the page needs
        await super().get()


class Curt:
    """Answers what goes wrong with the number alone."""

    def write_error(self, status_code: int, **_) -> None:
        """Tell nothing of the reason."""
        self.finish(str(status_code))


class WidgetChannels(Curt, VoilaKernelWebsocketHandler):
    """Passes messages of widgets between browser and kernel, and no others."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Speak the current protocol alone, so that there is one way to read a message."""
        return PROTOCOL if PROTOCOL in subprotocols else None

    def on_message(self, message: str | bytes) -> None:
        """Pass on what `allowed` lets through; anything else ends the connection."""
        if self.selected_subprotocol == PROTOCOL and allowed(message):
            super().on_message(message)
        else:
            self.close(1008, "refused")

    def write_message(self, message, binary: bool = False):
        """Send what widgets need; what the kernel prints or raises stays here."""
        if not isinstance(message, bytes):
            return None
        channel, parts = deserialize_msg_from_ws_v1(message)
        kind = json.loads(parts[0])["msg_type"]
        if kind == "kernel_info_reply":
            parts[3] = json.dumps(KERNEL_INFO).encode()
            message = serialize_msg_to_ws_v1(parts, channel)
        return super().write_message(message, binary) if kind in TO_BROWSER else None


class StateHandler(Curt, KernelHandler):
    """Says that the page's kernel is there; stops none."""

    SUPPORTED_METHODS = ("GET",)


class LeaveHandler(Curt, VoilaShutdownKernelHandler):
    """Frees the seat of a visitor who closes the page."""


def allowed(message: str | bytes) -> bool:
    """Tell whether a browser may send this: a well-formed message of `FROM_BROWSER`.

    Of comms it may open the one that asks for the widgets, not make widgets of its own.
    """
    try:
        parts = int.from_bytes(message[:8], "little")
        if not MIN_OFFSETS <= parts <= MAX_OFFSETS:  # the reader would count to any number
            return False
        channel, parts = deserialize_msg_from_ws_v1(message)
        header, _, _, content = (json.loads(part.decode()) for part in parts[:4])
        if channel != "shell" or header["msg_type"] not in FROM_BROWSER:
            return False
        return header["msg_type"] != "comm_open" or content["target_name"] == CONTROL_COMM
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


class NotFoundHandler(RequestHandler):
    """Answers whatever is no route."""

    def initialize(self, **_) -> None:
        """Take the arguments of any route."""

    def prepare(self) -> None:
        """Say that there is nothing."""
        write_page(self, 404, "Not found", "There is no such page here.")

    def check_xsrf_cookie(self) -> None:
        """There is nothing to protect."""


def write_page(handler: RequestHandler, code: int, title: str, text: str, again=False) -> None:
    """Finish a request with a plain page."""
    page = handler.settings["voila_jinja2_env"].get_template("full.html")
    handler.set_status(code)
    for name, value in HEADERS.items():
        handler.set_header(name, value)
    base_url = handler.settings["base_url"]
    handler.finish(page.render(title=title, text=text, again=again, base_url=base_url))


def make_server(notebook: Path, port: int, visitors: int, base_url: str) -> GeneratorServer:
    """Return the server of a page at `base_url`, which begins and ends with `/`; ready to start."""
    page = {
        "template": TEMPLATE,
        "allow_template_override": "NO",
        "allow_theme_override": "NO",
        "show_tracebacks": False,
        "strip_sources": True,
        "file_allowlist": [],
        "preheat_kernel": True,
        "default_pool_size": visitors,
        "multi_kernel_manager_class": SeatedKernelManager,
    }
    config = {
        "GeneratorServer": {"port": port, "connection_dir_root": str(notebook.parents[1])},
        "VoilaConfiguration": page,
        "SeatedKernelManager": {"seats": visitors},
        "MappingKernelManager": {"cull_interval": 10, "cull_idle_timeout": 1},  # see the seats
        "KernelManager": {"autorestart": False, "transport": "ipc"},
    }
    config["GeneratorServer"] |= {"base_url": base_url}
    config["GeneratorServer"] |= {"ip": "127.0.0.1", "open_browser": False, "log_level": "WARN"}
    server = GeneratorServer(config=Config(config))
    server.root_dir = str(notebook.parent)
    server.initialize([str(notebook)])
    return server


if __name__ == "__main__":
    notebook, (port, visitors), base = Path(sys.argv[1]), map(int, sys.argv[2:4]), sys.argv[4]
    try:
        server = make_server(notebook, port, visitors, base)
        print(
            f"http://127.0.0.1:{port}{base}, visitors at once: {visitors}; Ctrl-C ends it",
            flush=True,
        )
        server.start()
    finally:  # a signal ended it
        shutil.rmtree(notebook.parents[1], ignore_errors=True)
