"""What the notebooks of the study are, which parameters each declares, and their cells for these.

A notebook's cell tagged `parameters` names those that it reads; `python -m lib docs` writes the
values of the default profile there, in the order of the schema.
"""

import ast
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from lib.common.files import NOTEBOOKS, ROOT, write_text
from lib.study.params import GROUPS, Params, read_profile, validate


def notebook_paths() -> list[Path]:
    """Return the numbered notebooks of the study, in order."""
    return sorted(NOTEBOOKS.glob("0[0-7]_*.ipynb"))


def appendix_paths() -> list[Path]:
    """Return the notebooks that run on request only, in order: the tool, the appendices."""
    return [*NOTEBOOKS.glob("08_*.ipynb"), *sorted(NOTEBOOKS.glob("A[0-9]_*.ipynb"))]


@cache
def declared_parameters(path: Path) -> dict[str, Any]:
    """Return names and default values in a notebook's cell tagged `parameters`."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return assigned_literals("".join(cell["source"])) or {}
    return {}


def assigned_literals(source: str) -> dict[str, Any] | None:
    """Return `{name: value}` of a cell that only assigns literals to names, else None."""
    try:
        body = ast.parse(source).body
        return {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    except (AttributeError, SyntaxError, ValueError):
        return None


def read_tagged(notebook: dict, tag: str) -> list[dict]:
    """Return the cells of a notebook that have the tag."""
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]


def parameters_cell(names: Iterable[str]) -> str:
    """Return the source of a cell that gives parameters their values of the default profile."""
    values = validate(read_profile(ROOT / "params" / "digits.yaml")).model_dump()
    lines = [f"{name} = {_literal(values[name])}" for name in Params.model_fields if name in names]
    return "\n".join(["# What each means: docs/parameters.md", *lines])


def used_parameters(notebook: dict) -> set[str]:
    """Return the parameters that a notebook's cells read as `p.name` or `p.options("stage")`."""
    code = "".join("".join(cell["source"]) for cell in notebook["cells"])
    used = set(re.findall(r"\bp\.([a-z]\w+)", code)) & Params.model_fields.keys()
    for stage in re.findall(r'\bp\.options\("(\w+)"', code):
        used |= {f"{stage}_{name}" for name in GROUPS[stage].__dataclass_fields__}
    return used


def write_parameter_cells() -> None:
    """Write the cell tagged `parameters` of every notebook anew, for the names that it needs."""
    for path in notebook_paths() + appendix_paths():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in read_tagged(notebook, "parameters"):
            names = declared_parameters(path).keys() | used_parameters(notebook)
            cell["source"] = parameters_cell(names).splitlines(keepends=True)
        write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def fold_parameters(path: Path) -> None:
    """Fold the cells of parameters in an executed notebook: who reads the results need not."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for tag in ("parameters", "injected-parameters"):
        for cell in read_tagged(notebook, tag):
            cell["metadata"].setdefault("jupyter", {})["source_hidden"] = True
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _literal(value: Any) -> str:
    """Write a value as the formatter would."""
    text = json.dumps(value, ensure_ascii=False)
    text = {"true": "True", "false": "False", "null": "None"}.get(text, text)
    if len(text) < 70:
        return text
    return "[\n" + "".join(f"    {json.dumps(item)},\n" for item in value) + "]"
