"""How far the activations of one set of images are from those of another, layer by layer.

A layer here is what enters a convolution or a linear layer of the deployed network: there INT8
quantization puts the ranges that it learns from the calibration set.
"""

from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from lib.classifiers.residual import fuse_repvgg
from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator

VALUES = 128  # activations of an image that are looked at, at the same places in every image
TAIL = 0.001  # share of the activations that lies beyond either end of the range
BATCH = 100
LAYERS = (nn.Conv2d, nn.Linear)
NARROW = 0.8  # of the right range, below which a layer is named
COLUMNS = ["set", "layer", "name", "range_ratio", "outside", "distance", "mean_shift", "std_ratio"]


def layer_activations(network: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return activations `(n, VALUES) float32` of images `(n, 3, 32, 32) uint8` by layer.

    Layers come in the order of computation, named as in the network, RepVGG blocks fused. Of a
    layer with more values, the same random `VALUES` places are taken of every image and set.
    `network` takes pixels in [0, 255], as a `NormalizedClassifier` does.
    """
    if len(images) == 0:
        raise StudyError("there are no images to take activations of: give at least one")
    network = fuse_repvgg(network)
    names = {m: name for name, m in network.named_modules() if isinstance(m, LAYERS)}
    seen: dict[str, list[np.ndarray]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        name, flat = names[module], inputs[0].flatten(1).cpu().numpy()
        if flat.shape[1] > VALUES:
            rng = numpy_generator(0, "activations", name)
            flat = flat[:, np.sort(rng.choice(flat.shape[1], VALUES, replace=False))]
        seen.setdefault(name, []).append(flat)

    device = next(network.parameters()).device
    with torch.inference_mode(), ExitStack() as hooks:
        for module in names:
            hooks.enter_context(module.register_forward_pre_hook(keep))
        for start in range(0, len(images), BATCH):
            network(torch.tensor(images[start : start + BATCH], device=device).float())
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def activation_distances(
    activations: dict[str, dict[str, np.ndarray]], reference: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Compare the activations of several sets, `{set: layer_activations}`, with a reference's.

    Returns a row for each set and layer (numbered from 1). A range goes from the `TAIL` quantile
    to the one of 1 - `TAIL`. `range_ratio`: width of the set's range in that of the reference's;
    `outside`: share of the reference's values outside the set's range, which INT8 would clip (of
    the reference itself 0.2 %); `distance`: Wasserstein-1 distance of the values, `mean_shift`:
    difference of their means, both in the reference's standard deviations; `std_ratio`: ratio of
    the standard deviations. They are missing where the reference's values are all alike.
    """
    rows = []
    for kind, layers in activations.items():
        for number, (name, values) in enumerate(reference.items(), 1):
            found, expected = (v.ravel().astype(np.float64) for v in (layers[name], values))
            low, high = np.quantile(found, [TAIL, 1 - TAIL])
            width, std = np.ptp(np.quantile(expected, [TAIL, 1 - TAIL])), expected.std()
            row = {"set": kind, "layer": number, "name": name}
            if width > 0 and std > 0:  # else the layer is silent for the reference
                row |= {
                    "range_ratio": (high - low) / width,
                    "outside": float(np.mean((expected < low) | (expected > high))),
                    "distance": wasserstein_distance(found, expected) / std,
                    "mean_shift": (found.mean() - expected.mean()) / std,
                    "std_ratio": found.std() / std,
                }
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def activation_words(layers: pd.DataFrame) -> str:
    """Say which sets of `activation_distances` come closest, and where ranges are too narrow."""
    distances = layers.groupby("set", sort=False)["distance"].mean()
    order = distances.drop("real").sort_values()
    narrow = layers[layers["range_ratio"] < NARROW].groupby("set").size().sort_values()
    counts = ", ".join(f"{name} at {count}" for name, count in narrow.items()) or "none"
    return (
        f"Over all layers, {order.index[0]} comes closest to the real images (distance "
        f"{order.iloc[0]:.2f}; another draw of real images {distances['real']:.2f}), "
        f"{order.index[-1]} is farthest ({order.iloc[-1]:.2f}). Ranges below {NARROW:.0%} of what "
        f"real images need, of {layers['layer'].nunique()} layers: {counts}."
    )
