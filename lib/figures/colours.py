"""One colour for each calibration set, the same in every figure."""

from collections.abc import Iterable

from matplotlib.colors import to_hex

KNOWN = (
    *("real", "teacher", "student", "fractal", "noise", "zeroq", "grey", "gaussian"),
    "one_class",
)


def set_colours(names: Iterable[str]) -> dict[str, str]:
    """Return `{set: colour}` for the distinct `names`, in their order.

    A set has the same colour whichever others are there.
    """
    return {name: to_hex(f"C{KNOWN.index(name)}") for name in dict.fromkeys(names)}
