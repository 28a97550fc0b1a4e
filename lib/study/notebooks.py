"""What the notebooks of the study are, which parameters each reads, and their cells for these.

A notebook's cell tagged `parameters` is short: it sets the default profile's name, seed, folder and
what differs from the schema's defaults (`python -m lib docs` writes it). Any other parameter may be
set there, too.
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

ALWAYS = frozenset({"profile", "seed", "output_dir"})
HANDED_ON = {"05_quantization": ("quantization_", "jobs", "scheduler", "device")}
"""Beginnings of the parameters that a notebook gives to `lib` as a whole."""


def notebook_paths() -> list[Path]:
    """Return the numbered notebooks of the study, in order."""
    return sorted(NOTEBOOKS.glob("0[0-7]_*.ipynb"))


def appendix_paths() -> list[Path]:
    """Return the notebooks that run on request only, in order: the tool, the appendices."""
    return [*NOTEBOOKS.glob("08_*.ipynb"), *sorted(NOTEBOOKS.glob("A[0-9]_*.ipynb"))]


@cache
def declared_parameters(path: Path) -> frozenset[str]:
    """Return the parameters that a notebook reads, itself or through what it hands them to."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    handed = HANDED_ON.get(path.stem, ())
    used = {name for name in Params.model_fields if handed and name.startswith(handed)}
    code = "".join("".join(cell["source"]) for cell in notebook["cells"])
    used |= set(re.findall(r"\bp\.([a-z]\w+)", code)) & Params.model_fields.keys()
    for stage in re.findall(r'\bp\.options\("(\w+)"', code):
        used |= {f"{stage}_{name}" for name in GROUPS[stage].__dataclass_fields__}
    return frozenset(used | ALWAYS)


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
    """Return the source of a notebook's cell of parameters, of those among `names` that it sets."""
    values = validate(read_profile(ROOT / "params" / "digits.yaml")).model_dump()
    defaults = validate({}).model_dump()
    shown = [n for n in values if n in ALWAYS or (n in names and values[n] != defaults[n])]
    lines = [f"{name} = {json.dumps(values[name])}" for name in shown]
    return "\n".join(["# Any parameter of docs/parameters.md can be set here", *lines])


def write_parameter_cells() -> None:
    """Write the cell tagged `parameters` of every notebook anew."""
    for path in notebook_paths() + appendix_paths():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in read_tagged(notebook, "parameters"):
            cell["source"] = parameters_cell(declared_parameters(path)).splitlines(keepends=True)
        write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def fold_parameters(path: Path) -> None:
    """Fold the cells of parameters in an executed notebook: who reads the results need not."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for tag in ("parameters", "injected-parameters"):
        for cell in read_tagged(notebook, tag):
            cell["metadata"].setdefault("jupyter", {})["source_hidden"] = True
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
