"""README's results are those of the published tables; what it links to exists."""

import io
import re
import subprocess
import tarfile

import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, sha256_file, write_csv
from lib.comparison.answer import answers
from lib.comparison.service import service_table
from lib.publish.blog.render import Figures
from lib.publish.readme import FOLDER, MARKS, results_block, write_results
from lib.study.notebooks import appendix_paths, notebook_paths
from tests.comparison.conftest import EQUAL, study

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The committed results: a run of the study may have overwritten those in the work tree."""
    command = ["git", "-C", str(ROOT), "archive", "HEAD", "README.md", "outputs"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        pytest.skip("no git checkout with published results")
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def profile(tmp_path):
    """A profile with the tables of notebook 06."""
    services = service_table(*study(EQUAL | {"fractal": 400}), resamples=300)
    tables = {"06_services": services, "06_answers": answers(services)}
    tables["06_data"] = pd.DataFrame({"data": ["CIFAR-10"]})
    for name, table in tables.items():
        write_csv(tmp_path / "outputs/mine/tables" / f"{name}.csv", table)
    return tmp_path / "outputs/mine"


def test_results_in_the_readme_are_those_of_the_published_tables(published):
    folder = published / "outputs" / FOLDER.name
    if not (folder / "tables/06_answers.csv").is_file():
        pytest.skip("no results are published")
    written = (published / "README.md").read_text(encoding="utf-8")
    assert MARKS.search(written)[0] == f"{results_block(folder)}\n"
    assert (folder / "figures/06_answer.png").is_file()


def test_every_row_is_that_of_the_tables(profile):
    lines = [line for line in results_block(profile).splitlines() if line.startswith("| ")][1:]
    rows = [[part.strip() for part in line[2:-2].split(" | ")] for line in lines]
    assert [row[1] for row in rows] == ["real", "teacher", "student", "fractals"]
    assert rows[1][2:5] == ["3 of 3", "0", "+0.00"]
    assert rows[3][0] == "nothing but the network's file"
    assert rows[3][2:5] == ["0 of 3", "3", "-2.00"]
    assert re.fullmatch(r"ResNet20 -2\.00 \(-2\.\d\d to -1\.\d\d\)", rows[3][5])


def test_results_are_written_between_the_marks(profile, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n<!-- results -->\nold\n<!-- /results -->\nrest\n")
    write_results(profile, readme)
    once = readme.read_text()
    assert once.startswith("# Title\n<!-- results -->\n**CIFAR-10:**")
    assert once.endswith("\nrest\n")
    assert "old" not in once and "Calibrated with the student's images" in once
    write_results(profile, readme)
    assert readme.read_text() == once


def test_marks_and_tables_that_are_missing_are_named(profile, tmp_path):
    (tmp_path / "README.md").write_text("# Title\n")
    with pytest.raises(StudyError, match="has lost <!-- results -->"):
        write_results(profile, tmp_path / "README.md")
    (profile / "tables/06_answers.csv").unlink()
    with pytest.raises(StudyError, match="06_answers.csv is missing: run notebook 06"):
        results_block(profile)


def test_published_tables_and_figures_are_those_of_the_manifest(published):
    for folder in (path.parent for path in (published / "outputs").glob("*/manifest.json")):
        manifest = read_json(folder / "manifest.json")
        assert "tables/results.csv" in manifest["reports"]
        drawn = set(Figures(folder).cells)  # in the notebooks; few have a file beside
        for relative, entry in (manifest["reports"] | manifest["measured_reports"]).items():
            path = folder / relative
            if relative.startswith("figures/") and not path.exists():
                assert entry["sha256"] in drawn, path
            else:
                assert sha256_file(path) == entry["sha256"], path


def test_every_notebook_that_ran_is_published(published):
    known = {path.name for path in notebook_paths() + appendix_paths()}
    for folder in (path.parent for path in (published / "outputs").glob("*/manifest.json")):
        names = {path.name for path in (folder / "notebooks").glob("*.ipynb")}
        reports = read_json(folder / "manifest.json")["reports"].values()
        assert {f"{report['notebook']}.ipynb" for report in reports} <= names <= known, folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_the_pages_lead_somewhere(page):
    targets = set(re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
