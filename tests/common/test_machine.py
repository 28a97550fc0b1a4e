"""The environment files and the notebooks' sources hold to the project's rules."""

import ast
import re

import nbformat
import pytest
import yaml

from lib.common.files import ROOT
from lib.study.notebooks import (
    appendix_paths,
    declared_parameters,
    notebook_paths,
)
from lib.study.params import Params


def pins(lines):
    return {line.strip() for line in lines if re.match(r"^[A-Za-z-]", line.strip())}


def lines_of_work(tree):
    """Count a cell's lines without its imports."""
    work = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return sum(node.end_lineno - node.lineno + 1 for node in work)


def test_conda_environment_has_the_pins_of_requirements():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "python=3.11" in conda
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert pins(pip) == pins((ROOT / "requirements.txt").read_text().splitlines())


def test_every_dependency_is_pinned():
    lines = pins((ROOT / "requirements.txt").read_text().splitlines()) - {
        "-c constraints.txt",
        "-e .",
    }
    lines |= pins((ROOT / "constraints.txt").read_text().splitlines())
    assert len(lines) > 100
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []


@pytest.mark.parametrize("path", notebook_paths() + appendix_paths(), ids=lambda path: path.stem)
def test_notebook_source_holds_no_outputs_no_definitions_and_its_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    trees = [ast.parse(cell.source) for cell in code]
    kinds = ast.FunctionDef | ast.ClassDef | ast.Lambda
    assert not any(isinstance(node, kinds) for tree in trees for node in ast.walk(tree))
    assert all(lines_of_work(tree) <= 25 for tree in trees)
    assert code[-1].source.startswith("# NBVAL_CHECK_OUTPUT")
    declared = declared_parameters(path)
    assert {"profile", "seed", "output_dir"} <= declared <= set(Params.model_fields)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert [text for text in prose if len(text.split()) > 90] == []
