"""Calibration sets: the images whose activations fix the ranges of the INT8 networks.

All sets are class-balanced as far as their kind allows and lie in an order in which every prefix
is, too: quantization reads a set from the start and stops at its subset size.
"""

from pathlib import Path

import numpy as np

from lib.calibration.kinds import KINDS
from lib.calibration.makers import Request
from lib.common.errors import StudyError
from lib.common.seeds import derive_seed, numpy_generator
from lib.data.samples import SampleSet


def make_calibration_set(
    out: Path,
    *,
    kind: str,
    per_class: int,
    seed: int,
    source: Path | None = None,
    class_names: list[str] | None = None,
) -> None:
    """Write a calibration set of `kind` as a SampleSet into `out`.

    `source` is the folder of the SampleSet that the kind `needs`, if it does; other kinds need
    only `class_names`. Raises `StudyError` for an unknown kind, a missing source, or
    one with too few images of a class.
    """
    if kind not in KINDS:
        raise StudyError(f"calibration set {kind!r} is unknown: choose one of {', '.join(KINDS)}")
    if KINDS[kind].per_network:
        raise StudyError(f"calibration set {kind} is made for each network: see make_zeroq_sets")
    samples, data = None, kind
    if KINDS[kind].needs:
        if source is None:
            raise StudyError(f"calibration set {kind} needs a source: the folder of its SampleSet")
        samples = SampleSet.load(source)
        class_names, data = samples.class_names, samples.info.get("data", kind)
    if not class_names:
        raise StudyError(f"calibration set {kind} needs class_names: give the data set's classes")
    request = Request(kind, samples, len(class_names), per_class, seed)
    images, labels = KINDS[kind].make(request)
    order = balanced_order(labels, derive_seed(seed, "calibration order", kind))
    info = {"data": data, "class_names": list(class_names), "kind": kind}
    info |= {"per_class": per_class, "seed": seed}
    SampleSet(images[order], labels[order], info=info).save(out)


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a shuffled order in which the classes take turns.

    Of labels `(n,)` with equal class counts, every prefix of the order holds each class equally
    often, up to one image. Which image of a class comes when, and the order of the classes
    within each turn, depend on `seed`.
    """
    rng = numpy_generator(seed, "balanced order")
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(labels[shuffled] == label)
        turn[where] = np.arange(len(where))
    return shuffled[np.argsort(turn, kind="stable")]
