"""The package as it is installed: whatever it needs to start is in its wheel."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from lib.common.files import ROOT, write_json
from tests.publish.conftest import make_folder, write_texts

BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
START = """
import sys
from pathlib import Path

import lib
from lib.app import serve, server, widgets
from lib.publish.blog import render
from lib.publish.cards import TEMPLATES

here, folder, networks, render.TEXTS = map(Path, sys.argv[1:])
assert Path(lib.__file__).is_relative_to(here)
assert len(render.write_blog(folder)) == 2
page = serve.prepare(networks / "page", [networks], seed=1)
assert page.is_file() and "generator_page" in page.read_text()
assert (serve.TEMPLATES / "voila" / "templates" / server.TEMPLATE / "full.html").is_file()
assert ".ig" in widgets.STYLE.read_text()
templates = {"network.md.j2", "set.md.j2", "int8.md.j2", "calibration.md.j2"}
assert {path.name for path in TEMPLATES.iterdir()} == templates
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel that is built, without a network, from a copy of the source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", source / "pyproject.toml")
    command = [sys.executable, "-W", "ignore", "-c", BUILD, out]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [path for path in (ROOT / "lib").rglob("*") if path.is_file()]
    kept = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert kept <= packed
    assert sum("/templates/" in name or "/template/" in name for name in kept) > 8


def test_the_wheel_s_package_starts_by_itself(wheel, tmp_path):
    here, networks = tmp_path / "empty", tmp_path / "networks"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here)
    networks.mkdir()
    write_json(networks / "config.json", {"data": "digits"})
    write_texts(tmp_path / "texts")
    arguments = [here, make_folder(tmp_path / "outputs" / "small"), networks, tmp_path / "texts"]
    environment = os.environ | {"PYTHONPATH": str(here)}
    command = [sys.executable, "-c", START, *arguments]
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
