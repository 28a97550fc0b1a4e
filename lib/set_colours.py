"""One colour for each calibration set, the same in every figure."""

from collections.abc import Iterable

from matplotlib.colors import to_hex

KNOWN = (
    *("real", "teacher", "student", "fractal", "noise", "zeroq", "grey", "gaussian"),
    "one_class",
)


def set_colours(names: Iterable[str]) -> dict[str, str]:
    """Return `{set: colour}` for the distinct `names`, in their order.

    The sets that the study knows always have the same colours, whichever of them are there; others
    take what is left of the palette's ten.
    """
    names = list(dict.fromkeys(names))
    order = [*KNOWN, *(name for name in names if name not in KNOWN)]
    return {name: to_hex(f"C{order.index(name) % 10}") for name in names}
