"""ONNX files of others: what they may hold, and copies of them that take pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from lib.common.errors import StudyError
from lib.common.files import atomic_path
from lib.data.samples import IMAGE_SHAPE
from lib.quantization.own.parameters import OwnModel

PIXELS = "pixels"


def check_onnx(file: Path) -> ModelProto:
    """Read an ONNX file; a damaged one, or one with weights in other files, is a `StudyError`."""
    try:
        model = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise StudyError(f"{file} is damaged ({error}): export the network again") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        raise StudyError(
            f"{file} keeps weights in other files: save it as one, "
            "onnx.save(onnx.load(path), path, save_as_external_data=False)"
        )
    return model


def write_pixels_onnx(out: Path, model: OwnModel) -> None:
    """Write a copy of an ONNX file that takes pixels `(1, 3, 32, 32)` float32 in [0, 255].

    The first nodes scale, order, normalise and transpose them as `model` says.
    """
    network = check_onnx(model.file)
    graph = network.graph
    weights = {tensor.name for tensor in graph.initializer}
    entry = next(value for value in graph.input if value.name not in weights)
    half = entry.type.tensor_type.elem_type == TensorProto.FLOAT16
    start = _unused(graph)
    nodes, constants = _steps(model, start, entry.name, half)
    pixels = helper.make_tensor_value_info(start, TensorProto.FLOAT, [1, *IMAGE_SHAPE])
    kept = [value for value in graph.input if value.name != entry.name]
    body = list(graph.node)
    for field in (graph.input, graph.node, graph.value_info):
        del field[:]
    graph.input.extend([pixels, *kept])
    graph.initializer.extend(constants)
    graph.node.extend([*nodes, *body])
    _single_batch(graph, entry.type.tensor_type.shape.dim[0].dim_value)
    with atomic_path(out) as temporary:
        onnx.save(network, temporary)


def _single_batch(graph: GraphProto, batch: int) -> None:
    """Make the output's batch 1, and that in the constant targets of Reshape nodes."""
    for size in graph.output[0].type.tensor_type.shape.dim[:1]:
        size.dim_value = 1
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if _is_constant(node)}
    for name in {node.input[1] for node in graph.node if node.op_type == "Reshape"} & set(
        constants
    ):
        shape = numpy_helper.to_array(constants[name]).copy()
        if batch > 1 and shape.size and shape[0] == batch:
            shape[0] = 1
            constants[name].CopyFrom(numpy_helper.from_array(shape, constants[name].name))


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _steps(
    model: OwnModel, start: str, end: str, half: bool
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes from tensor `start` to tensor `end`, and the constants they take."""

    def column(values: list[float]) -> np.ndarray:
        return np.array(values, np.float32).reshape(1, 3, 1, 1)

    steps = [("Div", np.array(255 / model.input_max, np.float32), {})]
    if model.colours == "BGR":
        steps.append(("Gather", np.array([2, 1, 0], np.int64), {"axis": 1}))
    steps += [("Sub", column(model.mean), {}), ("Div", column(model.std), {})]
    if model.layout == "NHWC":
        steps.append(("Transpose", None, {"perm": [0, 2, 3, 1]}))
    if half:
        steps.append(("Cast", None, {"to": TensorProto.FLOAT16}))
    nodes, constants = [], []
    for k, (operation, value, options) in enumerate(steps):
        inputs = [f"{start}_{k}" if k else start]
        if value is not None:
            constants.append(numpy_helper.from_array(value, f"{start}_constant_{k}"))
            inputs.append(constants[-1].name)
        output = end if k == len(steps) - 1 else f"{start}_{k + 1}"
        nodes.append(helper.make_node(operation, inputs, [output], f"{start}_node_{k}", **options))
    return nodes, constants


def _unused(graph: GraphProto) -> str:
    """Return a name with which no name in the graph begins."""
    names = [name for node in graph.node for name in (*node.input, *node.output, node.name)]
    names += [value.name for value in (*graph.input, *graph.initializer)]
    name = PIXELS
    while any(each.startswith(name) for each in names):
        name += "_"
    return name


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield all constant tensors of a graph and of the graphs within its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (each for node in graph.node for each in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner) if inner.node or inner.initializer else ()
