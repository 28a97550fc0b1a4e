import importlib
import io
import json
import re
import subprocess
import tarfile

import numpy as np
import pandas as pd
import pytest

from lib.errors import StudyError
from lib.files import read_json, sha256_file
from lib.notebooks import appendix_paths, notebook_paths
from lib.paths import ROOT
from lib.readme import END, START, headline_table, results_section, unknown_numbers

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


def test_every_number_of_the_results_is_in_a_published_table(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    section = text.partition(START)[2].partition(END)[0]
    assert len(re.findall(r"\d\.\d\d", section)) > 30
    assert unknown_numbers(section, published / "outputs" / "digits") == []


@pytest.fixture
def results(tmp_path):
    """A profile's folder with all that the results section is written from."""
    keys = {"engine": "nncf", "method": "default", "calibration_size": 300}
    table = pd.DataFrame([keys, keys]).assign(
        **{"calibration_set": ["real", "student"], "drop_pp": [0.1, 0.25], "kl": 0.002},
        **{"agreement": [0.998765, 0.98], "difference_pp": [None, -0.15]},
        **{"low_pp": [None, -0.31], "high_pp": [None, 0.02], "claim": ["reference", "equivalent"]},
    )
    folder = tmp_path / "digits"
    (folder / "tables").mkdir(parents=True)
    table.to_csv(folder / "tables/06_headline.csv", index=False)
    versus = table.iloc[1:].assign(agreement_pp=-1.88, margin_pp=0.5)
    versus.drop(columns="agreement").to_csv(folder / "tables/06_versus_real.csv", index=False)
    table.assign(model="resnet20").to_csv(folder / "tables/06_degradation.csv", index=False)
    words = "**Yes.** -0.15 points (-0.31 to +0.02), within ±0.5.\n\nreal 99.88 %, least 0.25."
    (folder / "tables/verdict.md").write_text(words)
    environment = {"versions": {"openvino": "2026.4.1", "nncf": "3.4.0"}, "cpu": "a 3.5 chip"}
    made = {"quantization": {"made_with": environment | {"cpu_flags": ["avx2"]}}}
    (folder / "manifest.json").write_text(json.dumps({"artifacts": made}))
    return folder


def test_results_are_written_from_the_tables(results):
    section = results_section(results)
    assert section.startswith("**Yes.** -0.15 points")
    assert "| NNCF, default | real | 1 | 0.10 | reference | 99.88 % |  |" in section
    assert "| student | 1 | 0.25 | -0.15 (-0.31 to +0.02) | 98.00 % | equivalent |" in section
    assert "OpenVINO 2026.4.1 and NNCF 3.4.0" in section
    assert "](outputs/digits/figures/06_versus_real.png)" in section
    (results / "tables/06_headline.csv").unlink()
    with pytest.raises(StudyError, match="06_headline.csv is missing: run notebook 06"):
        results_section(results)


def test_numbers_that_no_table_holds_are_found(results):
    section = results_section(results)
    assert unknown_numbers(section, results) == ["3.5"]  # the processor of this fixture
    wrong = section.replace("-0.31", "+0.31").replace("98.00", "98.01").replace("±0.5", "±0.7")
    assert unknown_numbers(wrong, results) == ["+0.31", "0.7", "+0.31", "98.01", "3.5"]


def test_a_set_that_was_not_measured_has_no_numbers():
    row = {
        "engine": "pot",
        "method": "default",
        "calibration_set": "student",
        "claim": "not measured",
    }
    row |= dict.fromkeys(["drop_pp", "agreement", "difference_pp", "low_pp", "high_pp"], np.nan)
    row |= {"models": 0, "complete": False}
    text = headline_table(pd.DataFrame([row]))
    assert text.endswith("| POT, default | student |  |  |  |  | not measured |")


def test_a_set_that_was_compared_over_few_models_is_marked(results):
    path = results / "tables/06_degradation.csv"
    one = pd.read_csv(path)
    others = [one[:1].assign(model=model) for model in ("vgg11_bn", "repvgg_a0")]
    pd.concat([one, *others]).to_csv(path, index=False)
    section = results_section(results)
    assert "| NNCF, default | real | 3 | 0.10 | reference | 99.88 % |  |" in section
    assert (
        "| student | 1 | 0.25 | -0.15 (-0.31 to +0.02) | 98.00 % | equivalent (incomplete) |"
        in (section)
    )


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
