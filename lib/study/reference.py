"""Reference pages that are written from the code: all parameters, and what each room offers."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from lib.common.files import write_text
from lib.study.params import PARTS, Params

PARAMETERS = """# Parameters

A profile is a YAML file in `params/`: `base: digits` and what differs from it. `python -m lib
parameters params/mine.yaml` lists all values in force; `-p KEY VALUE` sets one for a run. An
unknown key, a wrong type or a value out of range is refused by name before work starts. `python -m
lib docs` writes this page."""
LIBRARY = """# The library

`lib` holds every function that the notebooks call and works without them. Each room exports what
is meant for use from outside, such as `from lib.data import SampleSet`; `help(SampleSet)` says
more. Paths are `pathlib.Path`s. A function with `out` writes into that folder and resumes there if
it was interrupted. Images are `(n, 3, h, w) uint8`. `python -m lib docs` writes this page."""
ROOMS = ["data", "teacher", "student", "evaluation", "calibration", "classifiers", "quantization"]
ROOMS += ["comparison", "study", "app", "publish", "figures", "gan", "common"]
"""The rooms of `lib`, in the order in which a reader of the notebooks meets them."""


def parameter_lines(params: Params) -> list[str]:
    """Return a line of YAML for each parameter, explained, under the titles of their parts."""
    lines = []
    for prefix, kind in PARTS:
        lines += ["", f"# {_title(kind)}"]
        for name, text, _ in _described(prefix, kind):
            lines.append(f"{name}: {_yaml(getattr(params, name))}  # {text}")
    return lines[1:]


def write_reference(folder: Path) -> None:
    """Write `parameters.md` and `library.md` into `folder`."""
    write_text(folder / "parameters.md", parameters_page())
    write_text(folder / "library.md", library_page())


def parameters_page() -> str:
    """Return the page on the parameters: a table for each part of the study."""
    page = [PARAMETERS]
    for prefix, kind in PARTS:
        page += ["", f"## {_title(kind)}", "", "| parameter | default | meaning |", "|---|---|---|"]
        for name, text, default in _described(prefix, kind):
            page.append(f"| `{name}` | `{_yaml(default)}` | {text} |")
    return "\n".join(page) + "\n"


def library_page() -> str:
    """Return the page on the library: what each room exports, with signature and first line."""
    page = [LIBRARY]
    for room in ROOMS:
        facade = import_module(f"lib.{room}")
        page += ["", f"## lib.{room}", "", facade.__doc__, ""]
        names = sorted({name for exported in facade.EXPORTS.values() for name in exported})
        page += [f"- {_call(name, getattr(facade, name))}" for name in names]
    return "\n".join(page) + "\n"


def _title(kind: type) -> str:
    return inspect.getdoc(kind).splitlines()[0].rstrip(".")


def _described(prefix: str, kind: type) -> list[tuple[str, str, Any]]:
    """Return name, text and default of each parameter of a part."""
    return [
        (
            f"{prefix}_{name}" if prefix else name,
            field.description,
            field.get_default(call_default_factory=True),
        )
        for name, field in kind.__pydantic_fields__.items()
    ]


def _yaml(value: Any) -> str:
    if value == "":
        return '""'
    if isinstance(value, list):
        value = [item.model_dump() if hasattr(item, "model_dump") else item for item in value]
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _call(name: str, thing: Any) -> str:
    doc = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    if not callable(thing):
        return f"`{name}`"
    if isinstance(thing, type) and issubclass(thing, Exception):
        return f"`{name}`: {doc}"
    parameters = inspect.signature(thing).parameters.values()
    names = [f"{p.name}=…" if p.kind is p.KEYWORD_ONLY else p.name for p in parameters]
    return f"`{name}({', '.join(names)})`: {doc}"
