"""What a network is calibrated with and what it is checked on: no image of a folder in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.quantization.tool.images import KINDS, NATURAL, Folder, find_kind, make_images
from lib.quantization.tool.network import Network

CHECKED = 100  # images of each kind that decide, and as many others that the report is of


@dataclass(frozen=True)
class Check:
    """Images `(n, 3, height, width) uint8` to judge candidates by, and others for the report."""

    judged: np.ndarray
    reported: np.ndarray
    counts: bool
    """False: the images are like those that a candidate was calibrated with."""


def gather(
    network: Network,
    calibrate: Sequence[str],
    n: int,
    check: Sequence[str],
    seed: int,
    decide: bool = True,
) -> tuple[dict[str, np.ndarray], dict[str, Check]]:
    """Return the images of each calibration set, and those to check on, by their names.

    An image of a folder that is named for both is in one of them alone. `decide`: something is to
    be chosen by half of the images that are checked on, and the report is of the other half.
    """
    wanted = 2 * CHECKED if decide else CHECKED
    kinds, tested = (
        [find_kind(name) for name in dict.fromkeys(names)] for names in (calibrate, check)
    )
    if n < 1 or not kinds:
        raise StudyError("give at least one kind of images, and one image of it")
    paths = [kind.resolve() for kind in (*kinds, *tested) if isinstance(kind, Path)]
    for one, other in permutations(dict.fromkeys(paths), 2):
        if one.is_relative_to(other):
            raise StudyError(f"{one} lies in {other}: name folders that share no images")
    folders = {kind: Folder(kind, seed) for kind in (*kinds, *tested) if isinstance(kind, Path)}
    sets, used = {}, {}
    for kind in kinds:
        if isinstance(kind, str):
            sets[kind] = make_images(kind, n, network.size, seed)
            continue
        most = len(folders[kind])
        if kind in tested:
            if most < 2:
                raise StudyError(f"{kind} has one image: to calibrate and to check takes two")
            most = used[kind] = max(most - wanted, most // 2)
        sets[str(kind)] = folders[kind].read(0, min(n, most), network.size)
    names, checks = tested or NATURAL, {}
    others = [name for name in names if not any(alike(kind, str(name)) for kind in sets)]
    for kind in names:
        if isinstance(kind, Path):
            first = used.get(kind, 0)
            images = folders[kind].read(first, first + wanted, network.size)
        else:
            images = make_images(kind, wanted, network.size, seed + 1)
        halves = (images[::2], images[1::2]) if decide and len(images) > 1 else (images, images)
        checks[str(kind)] = Check(*halves, counts=kind in others or not others)
    return sets, checks


def alike(calibrated: str, checked: str) -> bool:
    """Tell whether a network is checked on images like those that it was calibrated with."""
    made = NATURAL if calibrated == "mixed" else (calibrated,)
    return checked in KINDS and checked in made
