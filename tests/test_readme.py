import importlib
import io
import re
import subprocess
import tarfile

import pytest

from lib.files import read_json, sha256_file
from lib.notebooks import appendix_paths, notebook_paths
from lib.paths import ROOT
from lib.readme import END, START, results_section

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The committed results: a run of the study may have overwritten those in the work tree."""
    command = ["git", "-C", str(ROOT), "archive", "HEAD", "README.md", "outputs/digits"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        pytest.skip("no git checkout with published results")
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_results_in_the_readme_are_those_of_the_published_tables(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    section = text.partition(START)[2].partition(END)[0]
    assert section.strip() == results_section(published / "outputs" / "digits")


def test_published_tables_and_figures_are_those_of_the_manifest(published):
    folder = published / "outputs" / "digits"
    manifest = read_json(folder / "manifest.json")
    assert {"tables/results.csv", "figures/06_versus_real.png"} <= set(manifest["reports"])
    for relative, entry in (manifest["reports"] | manifest["measured_reports"]).items():
        assert sha256_file(folder / relative) == entry["sha256"], relative


def test_every_notebook_is_published(published):
    names = {path.name for path in (published / "outputs/digits/notebooks").glob("*.ipynb")}
    required = {path.name for path in notebook_paths()}
    assert required <= names <= required | {path.name for path in appendix_paths()}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_library_section_names_what_exists():
    names = set(re.findall(r"lib\.(\w+)\.(\w+)", README.partition("## Using the library")[2]))
    assert len(names) > 30
    for module, name in names:
        assert hasattr(importlib.import_module(f"lib.{module}"), name), f"lib.{module}.{name}"
