import re

import pytest

from lib.files import read_json, sha256_file
from lib.notebooks import notebook_paths
from lib.paths import ROOT
from lib.readme import END, START, results_section

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "outputs" / "digits"


def test_results_in_the_readme_are_those_of_the_published_tables():
    section = README.partition(START)[2].partition(END)[0]
    assert section.strip() == results_section(PUBLISHED)


def test_published_tables_and_figures_are_those_of_the_manifest():
    reports = read_json(PUBLISHED / "manifest.json")["reports"]
    assert {"tables/results.csv", "figures/06_versus_real.png"} <= set(reports)
    for relative, entry in reports.items():
        assert sha256_file(PUBLISHED / relative) == entry["sha256"], relative


def test_every_notebook_is_published():
    published = {path.name for path in (PUBLISHED / "notebooks").glob("*.ipynb")}
    assert published == {path.name for path in notebook_paths()}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_library_section_names_what_exists():
    import importlib

    names = set(re.findall(r"lib\.(\w+)\.(\w+)", README.partition("## Using the library")[2]))
    assert len(names) > 30
    for module, name in names:
        assert hasattr(importlib.import_module(f"lib.{module}"), name), f"lib.{module}.{name}"
