"""Who may import whom: downwards only, never in a circle, no facade from inside."""

import ast
import importlib
import json
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lib.common.files import NOTEBOOKS, ROOT

# Lowest first; rooms of one row are neighbours that do not know each other.
ROWS = [
    ["common"],
    ["data"],
    ["figures"],
    ["gan"],
    ["teacher", "student", "classifiers"],
    ["evaluation", "calibration"],
    ["quantization"],
    ["study", "comparison"],
    ["publish", "app"],
    ["__main__"],
]
HEIGHT = {room: height for height, rooms in enumerate(ROWS) for room in rooms}


def modules(root: Path) -> dict[str, str]:
    """Return the text of each module of `root/lib`, by its full name."""
    paths = (root / "lib").rglob("*.py")
    names = {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}
    return {name: path.read_text(encoding="utf-8") for name, path in names.items()}


def imports(name: str, sources: dict[str, str]) -> set[str]:
    """Return the modules of `lib` that a module imports, within functions, too."""
    found = set()
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = inner & sources.keys()
            found |= known if known == inner else known | {node.module}
    return {module for module in found if module.split(".")[0] == "lib"}


def faults(sources: dict[str, str]) -> list[str]:
    """Return the imports that run upwards, to a neighbour or through a facade."""
    found = []
    for name in sources:
        room = name.split(".")[1]
        for target in imports(name, sources):
            other = target.split(".")[1:2]
            if target not in sources or not other:
                found.append(f"{name} imports the facade {target}: import the defining module")
            elif other != [room] and HEIGHT[other[0]] >= HEIGHT[room]:
                found.append(f"{name} imports {target}, which is not below it")
    return found


def test_imports_run_downwards():
    sources = modules(ROOT)
    del sources["lib.__init__"]
    assert {name.split(".")[1] for name in sources} == HEIGHT.keys()
    assert not faults({k: v for k, v in sources.items() if not k.endswith("__init__")})


def test_no_circles():
    sources = modules(ROOT)
    TopologicalSorter({name: imports(name, sources) for name in sources}).prepare()


def test_notebooks_import_what_facades_export():
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for node in ast.walk(ast.parse("\n".join(code))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lib."):
                facade = importlib.import_module(node.module)
                names = {alias.name for alias in node.names}
                assert names <= set(facade.__all__), (path.name, names - set(facade.__all__))


@pytest.mark.parametrize("room", sorted(HEIGHT.keys() - {"__main__"}))
def test_facades_export_what_is_there(room):
    facade = importlib.import_module(f"lib.{room}")
    assert all(hasattr(facade, name) for name in facade.__all__)


def test_faults_are_found():
    sources = {"lib.data.a": "", "lib.data.b": "import lib.data.a", "lib.teacher.c": "x = 1"}
    sources |= {"lib.student.d": "from lib.data import a", "lib.gan.e": "from lib.data.b import x"}
    assert not faults(sources)
    for name, text in [
        ("lib.data.a", "from lib.teacher.c import x"),
        ("lib.data.a", "def f():\n    from lib.teacher import c"),
        ("lib.student.d", "from lib.teacher.c import x"),
        ("lib.student.d", "from lib.data import x"),
    ]:
        assert len(faults(sources | {name: text})) == 1, (name, text)
