"""Fingerprints of code: what an artifact depends on beside its inputs and options.

A fingerprint covers the definitions that a function uses, directly or through others: their text
without comments, docstrings, layout and imports. Where they lie and what their modules are called
does not count, so that files can be moved and renamed without making anything again.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache

from lib.common import errors, progress
from lib.common.files import ROOT, sha256_json

# Modules that only print or raise; what they define is not followed.
WITHOUT_EFFECT = {errors.__name__, progress.__name__}
Target = tuple[str, str]  # module and name there; "" for the module itself


def read_sources() -> dict[str, str]:
    """Return the text of all modules of `lib`, by full name."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in ROOT.glob("lib/**/*.py")}
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
    return sha256_json(sorted(_describe(*definition) for definition in found))


def _describe(module: str, name: str) -> str:
    """Return a definition's own hash with those of what its names stand for."""
    uses = {
        used: _own_hash(*target) if target[0] in SOURCES else ".".join(target)
        for used, target in _uses(module, name).items()
    }
    return json.dumps([_own_hash(module, name), sorted(uses.items())])


@cache
def _own_hash(module: str, name: str) -> str:
    text = "\n".join(ast.dump(_without_notes(s)) for s in _module(module)[0][name])
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _uses(module: str, name: str) -> dict[str, Target]:
    """Return what the names in a definition stand for."""
    definitions, imports = _module(module)
    uses = {}
    for statement in definitions[name]:
        known = imports | dict(_bindings(ast.walk(statement)))
        bare = _without_notes(statement)
        for node in ast.walk(bare):
            if isinstance(node, ast.Name) and node.id in definitions:
                uses[node.id] = (module, node.id)
            elif isinstance(node, ast.Name) and node.id in known:
                uses |= _imported(node.id, *known[node.id], bare)
    uses.pop(name, None)
    return {k: v for k, v in uses.items() if v[0] not in WITHOUT_EFFECT}


def _imported(name: str, module: str, attribute: str, tree: ast.AST) -> dict[str, Target]:
    """Return what an imported name stands for; of a module in `lib`, the parts that are used.

    Of one that is used as a value, such as a script that is run, that is all of it.
    """
    inner = f"{module}.{attribute}" if attribute else module
    if inner not in SOURCES:
        if module in SOURCES and attribute not in _module(module)[0]:
            return _imported(name, *_module(module)[1][attribute], tree)
        return {name: (module, attribute)}
    parts, whole = set(), 0
    for node in ast.walk(tree):
        whole += isinstance(node, ast.Name) and node.id == name
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == name:
            parts.add(node.attr)
            whole -= 1
    known = _module(inner)[0].keys()
    return {f"{name}.{p}": (inner, p) for p in (known if whole or not parts <= known else parts)}


@cache
def _module(name: str) -> tuple[dict[str, list[ast.stmt]], dict[str, Target]]:
    """Return a module's definitions by name, and what its imports bind names to."""
    body = ast.parse(SOURCES[name]).body
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in body:
        for target in _targets(statement):
            definitions.setdefault(target, []).append(statement)
    return definitions, dict(_bindings(body))


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Target]]:
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if isinstance(node, ast.ImportFrom):
                yield alias.asname or alias.name, (node.module or "", alias.name)
            else:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or full, (full, "")


def _without_notes(statement: ast.stmt) -> ast.AST:
    return _WithoutNotes().visit(deepcopy(statement))


class _WithoutNotes(ast.NodeTransformer):
    """Drops docstrings, the text of raised errors, and imports."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=what, cause=None)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        return None

    visit_ImportFrom = visit_Import
