"""Fingerprints of code: what an artifact depends on beside its inputs and options.

A fingerprint covers the definitions that a function uses, directly or through others: their text
without comments, docstrings, layout and imports. Where they lie and what their modules are called
does not count, so that files can be moved and renamed without making anything again.
"""

import ast
from collections.abc import Callable, Iterable
from functools import cache

from lib.common import errors, options, progress
from lib.common.files import ROOT, sha256_json

# Modules that only print, raise or describe; what they define is not followed.
WITHOUT_EFFECT = {errors.__name__, options.__name__, progress.__name__}
DEFINING = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.AugAssign
# Module and name there, "" for the module itself; what names stand for.
Target = tuple[str, str]
Names = dict[str, Target]
# By full name; read when this module is imported: what runs is the code of that moment.
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8")
    for path in ROOT.glob("lib/**/*.py")
}


def code_fingerprint(function: Callable) -> str:
    """Return a hash of the definitions in `lib` that `function` depends on, itself included.

    What a module from elsewhere does is not looked at, only which name of it is used. The text of
    messages in `raise` statements does not count, nor do definitions that only print or raise, nor
    the defaults and texts of options, whose values are recorded by themselves.
    """
    found, queue = {}, [(function.__module__, function.__qualname__.partition(".")[0])]
    while queue:
        if (definition := queue.pop()) not in found:
            uses = _uses(*definition)
            queue += [target for target in uses.values() if target[0] in SOURCES]
            meanings = sorted((used, _meaning(*target)) for used, target in uses.items())
            found[definition] = [_meaning(*definition), meanings]
    return sha256_json(sorted(found.values()))


@cache
def _meaning(module: str, name: str) -> str:
    """Return the hash of a definition's own text, or a name from elsewhere."""
    if module not in SOURCES:
        return f"{module}.{name}"
    return sha256_json([name, *(ast.dump(part) for part, _ in _module(module)[0][name])])


@cache
def _uses(module: str, name: str) -> Names:
    """Return what the names in a definition stand for."""
    definitions, imports = _module(module)
    uses = {}
    for statement, inner in definitions[name]:
        known = imports | inner
        for used in {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}:
            if used in definitions:
                uses[used] = (module, used)
            elif used in known:
                uses |= _imported(used, *known[used], statement)
    uses.pop(name, None)
    return {used: target for used, target in uses.items() if target[0] not in WITHOUT_EFFECT}


def _imported(name: str, module: str, attribute: str, tree: ast.AST) -> Names:
    """Return what an imported name stands for; of a module, the parts used, or all as a value."""
    inner = f"{module}.{attribute}" if attribute else module
    if inner not in SOURCES:
        if module in SOURCES and attribute not in _module(module)[0]:
            return _imported(name, *_module(module)[1][attribute], tree)
        return {name: (module, attribute)}
    nodes, known = list(ast.walk(tree)), _module(inner)[0].keys()
    mentions = [node for node in nodes if getattr(node, "id", None) == name]
    parts = [n.attr for n in nodes if isinstance(n, ast.Attribute) and n.value in mentions]
    whole = len(parts) < len(mentions) or not known >= set(parts)
    return {f"{name}.{part}": (inner, part) for part in (known if whole else parts)}


@cache
def _module(name: str) -> tuple[dict[str, list[tuple[ast.stmt, Names]]], Names]:
    """Return a module's definitions, each with the imports within it, and its own imports."""
    body = ast.parse(SOURCES[name]).body
    definitions: dict[str, list[tuple[ast.stmt, Names]]] = {}
    loose = []  # statements that change what others define: they belong to all that they name
    for statement in body:
        nodes = list(ast.walk(statement))
        named = [node for node in nodes if isinstance(node, ast.Name)]
        stored = [node.id for node in named if isinstance(node.ctx, ast.Store)]
        definition = _WithoutNotes().visit(statement), _bindings(nodes)
        for defined in [statement.name] if hasattr(statement, "name") else stored:
            definitions.setdefault(defined, []).append(definition)
        if not isinstance(statement, DEFINING) or not (stored or hasattr(statement, "name")):
            loose.append(({node.id for node in named}, definition))
    for names, definition in loose:
        for defined in names & definitions.keys():
            if definition not in definitions[defined]:
                definitions[defined].append(definition)
    return definitions, _bindings(body)


def _bindings(nodes: Iterable[ast.AST]) -> Names:
    """Return what the imports among nodes bind names to."""
    found = {}
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            bound = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.ImportFrom):
                found[bound] = (node.module or "", alias.name)
            else:
                found[bound] = (alias.name if alias.asname else bound, "")
    return found


class _WithoutNotes(ast.NodeTransformer):
    """Drops docstrings, the text of raised errors, defaults and texts of options, and imports."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=node.exc.func if isinstance(node.exc, ast.Call) else node.exc)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        bare = getattr(node.func, "id", None) == options.option.__name__
        return ast.Call(node.func, [], []) if bare else self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        return None

    visit_ImportFrom = visit_Import
