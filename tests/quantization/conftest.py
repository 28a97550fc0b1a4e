"""One small network from elsewhere, as ONNX and OpenVINO IR, in many manners."""

import runpy

import numpy as np
import onnx
import openvino as ov
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from lib.classifiers.build import NormalizedClassifier
from lib.common.files import ROOT
from lib.data.samples import SampleSet
from lib.quantization.own.parameters import OwnModel

TFLITE = ROOT / "tests/fixtures/own_models/small.tflite"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
NAMES = [str(k) for k in range(10)]
LIGHTS = ["low", "middle", "high"]
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


def lights(n, seed):
    """Images of three classes, told apart by their brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    mean = 70 + 55 * labels[:, None, None, None] + rng.normal(0, 18, (n, 1, 1, 1))
    images = np.clip(mean + rng.normal(0, 40, (n, 3, 32, 32)), 0, 255).astype(np.uint8)
    return SampleSet(images, labels, info={"data": "lights", "class_names": LIGHTS})


class Net(nn.Module):
    """Two convolutions, the second beside a residual sum, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 3)

    def between(self, x):
        return x

    def forward(self, x):
        x = self.between(self.stem(x))
        return self.fc(torch.relu(x + self.block(x)).mean(dim=(2, 3)))


class Shuffled(Net):
    """With a shuffle of the channels, which POT and Model Optimizer rewrite."""

    def between(self, x):
        n, _, h, w = x.shape
        return x.view(n, 2, 4, h, w).transpose(1, 2).reshape(n, 8, h, w)


def train(kind, samples):
    """Return a classifier of `kind` that has learnt the set."""
    torch.manual_seed(0)
    net = NormalizedClassifier(kind())
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    x, y = torch.from_numpy(samples.images).float(), torch.from_numpy(samples.labels)
    for _ in range(40):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def own(path, **changes):
    values = {"name": "mine", "path": str(path), "mean": MEAN, "std": STD} | changes
    return OwnModel.model_validate(values)
