"""Fingerprints of code: what an artifact depends on beside its inputs and options.

A fingerprint covers the definitions that a function uses, directly or through others: their text
without comments, docstrings, layout and imports. Where they lie and what their modules are called
does not count, so that files can be moved and renamed without making anything again.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lib.common import errors, progress

LIB = Path(errors.__file__).resolve().parents[1]
# Modules that only print or raise; what they define is not followed.
WITHOUT_EFFECT = {errors.__name__, progress.__name__}


class Module(NamedTuple):
    """The top level of a module: definitions by name, and what its imports bind names to."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str]]  # name -> (module, name there; "" for the module itself)


def read_sources() -> dict[str, str]:
    """Return the text of all modules of `lib`, by full name."""
    paths = {path.relative_to(LIB.parent).with_suffix(""): path for path in LIB.rglob("*.py")}
    return {".".join(name.parts): path.read_text("utf-8") for name, path in paths.items()}


# Read when this module is imported: what runs is the code of that moment, whatever follows.
SOURCES = read_sources()


def code_fingerprint(function: Callable) -> str:
    """Return a hash of the definitions in `lib` that `function` depends on, itself included.

    What a module from elsewhere does is not looked at, only which name of it is used. The text of
    messages in `raise` statements does not count, nor do definitions that only print or raise.
    """
    found, queue = set(), [(function.__module__, function.__qualname__.partition(".")[0])]
    while queue:
        if (definition := queue.pop()) not in found:
            found.add(definition)
            queue += [use for use in _uses(*definition).values() if use[0] in SOURCES]
    content = sorted(_describe(*definition) for definition in found)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _describe(module: str, name: str) -> str:
    """Return a definition's own hash with those of what its names stand for."""
    uses = {
        used: _own_hash(*target) if target[0] in SOURCES else ".".join(target)
        for used, target in _uses(module, name).items()
    }
    return json.dumps([_own_hash(module, name), sorted(uses.items())])


@cache
def _own_hash(module: str, name: str) -> str:
    statements = _module(module).definitions[name]
    dumps = [ast.dump(_WithoutNotes().visit(deepcopy(s))) for s in statements]
    return hashlib.sha256("\n".join(dumps).encode()).hexdigest()


@cache
def _uses(module: str, name: str) -> dict[str, tuple[str, str]]:
    """Return what the names in a definition stand for: (module, name there)."""
    definitions, imports = _module(module)
    uses = {}
    for statement in definitions[name]:
        bare = _WithoutNotes(keep_imports=True).visit(deepcopy(statement))
        known = imports | dict(_bindings(ast.walk(bare)))
        for node in ast.walk(bare):
            if isinstance(node, ast.Name) and node.id in definitions:
                uses[node.id] = (module, node.id)
            elif isinstance(node, ast.Name) and node.id in known:
                uses |= _imported(node.id, *known[node.id], bare)
    uses.pop(name, None)
    return {k: v for k, v in uses.items() if v[0] not in WITHOUT_EFFECT}


def _imported(name: str, module: str, attribute: str, tree: ast.AST) -> dict:
    """Return what an imported name stands for; of a module in `lib`, the parts that are used.

    Of one that is used as a value, such as a script that is run, that is all of it.
    """
    inner = f"{module}.{attribute}" if attribute else module
    if inner not in SOURCES:
        if module in SOURCES and attribute not in _module(module).definitions:
            return _imported(name, *_module(module).imports[attribute], tree)
        return {name: (module, attribute)}
    parts, whole = set(), 0
    for node in ast.walk(tree):
        whole += isinstance(node, ast.Name) and node.id == name
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == name:
            parts.add(node.attr)
            whole -= 1
    known = _module(inner).definitions.keys()
    used = known if whole or not parts <= known else parts
    return {f"{name}.{part}": (inner, part) for part in used}


@cache
def _module(name: str) -> Module:
    body = ast.parse(SOURCES[name]).body
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in body:
        for target in _targets(statement):
            definitions.setdefault(target, []).append(statement)
    return Module(definitions, dict(_bindings(body)))


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [
            node.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
    return []


def _bindings(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, (node.module or "", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or full, (full, "")


class _WithoutNotes(ast.NodeTransformer):
    """Drop docstrings, the text of raised errors and (unless kept) imports."""

    def __init__(self, keep_imports: bool = False):
        self.keep_imports = keep_imports

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=what, cause=None)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST | None:
        return node if self.keep_imports else None

    visit_ImportFrom = visit_Import
