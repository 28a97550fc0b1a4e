"""One look for all figures. Names of classes and data are text: `$` begins no formula."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
from matplotlib.font_manager import fontManager

LONGEST = 24  # letters of a name in a figure
FONTS = [  # for letters that matplotlib's own font lacks, where they are installed
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "IPAGothic",
    "Droid Sans Fallback", "Microsoft YaHei", "Hiragino Sans", "Noto Sans", "Unifont",
]  # fmt: skip

installed = {font.name for font in fontManager.ttflist}
plt.rcParams["text.parse_math"] = False
plt.rcParams["font.family"] = ["DejaVu Sans", *(name for name in FONTS if name in installed)]


def shortened(name: str) -> str:
    """Return a name as a figure has room for it."""
    name = " ".join(str(name).split())
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


@contextmanager
def noted_glyphs(name: str) -> Iterator[None]:
    """Say in one line which letters of the figure `name` no installed font has."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    letters = set()
    for warning in caught:
        if found := re.match(r"Glyph (\d+) .* missing from", str(warning.message)):
            letters.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if letters:
        remedy = "they are boxes; install one, such as Noto Sans CJK"
        print(f"note: no font here has the letters {' '.join(sorted(letters))} of {name}: {remedy}")
