from functools import cache

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
        for name in ("_module", "_uses", "_meaning"):
            monkeypatch.setattr(fingerprint, name, cache(getattr(fingerprint, name).__wrapped__))
        monkeypatch.setattr(build, "__module__", module)
        return fingerprint.code_fingerprint(build)

    return of


@pytest.mark.parametrize(
    "changed",
    [
        {"lib.b": '"""Doc."""\n' + USES + "# note\n" + BUILD.replace("):", "): # note")},
        {"lib.a": A.replace("unused = 3", "unused = 4")},
        {"lib.a": A.replace("(v):\n", '(v):\n    """Doc."""\n')},
        {"lib.b": USES.replace("lib.a", "lib.rooms.c") + BUILD, "lib.rooms.c": A},
        {"lib.b": USES.replace("lib.a", "lib.d") + BUILD, "lib.d": "from lib.a import x, y"},
        {"lib.a": A + "\n\nclass More:\n    pass\n"},
    ],
)
def test_notes_places_and_what_is_not_used_do_not_count(fingerprint_of, changed):
    assert fingerprint_of(BASE | changed) == fingerprint_of(BASE)
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
        ("lib.a", "unused = 3", "x[0] = 3"),
        ("lib.a", "unused = 3", "register(w)"),
        ("lib.a", "unused = 3", "for n in x:\n    y.n = n"),
    ],
)
def test_what_is_used_counts_wherever_it_lies(fingerprint_of, module, old, new):
    assert old in BASE[module]
    changed = BASE | {module: BASE[module].replace(old, new)}
    assert fingerprint_of(changed) != fingerprint_of(BASE)


def test_names_that_change_places_count(fingerprint_of):
    uses = "from lib.{} import w\nfrom lib.{} import w as u\ndef build():\n    return w(1), u(2)\n"
    others = {"lib.a": A, "lib.c": "def w(v):\n    return 2 * v\n"}
    first, second = (others | {"lib.b": uses.format(*names)} for names in ("ac", "ca"))
    assert fingerprint_of(first) != fingerprint_of(second)


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
    text = "from lib.a import w\n\n\ndef build(n):\n    if n:\n        raise {}\n"
    first, other, kind = (
        fingerprint_of({"lib.b": text.format(error), "lib.a": A})
        for error in ("ValueError('no')", "ValueError(f'{n}: mend it') from n", "OSError('no')")
    )
    assert first == other != kind


def test_all_builders_of_the_study_have_one():
    from lib.quantization.run import run_cells
    from lib.student.distillation import distill
    from lib.teacher.training import train_teacher

    prints = {fingerprint.code_fingerprint(f) for f in (run_cells, distill, train_teacher)}
    assert len(prints) == 3


def test_which_name_of_an_assignment_is_used_counts(fingerprint_of):
    sources = {"lib.a": "p, q = 1, 2\n"}
    text = "from lib.a import {}\n\n\ndef build():\n    return p\n"
    one = fingerprint_of(sources | {"lib.b": text.format("p")})
    assert fingerprint_of(sources | {"lib.b": text.format("q as p")}) != one


def test_defaults_and_texts_of_options_do_not_count(fingerprint_of):
    text = "from lib.common.options import option\n\n\nclass build:\n    n: int = {}\n"
    one = fingerprint_of({"lib.b": text.format("option(1, 'length of a latent')")})
    assert fingerprint_of({"lib.b": text.format("option(2, 'length')")}) == one
    assert fingerprint_of({"lib.b": text.format("3")}) != one
