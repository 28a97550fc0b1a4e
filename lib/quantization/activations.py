"""What enters the quantizers of an INT8 network, and what their ranges do to it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import openvino as ov

from lib.common.seeds import numpy_generator
from lib.quantization.fake_quantize import Quantizer

PLACES = 256  # activations of an image that are looked at in a layer, the same in every image
BATCH = 10


class Layer(NamedTuple):
    """What enters a quantizer, for some images."""

    values: np.ndarray
    """`(n, PLACES)`, at the same random places in every image."""
    channels: np.ndarray
    """`(PLACES,)`, those of the places."""
    low: np.ndarray
    """`(channels,)`, the least value of each."""
    high: np.ndarray
    gram: np.ndarray
    """`(channels, channels)`, the mean over images and places of the products of two channels."""


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield whole batches `(size, …) float32` of images, one at least, which may repeat some."""
    for start in range(0, max(1, len(images) // size) * size, size):
        chosen = np.arange(start, start + size) % len(images)
        yield images[chosen].astype(np.float32)


def activations(
    network: ov.CompiledModel, inputs: Iterable[np.ndarray], gram: bool = True
) -> list[Layer]:
    """Return what each output of `network` is for these inputs, batches of one size.

    `gram`: with Gram matrices, else they are empty.
    """
    request = network.create_infer_request()
    parts: list[list[Layer]] = [[] for _ in network.outputs]
    for batch in inputs:
        request.infer([batch])
        for layer, found in enumerate(parts):
            one = _layer(request.get_output_tensor(layer).data, layer, gram)
            if found:  # one sum in place of a matrix a batch
                one.gram[:] += found[-1].gram
                found[-1] = found[-1]._replace(gram=one.gram[:0])
            found.append(one)
    return [
        Layer(
            np.concatenate([part.values for part in found]),
            found[0].channels,
            np.min([part.low for part in found], axis=0),
            np.max([part.high for part in found], axis=0),
            found[-1].gram / len(found),
        )
        for found in parts
    ]


def _layer(data: np.ndarray, number: int, gram: bool) -> Layer:
    """Return the layer of one batch: feature maps `(n, c, …)`, or tokens `(n, t, c)`."""
    if data.ndim == 3:
        data = data.transpose(0, 2, 1)
    maps = data.reshape(*data.shape[:2], -1)
    n, channels, places = maps.shape
    chosen = numpy_generator(0, "reasons", number).integers(0, channels * places, PLACES)
    products = np.zeros((0, 0))
    if gram:
        products = np.einsum("nap,nbp->ab", maps, maps, optimize=True) / (n * places)
    values = maps.reshape(n, -1)[:, chosen]
    return Layer(values, chosen // places, maps.min((0, 2)), maps.max((0, 2)), products)


def range_faults(own: Quantizer, real: Layer) -> dict[str, float]:
    """Return what a quantizer's range does to activations.

    `clipped`: the share of them outside the range; `wasted`: the share of its levels beyond them
    all.
    """
    shared = len(own.low) != len(real.low)  # one range for all channels
    low, high = (np.array([own.low.min()]), np.array([own.high.max()])) if shared else own[1:3]
    places = np.zeros_like(real.channels) if shared else real.channels
    outside = (real.values < low[places]) | (real.values > high[places])
    least, greatest = (real.low.min(), real.high.max()) if shared else (real.low, real.high)
    used = np.maximum(np.minimum(high, greatest) - np.maximum(low, least), 0)
    alive = high > low
    wasted = float(np.mean(1 - used[alive] / (high - low)[alive])) if alive.any() else np.nan
    return {"clipped": float(outside.mean()), "wasted": wasted}
