"""Fingerprints of code: what an artifact depends on beside its inputs and options."""

import ast
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

LIB = Path(__file__).resolve().parent
# Read when this module is imported: what runs is the code of that moment, whatever follows.
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in LIB.glob("*.py")}
WITHOUT_EFFECT = {"errors", "progress"}


def code_fingerprint(function: Callable) -> str:
    """Return a hash of the module that defines `function` and all `lib` modules it imports.

    Comments, docstrings and layout do not count, nor do modules that only print or raise.
    """
    start = function.__module__.removeprefix("lib.")
    digest = hashlib.sha256()
    for name in sorted(_closure(start)):
        digest.update(f"{name}:{_module_hash(name)}".encode())
    return digest.hexdigest()


def _closure(start: str) -> set[str]:
    found, queue = set(), [start]
    while queue:
        name = queue.pop()
        if name not in found and name not in WITHOUT_EFFECT:
            found.add(name)
            queue.extend(_imports(name))
    return found


@cache
def _tree(name: str) -> ast.Module:
    tree = ast.parse(SOURCES[name])
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return tree


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]


def _module_hash(name: str) -> str:
    return hashlib.sha256(ast.dump(_tree(name)).encode()).hexdigest()


def _imports(name: str) -> set[str]:
    modules = set()
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            modules.add(node.module.removeprefix("lib."))
        if isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            modules |= {name.removeprefix("lib.") for name in names if name.startswith("lib.")}
    return modules
