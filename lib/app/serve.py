"""The image generator as a web app: `python -m lib.app.serve params/<profile>.yaml`.

Voilà serves notebook 07 on 127.0.0.1, reduced to its cells tagged `app`, from a folder of its own
that holds that notebook and the exported networks. `--publish` instead copies the profile's
networks to `outputs/<profile>/student`, from where a checkout without a run takes them.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import nbformat

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.common.errors import StudyError
from lib.common.files import NOTEBOOKS, ROOT, read_json
from lib.study.notebooks import read_tagged
from lib.study.output_folder import output_folder
from lib.study.params import Params, read_profile, validate

NOTEBOOK = NOTEBOOKS / "07_image_generator.ipynb"
ARTIFACT, PUBLISHED = "artifacts/image_generator", "student"
SHIPPED = ROOT / "outputs" / "digits" / PUBLISHED
TEMPLATES = Path(__file__).with_name("page_template")
SUBTITLE = (
    "A small network draws {data}. Choose classes, how many and a seed; a classifier says what it "
    "sees in each image."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.app.serve", description=__doc__)
    parser.add_argument("profile", type=Path, help="parameter file, such as params/digits.yaml")
    parser.add_argument("--port", type=int, default=8866, help="port on 127.0.0.1")
    parser.add_argument("--visitors", type=int, default=5, help="most visitors at once")
    parser.add_argument("--publish", action="store_true", help="copy the networks, serve nothing")
    options = parser.parse_args(arguments)
    try:
        params = validate(read_profile(options.profile))
        if options.publish:
            publish(output_folder(params))
        else:
            check_options(options.port, options.visitors)
            networks, notice = find_networks(params, options.profile)
            serve(networks, params.seed, notice, options.port, options.visitors)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def publish(folder: Path) -> None:
    """Copy the networks of the profile's artifact to its folder `student`."""
    from lib.app.export import publish_generator

    for path in publish_generator(folder / ARTIFACT, folder / PUBLISHED):
        print(f"{path}: {path.stat().st_size:,} bytes")


def check_options(port: int, visitors: int) -> None:
    """Raise `StudyError` for a port that is taken or a number of visitors out of range."""
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


def find_networks(params: Params, profile: Path) -> tuple[Path, str]:
    """Return the folder of the profile's networks, or the shipped ones', and a notice of that."""
    folder = output_folder(params)
    for own in (folder / ARTIFACT, folder / PUBLISHED):
        if (own / CONFIG).exists():
            return own, ""
    if not (SHIPPED / CONFIG).exists():
        raise StudyError(f"there is no trained student: make study PROFILE={profile} makes one")
    inside = profile.resolve().is_relative_to(ROOT)
    shown = profile.resolve().relative_to(ROOT) if inside else profile.name  # no paths of this host
    return SHIPPED, (
        f"The profile {params.profile} has no trained student yet: "
        f"make study PROFILE={shown} makes one. Until then, here is the one of the profile "
        "digits that comes with the study."
    )


def serve(networks: Path, seed: int, notice: str, port: int, visitors: int) -> None:
    """Turn this process into the server, which needs none of the libraries that are loaded here."""
    folder = Path(tempfile.mkdtemp(prefix="generator-"))
    path = prepare(folder / "page", networks, seed, notice)
    print(f"{notice}\n" if notice else "", end="", flush=True)
    command = [sys.executable, "-m", "lib.app.server", str(path), str(port), str(visitors)]
    os.execve(sys.executable, command, server_environment(folder))


def prepare(folder: Path, networks: Path, seed: int, notice: str = "") -> Path:
    """Write the notebook that is served, with copies of the networks; return its path."""
    (folder / "networks").mkdir(parents=True)
    names = [CONFIG]
    for model in (*FILES.values(), EVALUATOR):
        names += [model, str(Path(model).with_suffix(".bin"))]
    for part in names:
        if (networks / part).exists():
            shutil.copyfile(networks / part, folder / "networks" / part)
    data = read_json(networks / CONFIG)["data"]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    given = nbformat.v4.new_code_cell(f"folder, seed = 'networks', {int(seed)}")
    notebook.cells = [given, *read_tagged(notebook, "app")]
    notebook.metadata |= {"title": "Image generator", "subtitle": SUBTITLE.format(data=data)}
    notebook.metadata["notice"] = notice
    nbformat.write(notebook, folder / "generator.ipynb")
    return folder / "generator.ipynb"


def server_environment(folder: Path) -> dict[str, str]:
    """Return the environment of server and kernels; the user's own settings stay out of it."""
    return os.environ | {
        "JUPYTER_PATH": str(TEMPLATES),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_NO_CONFIG": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "JPY_SESSION_NAME": "generator",  # a person watches: the notebook shows its widgets
        "PYTHONPATH": str(ROOT),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "USER": "app",  # Jupyter names it in each message
    }


if __name__ == "__main__":
    sys.exit(main())
