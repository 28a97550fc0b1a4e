"""One small network from elsewhere, as ONNX and OpenVINO IR, in many manners."""

import runpy

import numpy as np
import onnx
import openvino as ov
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from lib.common.files import ROOT
from lib.quantization.own.parameters import OwnModel

TFLITE = ROOT / "tests/fixtures/own_models/small.tflite"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
NAMES = [str(k) for k in range(10)]
make_tflite = runpy.run_path(str(TFLITE.with_name("make_tflite.py")))
WEIGHTS = {name: torch.from_numpy(array) for name, array in make_tflite["weights"]().items()}
IMAGES = np.random.default_rng(1).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)


def logits(images, input_max=1.0, mean=MEAN, std=STD, colours="RGB"):
    """Compute the network of make_tflite.py in torch."""
    x = torch.from_numpy(images.astype(np.float32)) * (input_max / 255)
    x = x.flip(1) if colours == "BGR" else x
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for k in (1, 2):
        kernel = WEIGHTS[f"kernel{k}"].permute(0, 3, 1, 2)
        x = F.relu(F.conv2d(F.pad(x, (0, 1, 0, 1)), kernel, WEIGHTS[f"bias{k}"], stride=2))
    return F.linear(x.mean((2, 3)), WEIGHTS["kernel3"], WEIGHTS["bias3"]).numpy()


def write_onnx(
    path,
    batch="n",
    layout="NCHW",
    stuck=None,
    target=0,
    softmax=False,
    outputs=1,
    kind=TensorProto.FLOAT,
):
    """Write the network as ONNX; `stuck` puts a batch into the graph that cannot be changed.

    `target` is what the Reshape writes for the batch, 0 to keep the input's.
    """
    arrays = {name: array.numpy() for name, array in WEIGHTS.items()}
    for k in (1, 2):
        arrays[f"kernel{k}"] = np.ascontiguousarray(arrays[f"kernel{k}"].transpose(0, 3, 1, 2))
    arrays["shape"] = np.array([target, 16], np.int64)
    arrays["zeros"] = np.zeros((stuck or 1, 16), np.float32)
    options = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "kernel1", "bias1"], ["a"], **options),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "kernel2", "bias2"], ["c"], **options),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Reshape", ["e", "shape"], ["flat"]),
        helper.make_node("Add", ["flat", "zeros"], ["f"]),
        helper.make_node("Gemm", ["f", "kernel3", "bias3"], ["g"], transB=1),
        helper.make_node("Softmax" if softmax else "Identity", ["g"], ["out"]),
    ]
    turn = "Transpose" if layout == "NHWC" else "Identity"
    perm = {"perm": [0, 3, 1, 2]} if layout == "NHWC" else {}
    nodes.insert(1, helper.make_node(turn, ["float"], ["x"], **perm))
    shape = [batch, 32, 32, 3] if layout == "NHWC" else [batch, 3, 32, 32]
    results = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 10])]
    if outputs == 2:
        results.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [batch, 16]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, shape)],
        results,
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def write_ir(path, half=False):
    """Write the network as IR."""
    source = write_onnx(path.with_suffix(".onnx"))
    ov.save_model(ov.Core().read_model(source), path, compress_to_fp16=half)
    return path


def own(path, **changes):
    values = {"name": "mine", "path": str(path), "mean": MEAN, "std": STD} | changes
    return OwnModel.model_validate(values)
