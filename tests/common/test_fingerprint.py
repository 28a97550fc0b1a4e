import pytest

from lib.common import fingerprint

USES = "from lib.a import x, y as z\nimport torch.nn as nn\n"
BUILD = "def build(out):\n    return x + z(nn.ReLU)\n"
A = "x = 1\n\n\ndef y(v):\n    return w(v)\n\n\ndef w(v):\n    return v\n\n\nunused = 3\n"
BASE = {"lib.b": USES + BUILD, "lib.a": A}


def build():
    raise AssertionError


@pytest.fixture
def fingerprint_of(monkeypatch):
    def of(sources, module="lib.b"):
        monkeypatch.setattr(fingerprint, "SOURCES", sources)
        for function in (fingerprint._module, fingerprint._uses, fingerprint._meaning):
            function.cache_clear()
        monkeypatch.setattr(build, "__module__", module)
        return fingerprint.code_fingerprint(build)

    yield of
    monkeypatch.undo()
    for function in (fingerprint._module, fingerprint._uses, fingerprint._meaning):
        function.cache_clear()


@pytest.mark.parametrize(
    "sources",
    [
        {
            "lib.b": '"""Doc."""\n' + USES + "# note\n" + BUILD.replace("):", "): # note"),
            "lib.a": A,
        },
        BASE | {"lib.a": A.replace("unused = 3", "unused = 4")},
        BASE | {"lib.a": A.replace("(v):\n", '(v):\n    """Doc."""\n')},
        {"lib.b": USES.replace("lib.a", "lib.rooms.c") + BUILD, "lib.rooms.c": A},
        {
            "lib.b": USES.replace("lib.a", "lib.d") + BUILD,
            "lib.d": "from lib.a import x, y",
            "lib.a": A,
        },
        {"lib.b": USES + BUILD, "lib.a": A + "\n\nclass More:\n    pass\n"},
    ],
)
def test_notes_places_and_what_is_not_used_do_not_count(fingerprint_of, sources):
    assert fingerprint_of(sources) == fingerprint_of(BASE)


def test_the_module_of_the_builder_may_be_renamed(fingerprint_of):
    moved = {"lib.rooms.new": USES + BUILD, "lib.a": A}
    assert fingerprint_of(moved, "lib.rooms.new") == fingerprint_of(BASE)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("lib.b", "x + z", "x - z"),
        ("lib.b", "torch.nn as nn", "torch.nn.functional as nn"),
        ("lib.b", "x, y as z", "w as x, y as z"),
        ("lib.a", "x = 1", "x = 2"),
        ("lib.a", "    return v\n", "    return -v\n"),
        ("lib.a", "unused = 3", "x += 3"),
    ],
)
def test_what_is_used_counts_wherever_it_lies(fingerprint_of, module, old, new):
    assert old in BASE[module]
    changed = BASE | {module: BASE[module].replace(old, new)}
    assert fingerprint_of(changed) != fingerprint_of(BASE)


def test_names_that_change_places_count(fingerprint_of):
    other = "def w(v):\n    return 2 * v\n"
    uses = (
        "from lib.a import w\nfrom lib.c import w as u\n\n\ndef build():\n    return w(1), u(2)\n"
    )
    base = {"lib.b": uses, "lib.a": A, "lib.c": other}
    swapped = base | {"lib.b": uses.replace("lib.a", "lib.d").replace("lib.c", "lib.a")}
    swapped = {k.replace("lib.c", "lib.d"): v for k, v in swapped.items()}
    assert fingerprint_of(base) != fingerprint_of(swapped)


WITHIN = "def build():\n    from lib.a import x\n    return x\n"
PART = "from lib import a\n\n\ndef build():\n    return a.w\n"
WHOLE = "from lib import a\n\n\ndef build():\n    return run(a)\n"
SCRIPT = "from lib import a\nPATH = a.__file__\n\n\ndef build():\n    return PATH\n"


@pytest.mark.parametrize(
    ("user", "old", "new", "counts"),
    [
        (WITHIN, "x = 1", "x = 2", True),
        (WITHIN, "    return v\n", "    return -v\n", False),
        (PART, "    return v\n", "    return -v\n", True),
        (PART, "x = 1", "x = 2", False),
        (WHOLE, "unused = 3", "unused = 4", True),
        (SCRIPT, "unused = 3", "unused = 4", True),
    ],
)
def test_imports_within_functions_and_of_modules(fingerprint_of, user, old, new, counts):
    base = fingerprint_of({"lib.b": user, "lib.a": A})
    assert (fingerprint_of({"lib.b": user, "lib.a": A.replace(old, new)}) != base) == counts


def test_the_words_of_errors_do_not_count(fingerprint_of):
    text = "from lib.a import w\n\n\ndef build(n):\n    if n:\n        raise ValueError('{}')\n"
    assert fingerprint_of({"lib.b": text.format("no"), "lib.a": A}) == fingerprint_of(
        {"lib.b": text.format("it is wrong: mend it"), "lib.a": A}
    )
    other = text.replace("ValueError", "OSError")
    assert fingerprint_of({"lib.b": other, "lib.a": A}) != fingerprint_of(
        {"lib.b": text, "lib.a": A}
    )


def test_all_builders_of_the_study_have_one():
    from lib.quantization.run import run_cells
    from lib.student.distillation import distill
    from lib.teacher.training import train_teacher

    prints = {fingerprint.code_fingerprint(f) for f in (run_cells, distill, train_teacher)}
    assert len(prints) == 3
