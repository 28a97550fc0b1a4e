import importlib
import io
import json
import re
import shutil
import subprocess
import tarfile

import numpy as np
import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, sha256_file
from lib.publish.readme import (
    END,
    SECTION,
    START,
    headline_table,
    results_section,
    short_section,
    write_results,
    wrong_lines,
)
from lib.study.notebooks import appendix_paths, notebook_paths

README = (ROOT / "README.md").read_text(encoding="utf-8")


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


@pytest.fixture(scope="module")
def sections(published):
    """Each results section of the committed README: its folder, its text, what it should be."""
    found = SECTION.findall((published / "README.md").read_text(encoding="utf-8"))
    assert found[0][0] == ""
    long = published / "outputs" / "digits"
    others = [(published / "outputs" / name, text) for name, text in found[1:]]
    rest = [(folder, text, short_section(folder)) for folder, text in others]
    return [(long, found[0][1], results_section(long)), *rest]


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def with_one_number_changed(text):
    """Yield the text with each of its numbers, one at a time, one step of its last digit off."""
    for match in NUMBER.finditer(text):
        digits = len(match[0].partition(".")[2])
        changed = f"{float(match[0]) + 10.0**-digits:.{digits}f}"
        yield text[: match.start()] + changed + text[match.end() :]


def rounded(value, text):
    """Tell whether `text` is `value` rounded to as many digits (the tables hold six)."""
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    return abs(float(text) - value) <= half + 1e-5 * max(1, abs(value))


def setting(words):
    engine, method = words.removesuffix(" quantization").split(", ")
    return engine.lower(), method.replace("-", "_")


def test_results_in_the_readme_are_those_of_the_published_tables(sections):
    for _, section, expected in sections:
        assert wrong_lines(section, expected) == []


def test_any_changed_number_of_the_results_is_found(sections):
    for _, section, expected in sections:
        changed = list(with_one_number_changed(section))
        assert len(changed) > 100
        assert all(len(wrong_lines(text, expected)) == 1 for text in changed)


def test_every_row_of_the_results_is_that_of_the_headline_table(sections):
    for folder, section, _ in sections:
        table = pd.read_csv(folder / "tables/06_headline.csv")
        lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
        assert len(lines) == len(table)
        for line, row in zip(lines, table.to_dict("records"), strict=True):
            way, name, models, loss, against, agreement, claim = line[2:-2].split(" | ")
            assert (*setting(way), name) == (row["engine"], row["method"], row["calibration_set"])
            assert (claim.removesuffix(" (incomplete)") or "reference") == row["claim"]
            if row["claim"] == "not measured":
                assert models == loss == against == agreement == ""
                continue
            assert rounded(row["drop_pp"], loss)
            assert rounded(100 * row["agreement"], agreement.removesuffix(" %"))
            shown = re.findall(r"[+-][\d.]+\d", against)
            values = [row[key] for key in ("difference_pp", "low_pp", "high_pp")][: len(shown)]
            assert all(map(rounded, values, shown))
            degradation = pd.read_csv(folder / "tables/06_degradation.csv")
            own = degradation[degradation[["engine", "method"]].eq(list(setting(way))).all(axis=1)]
            assert 1 <= int(models) <= own["model"].nunique()


def test_every_comparison_in_words_is_a_row_of_the_table_of_comparisons(sections):
    columns = ["difference_pp", "low_pp", "high_pp"]
    columns += ["agreement_pp", "agreement_low_pp", "agreement_high_pp"]
    for folder, _, _ in sections:
        versus = pd.read_csv(folder / "tables/06_versus_real.csv").query("model == 'all'")
        versus = versus.set_index(["engine", "method", "calibration_size", "calibration_set"])
        words = (folder / "tables/verdict.md").read_text(encoding="utf-8")
        seen = 0
        for line in words.splitlines():
            if found := re.match(r"\*\*(.*? quantization)\*\* \((\d+) images\)", line):
                way, size = setting(found[1]), int(found[2])
            elif found := re.match(r"- (\w+): (.*)", line):
                row = versus.loc[(*way, size, found[1])]
                shown = re.findall(r"[+-]\d+\.\d+", found[2])
                assert not row["pairs"] or len(shown) == len(columns)
                assert all(map(rounded, row[columns], shown))
                seen += 1
        assert seen == len(versus)


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
    assert "\n\nCalibration sets: *real*: training images; *student*: made by the small" in section
    (results / "tables/06_headline.csv").unlink()
    with pytest.raises(StudyError, match="06_headline.csv is missing: run notebook 06"):
        results_section(results)


def test_lines_that_the_tables_do_not_give_are_found(results):
    section = results_section(results)
    assert wrong_lines(section, results_section(results)) == []
    wrong = wrong_lines(section.replace("98.00 %", "98.01 %"), section)
    assert len(wrong) == 1 and "98.01 %" in wrong[0] and "expected: | NNCF" in wrong[0]
    assert len(wrong_lines(section + "\nmore", section)) == 1
    assert wrong_lines(section.partition("\n\n![Im")[0], section)


@pytest.fixture
def second(results):
    """Results of another profile, with the table that says what its data are."""
    folder = shutil.copytree(results, results.parent / "mine")
    row = {"data": "CIFAR-10 (JPEG copy)", "train_images": 48_000, "test_images": 10_000}
    pd.DataFrame([row]).to_csv(folder / "tables/06_data.csv", index=False)
    return folder


def test_each_further_profile_has_a_section_of_its_own(results, second):
    third = shutil.copytree(second, second.parent / "third")
    before = f"# Title\n\n{START}\nold\n{END}\n\n## Next\n"
    once = write_results(before, [results, second])
    text = write_results(once, [results, second, third])
    names, written = zip(*SECTION.findall(text), strict=True)
    assert names == ("", "mine", "third") and text.endswith(" -->\n\n## Next\n")
    assert written[0] == results_section(results) and written[1] == short_section(second)
    heading = "## The answer for CIFAR-10 (JPEG copy), profile mine\n\n<!-- results mine -->\n"
    assert text.count(heading) == 1 and text.index(END) < text.index(heading)
    assert "](outputs/mine/figures/06_versus_real.png)" in written[1]
    assert "| student | 1 | 0.25 | -0.15 (-0.31 to +0.02) | 98.00 % | equivalent |" in written[1]
    assert "CIFAR-10 (JPEG copy), 48,000 training and 10,000 test images" in written[1]
    assert "`make study PROFILE=params/mine.yaml`" in written[1]
    assert "](outputs/mine/tables/verdict.md)" in written[1]
    assert write_results(text, [results, second, third]) == text


def test_any_changed_number_of_a_further_section_is_found(second):
    section = short_section(second)
    assert all(wrong_lines(text, section) for text in with_one_number_changed(section))


def test_marks_and_tables_that_are_missing_are_named(results, second):
    with pytest.raises(StudyError, match="lost its marks"):
        write_results("# Title", [results])
    half = f"{START}\n{END}\n<!-- results mine -->\n"
    with pytest.raises(StudyError, match="<!-- results mine --> without"):
        write_results(half, [results, second])
    (second / "tables/06_data.csv").unlink()
    with pytest.raises(StudyError, match="06_data.csv is missing: run notebook 06"):
        write_results(f"{START}\n{END}", [results, second])


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
    for folder in (published / "outputs").iterdir():
        manifest = read_json(folder / "manifest.json")
        assert {"tables/results.csv", "figures/06_versus_real.png"} <= set(manifest["reports"])
        for relative, entry in (manifest["reports"] | manifest["measured_reports"]).items():
            assert sha256_file(folder / relative) == entry["sha256"], folder / relative


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
