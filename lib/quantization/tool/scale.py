"""Whether a network may be fed values of the wrong scale: what its first layer tells of it."""

import numpy as np
import openvino as ov

from lib.common.openvino import compile_model
from lib.quantization.tool.images import make_images
from lib.quantization.tool.network import ARITHMETIC, AROUND, Network

LAYERS = {"Convolution", "GroupConvolution"}
FAR = 22  # seven trained networks: 0.5 to 2.5, fed as they want; from 51 on, fed plain pixels
IMAGES = 20


def wrong_scale(network: Network) -> str:
    """Return a warning where the values fed look too large or too small, else "".

    After batch normalisation a channel's bias is usually about as large as its deviation.
    """
    ratio = bias_ratio(network)
    if ratio is None or 1 / FAR < ratio < FAR:
        return ""
    return (
        f"The values fed may be of the wrong scale: over photographs the first layer varies by "
        f"{ratio:.2g} times its bias, 0.5 to 2.5 is usual. Are --input-max, --mean and --std right?"
    )


def bias_ratio(network: Network) -> float | None:
    """Return the median over channels of deviation by bias in the first layer.

    The bias is what a channel gives for zeros. None: no such layer, a channel without bias, or
    8-bit input.
    """
    output = first_layer(network.model)
    if output is None or network.model.input(0).get_element_type() == ov.Type.u8:
        return None
    parts = ov.Model([output], network.model.get_parameters())
    request = compile_model(parts).create_infer_request()

    def channels(batch: np.ndarray) -> np.ndarray:
        """Return `(channels, values)` for a batch."""
        request.infer([batch])
        values = request.output_tensors[0].data.astype(np.float64)
        return values.swapaxes(0, 1).reshape(values.shape[1], -1)

    images = make_images("photographs", IMAGES, network.size, 0)
    batches = [batch for batch, _ in network.batches(images)]
    deviation = np.concatenate([channels(batch) for batch in batches], axis=1).std(1)
    bias = np.abs(np.median(channels(np.zeros_like(batches[0])), axis=1))
    return float(np.median(deviation / bias)) if bias.all() else None


def first_layer(model: ov.Model) -> ov.Output | None:
    """Return the output of the first convolution with bias and batch normalisation, if it is one.

    Convolutions of patches that do not overlap are none: no activation follows them.
    """
    output, layer = model.input(0), None
    while True:
        targets = [target.get_node() for target in output.get_target_inputs()]
        nodes = [node for node in targets if node.get_type_name() != "ShapeOf"]
        if len(nodes) != 1:
            return layer
        kind = nodes[0].get_type_name()
        if layer is None and kind in LAYERS:
            kernel = nodes[0].input_value(1).get_partial_shape()[-1]
            if kernel == nodes[0].get_attributes()["strides"][-1]:
                return None
        elif kind not in ARITHMETIC | ({"BatchNormInference"} if layer else AROUND | {"Pad"}):
            return layer
        output = nodes[0].output(0)
        layer = output if layer or kind in LAYERS else None
