"""README's results are those of the published tables; what it links to exists."""

import io
import re
import shutil
import subprocess
import tarfile

import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, sha256_file
from lib.publish.readme import FOLDER, MARKS, results_block, write_results
from lib.study.notebooks import appendix_paths, notebook_paths

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
def profile(published, tmp_path):
    """A copy of the published profile that README shows, without its figures."""
    folder = tmp_path / "outputs" / FOLDER.name
    (folder / "figures").mkdir(parents=True)
    source = published / "outputs" / FOLDER.name
    shutil.copytree(source / "tables", folder / "tables")
    shutil.copy(source / "manifest.json", folder)
    return folder


def test_results_in_the_readme_are_those_of_the_published_tables(published):
    written = (published / "README.md").read_text(encoding="utf-8")
    folder = published / "outputs" / FOLDER.name
    assert MARKS.search(written)[0] == f"{results_block(folder)}\n"
    assert (folder / "figures/06_answer.png").is_file()


def test_every_row_is_that_of_the_tables(profile):
    """Read the block's numbers back and compare them with the tables, without its code."""
    lines = [line for line in results_block(profile).splitlines() if line.startswith("| ")][1:]
    way = "engine == 'nncf' and method == 'default'"
    versus = pd.read_csv(profile / "tables/06_versus_real.csv").query(way)
    single = versus[versus["model"] != "all"].groupby("calibration_set")["difference_pp"]
    versus = versus[versus["model"] == "all"].set_index("calibration_set")
    means = pd.read_csv(profile / "tables/06_degradation.csv").query(way)
    means = means.groupby("calibration_set")[["drop_pp", "agreement"]].mean()
    assert len(lines) == len(means) and "real" in means.index
    for line in lines:
        name, networks, loss, against, agreement, serves, _ = (
            part.strip() for part in line[2:-2].split(" | ")
        )
        assert float(loss) == pytest.approx(means.loc[name, "drop_pp"], abs=0.0051)
        share = 100 * means.loc[name, "agreement"]
        assert float(agreement.removesuffix(" %")) == pytest.approx(share, abs=0.0051)
        if name == "real":
            assert against == serves == ""
            continue
        numbers = [float(text) for text in re.findall(r"[+-]\d+\.\d+", against)]
        expected = versus.loc[name, ["difference_pp", "low_pp", "high_pp"]].tolist()
        assert numbers == pytest.approx(expected, abs=0.0051)
        served = int((single.get_group(name) >= -0.5).sum())
        assert serves == f"{served} of {networks} networks"


def test_results_are_written_between_the_marks_with_their_figure(profile, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n<!-- results -->\nold\n<!-- /results -->\nrest\n")
    write_results(profile, readme)
    once = readme.read_text()
    assert once.startswith("# Title\n<!-- results -->\n**CIFAR-10") and once.endswith("\nrest\n")
    assert "old" not in once and "Calibrated with the student's images" in once
    assert (profile / "figures/06_answer.png").stat().st_size > 10_000
    write_results(profile, readme)
    assert readme.read_text() == once


def test_marks_and_tables_that_are_missing_are_named(profile, tmp_path):
    (tmp_path / "README.md").write_text("# Title\n")
    with pytest.raises(StudyError, match="has lost <!-- results -->"):
        write_results(profile, tmp_path / "README.md")
    (profile / "tables/06_degradation.csv").unlink()
    with pytest.raises(StudyError, match="06_degradation.csv is missing: run notebook 06"):
        results_block(profile)


def test_published_tables_and_figures_are_those_of_the_manifest(published):
    for folder in (path.parent for path in (published / "outputs").glob("*/manifest.json")):
        manifest = read_json(folder / "manifest.json")
        assert {"tables/results.csv", "tables/06_versus_real.csv"} <= set(manifest["reports"])
        for relative, entry in (manifest["reports"] | manifest["measured_reports"]).items():
            assert sha256_file(folder / relative) == entry["sha256"], folder / relative


def test_every_notebook_is_published(published):
    known = {path.name for path in notebook_paths() + appendix_paths()}
    for folder in (path.parent for path in (published / "outputs").glob("*/manifest.json")):
        names = {path.name for path in (folder / "notebooks").glob("*.ipynb")}
        assert {path.name for path in notebook_paths()} <= names <= known, folder


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_the_pages_lead_somewhere(page):
    targets = set(re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
