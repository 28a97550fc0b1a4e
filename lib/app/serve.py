"""The image generator as a web app on 127.0.0.1: Voilà serves a page of widgets.

The page and copies of the exported networks lie in a folder of their own, which is all that the
server and its kernels need to read.
"""

import os
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import nbformat

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json
from lib.study.output_folder import output_folder
from lib.study.params import Params

ARTIFACT, PUBLISHED = "artifacts/image_generator", "student"
SHIPPED = [ROOT / "outputs" / name / PUBLISHED for name in ("cifar10-cpu", "digits")]
TEMPLATES = Path(__file__).with_name("page_template")
SUBTITLE = (
    "A small network draws {data}. Choose classes, how many and a seed; a classifier says what it "
    "sees in each image."
)
PAGE = """from pathlib import Path

from lib.app.widgets import generator_page

generator_page(sorted(Path("networks").iterdir()), {seed})"""


def serve_app(params: Params, port: int = 8866, visitors: int = 5, base_url: str = "/") -> None:
    """Become the server of the profile's networks, for `visitors` at once (1 to 100).

    The page lies at the path `base_url`, below which all is that it loads.

    Never returns: this process turns into the server, which needs none of the libraries that are
    loaded here. Raises `StudyError` where there is no student or the port is taken.
    """
    check_options(port, visitors, base_url)
    networks, notice = find_networks(params)
    folder = Path(tempfile.mkdtemp(prefix="generator-"))
    path = prepare(folder / "page", networks, params.seed, notice)
    print(f"{notice}\n" if notice else "", end="", flush=True)
    command = [sys.executable, "-m", "lib.app.server", str(path), str(port), str(visitors)]
    command.append(f"/{base_url.strip('/')}/".replace("//", "/"))
    os.execve(sys.executable, command, server_environment(folder))


def check_options(port: int, visitors: int, base_url: str = "/") -> None:
    """Raise `StudyError` for a port that is taken, or other options that cannot be."""
    if not re.fullmatch(r"/?([\w-]+/)*[\w-]*", base_url, re.ASCII):
        raise StudyError(f"--base-url {base_url}: give a path of plain words, such as /generator/")
    if not 1 <= visitors <= 100:
        raise StudyError(f"--visitors {visitors}: give 1 to 100; each takes about 190 MB")
    if not 1 <= port <= 65535:
        raise StudyError(f"--port {port}: give 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StudyError(f"--port {port}: {error.strerror}; give another one") from error


def find_networks(params: Params) -> tuple[list[Path], str]:
    """Return the folders of networks to choose from, and a notice where the profile has none.

    Those that a run of the profile made come first, then the shipped ones; for the same data, the
    first alone. Raises `StudyError` where there are none.
    """
    folder, found = output_folder(params), {}
    published = [folder / PUBLISHED] * (folder / PUBLISHED not in SHIPPED)
    for path in (folder / ARTIFACT, *published, *SHIPPED):
        if (path / CONFIG).exists():
            found.setdefault(read_json(path / CONFIG)["data"], path)
    own = any(path.is_relative_to(folder) for path in found.values())
    remedy = f"make study PROFILE=params/{params.profile}.yaml makes one."
    missing = f"The profile {params.profile} has no trained student yet: {remedy}"
    if not found:
        raise StudyError(missing)
    return [*found.values()], "" if own else f"{missing} Until then, here are the shipped ones."


def prepare(folder: Path, networks: list[Path], seed: int, notice: str = "") -> Path:
    """Write the notebook that is served, with copies of the networks; return its path."""
    files = [*FILES.values(), EVALUATOR]
    files += [CONFIG, *(Path(name).with_suffix(".bin") for name in files)]
    for number, source in enumerate(networks):
        target = folder / "networks" / str(number)
        target.mkdir(parents=True)
        for part in filter(Path.exists, (source / name for name in files)):
            shutil.copyfile(part, target / part.name)
    data = " or ".join(read_json(source / CONFIG)["data"] for source in networks)
    about = {"title": "Image generator", "subtitle": SUBTITLE.format(data=data), "notice": notice}
    about["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    cell, path = nbformat.v4.new_code_cell(PAGE.format(seed=int(seed))), folder / "generator.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=about), path)
    return path


def server_environment(folder: Path) -> dict[str, str]:
    """Return the environment of server and kernels; the user's own settings stay out of it."""
    return os.environ | {
        "JUPYTER_PATH": str(TEMPLATES),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_NO_CONFIG": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": str(ROOT),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "USER": "app",  # Jupyter names it in each message
    }
