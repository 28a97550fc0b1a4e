"""Write small.tflite, a network that takes images `(1, 32, 32, 3)` and gives probabilities.

Two convolutions of stride 2 with ReLU, the mean over the map, a linear layer, softmax. It needs
`pip install tflite==2.18.0 flatbuffers==25.12.19` beside numpy, in an environment of its own.
"""

from pathlib import Path

import numpy as np

CHANNELS = (3, 8, 16)
CLASSES = 10


def weights() -> dict[str, np.ndarray]:
    """Return the weights: kernels `(out, height, width, in)`, the last layer's `(out, in)`."""
    draw = np.random.RandomState(0).standard_normal
    arrays = {}
    for k, (before, after) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False), 1):
        arrays[f"kernel{k}"] = draw((after, 3, 3, before)) * (2 / (9 * before)) ** 0.5
        arrays[f"bias{k}"] = 0.1 * draw(after)
    arrays["kernel3"], arrays["bias3"] = draw((CLASSES, CHANNELS[-1])), 0.1 * draw(CLASSES)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


class Writer:
    """Collects the tensors, buffers and operators of a TFLite model."""

    def __init__(self) -> None:
        import flatbuffers

        self.builder = flatbuffers.Builder(0)
        self.tensors: list[int] = []
        self.buffers = [self.table("Buffer")]
        self.codes: list[int] = []
        self.operators: list[int] = []

    def table(self, kind: str, **fields: int) -> int:
        """Write a table of the schema and return where it lies."""
        import tflite

        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return getattr(tflite, f"{kind}End")(self.builder)

    def vector(self, offsets: list[int]) -> int:
        """Write a vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def numbers(self, values: list[int]) -> int:
        """Write a vector of 32-bit integers."""
        return self.builder.CreateNumpyVector(np.array(values, np.int32))

    def tensor(self, name: str, shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        """Add a tensor, a constant one where there is data; return its number."""
        import tflite

        integers = data is not None and data.dtype == np.int32
        buffer = 0
        if data is not None:
            content = self.builder.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
            buffer = len(self.buffers)
            self.buffers.append(self.table("Buffer", Data=content))
        kind = tflite.TensorType.INT32 if integers else tflite.TensorType.FLOAT32
        text, sizes = self.builder.CreateString(name), self.numbers(list(shape))
        self.tensors.append(self.table("Tensor", Name=text, Shape=sizes, Type=kind, Buffer=buffer))
        return len(self.tensors) - 1

    def operator(
        self, code: str, inputs: list[int], outputs: list[int], options: str, **fields: int
    ) -> None:
        """Add an operator with its options."""
        import tflite

        number = getattr(tflite.BuiltinOperator, code)
        self.codes.append(
            self.table(
                "OperatorCode",
                BuiltinCode=number,
                DeprecatedBuiltinCode=min(number, 127),
                Version=1,
            )
        )
        record = self.table(options, **fields)
        lists = {"Inputs": self.numbers(inputs), "Outputs": self.numbers(outputs)}
        kind = getattr(tflite.BuiltinOptions, options)
        self.operators.append(
            self.table(
                "Operator",
                OpcodeIndex=len(self.codes) - 1,
                BuiltinOptionsType=kind,
                BuiltinOptions=record,
                **lists,
            )
        )

    def finish(self, first: int, last: int) -> bytes:
        """Return the file of the model from tensor `first` to tensor `last`."""
        graph = self.table(
            "SubGraph",
            Tensors=self.vector(self.tensors),
            Inputs=self.numbers([first]),
            Outputs=self.numbers([last]),
            Operators=self.vector(self.operators),
        )
        codes, graphs = self.vector(self.codes), self.vector([graph])
        buffers = self.vector(self.buffers)
        fields = {"OperatorCodes": codes, "Subgraphs": graphs, "Buffers": buffers}
        self.builder.Finish(self.table("Model", Version=3, **fields), b"TFL3")
        return bytes(self.builder.Output())


def write(path: Path) -> None:
    """Write the network."""
    writer, arrays, side = Writer(), weights(), 32
    first = previous = writer.tensor("image", (1, side, side, CHANNELS[0]))
    constants = {name: writer.tensor(name, x.shape, x) for name, x in arrays.items()}
    for k, channels in enumerate(CHANNELS[1:], 1):
        side //= 2
        current = writer.tensor(f"map{k}", (1, side, side, channels))
        parts = [previous, constants[f"kernel{k}"], constants[f"bias{k}"]]
        options = {"Padding": 0, "StrideW": 2, "StrideH": 2, "FusedActivationFunction": 1}
        options |= {"DilationWFactor": 1, "DilationHFactor": 1}
        writer.operator("CONV_2D", parts, [current], "Conv2DOptions", **options)
        previous = current
    axes = writer.tensor("axes", (2,), np.array([1, 2], np.int32))
    pooled = writer.tensor("pooled", (1, CHANNELS[-1]))
    writer.operator("MEAN", [previous, axes], [pooled], "ReducerOptions", KeepDims=0)
    logits, last = (writer.tensor(name, (1, CLASSES)) for name in ("logits", "probabilities"))
    parts = [pooled, constants["kernel3"], constants["bias3"]]
    writer.operator("FULLY_CONNECTED", parts, [logits], "FullyConnectedOptions")
    writer.operator("SOFTMAX", [logits], [last], "SoftmaxOptions", Beta=1.0)
    path.write_bytes(writer.finish(first, last))


if __name__ == "__main__":
    write(Path(__file__).with_name("small.tflite"))
