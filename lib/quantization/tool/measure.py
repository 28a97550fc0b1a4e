"""What an INT8 network keeps of its FP32 form, how fast both are, which layers clip."""

import time

import numpy as np
import openvino as ov
import pandas as pd

from lib.common.openvino import LATENCY, THROUGHPUT, compile_model
from lib.quantization.activations import activations, range_faults
from lib.quantization.fake_quantize import activation_quantizers, entering
from lib.quantization.tool.network import Network

TURNS, SECONDS = 3, 0.7  # of the speed measurement: turns, and seconds of each network in each


def compare(
    network: Network, int8: dict[str, ov.Model], images: np.ndarray
) -> dict[str, list[dict[str, float | None]]]:
    """Compare INT8 networks with FP32 on `images` `(n, 3, height, width) uint8`.

    Returns for each network and output `snr_db`, the signal-to-noise ratio in decibels (None:
    equal), `agreement`, the share of images given the same class (None: the output gives none),
    and `classes`, how many different ones FP32 gives: one tells nothing.
    """
    models = [network.model, *int8.values()]
    requests = [compile_model(model).create_infer_request() for model in models]
    outputs, rows = range(len(network.outputs)), range(len(int8))
    signal, noise, same = np.zeros(len(outputs)), *np.zeros((2, len(rows), len(outputs)))
    given: list[set[int]] = [set() for _ in outputs]
    for batch, count in network.batches(images):
        expected, *found = (_results(request, batch, count) for request in requests)
        for k in outputs:
            signal[k] += np.square(expected[k]).sum()
            if network.classifies[k]:
                given[k] |= set(expected[k].argmax(1).tolist())
            for row in rows:
                noise[row, k] += np.square(found[row][k] - expected[k]).sum()
                if network.classifies[k]:
                    same[row, k] += (found[row][k].argmax(1) == expected[k].argmax(1)).sum()
    return {
        name: [
            {
                "snr_db": decibels(signal[k], noise[row, k]),
                "agreement": float(same[row, k] / len(images)) if network.classifies[k] else None,
                "classes": len(given[k]),
            }
            for k in outputs
        ]
        for row, name in enumerate(int8)
    }


def _results(request: ov.InferRequest, batch: np.ndarray, count: int) -> list[np.ndarray]:
    request.infer([batch])
    return [tensor.data[:count].astype(np.float64) for tensor in request.output_tensors]


def decibels(signal: float, noise: float) -> float | None:
    """Return the ratio of two powers in decibels, None where there is no noise."""
    return None if noise == 0 else float(10 * np.log10(max(signal, 1e-30) / noise))


def answers(network: Network, images: np.ndarray) -> np.ndarray:
    """Return the classes `(n,)` that the network in FP32 gives images, by its first such output."""
    output = network.classifies.index(True)
    request = compile_model(network.model).create_infer_request()
    parts = [_results(request, *batch)[output].argmax(1) for batch in network.batches(images)]
    return np.concatenate(parts)


def measure_speed(
    network: Network, int8: ov.Model, images: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return `latency_ms` of a batch and `throughput` in images a second, of `fp32` and `int8`.

    The two take turns, so that a busy moment hits both; medians over turns.
    """
    batch, _ = next(network.batches(images))
    requests, queues, rows = {}, {}, []
    for name, model in (("fp32", network.model), ("int8", int8)):
        requests[name] = compile_model(model, LATENCY).create_infer_request()
        queues[name] = ov.AsyncInferQueue(compile_model(model, THROUGHPUT))
    for turn in range(TURNS + 1):  # the first warms up
        seconds = SECONDS if turn else 0
        for name in requests:
            row = {"name": name, "latency_ms": 1000 * latency(requests[name], batch, seconds)}
            row["throughput"] = len(batch) * throughput(queues[name], batch, seconds)
            rows += [row] * (turn > 0)
    return pd.DataFrame(rows).groupby("name").median().to_dict("index")


def latency(request: ov.InferRequest, batch: np.ndarray, seconds: float) -> float:
    """Return the median time of a call in seconds, of calls one after the other for `seconds`."""
    times = [time.perf_counter()]
    while len(times) < 3 or times[-1] < times[0] + seconds:
        request.infer([batch])
        times.append(time.perf_counter())
    return float(np.median(np.diff(times)))


def throughput(queue: ov.AsyncInferQueue, batch: np.ndarray, seconds: float) -> float:
    """Return calls a second where as many run side by side as the processor likes."""
    start, calls = time.perf_counter(), 0
    while calls < len(queue) or time.perf_counter() < start + seconds:
        queue.start_async([batch])
        calls += 1
    queue.wait_all()
    return calls / (time.perf_counter() - start)


def clipped_layers(network: Network, int8: ov.Model, images: np.ndarray) -> list[dict]:
    """Return `layer`, and the shares `clipped` and `wasted` of `range_faults`, most clipped first.

    `images` `(n, 3, height, width) uint8` are not those of the calibration.
    """
    found = activations(entering(int8), (batch for batch, _ in network.batches(images)), gram=False)
    rows = [
        {"layer": quantizer.name.split("/fq_")[0], **range_faults(quantizer, layer)}
        for quantizer, layer in zip(activation_quantizers(int8), found, strict=True)
    ]
    rows = [row | {"wasted": None} if np.isnan(row["wasted"]) else row for row in rows]
    return sorted(rows, key=lambda row: -row["clipped"])
