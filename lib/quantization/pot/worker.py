"""Quantize networks with OpenVINO's Post-training Optimization Tool (POT).

A script for POT's own environment (`lib.quantization.pot.engine`) that imports nothing of the
study: `python worker.py` takes the names of job folders from its input, one a line, and
answers each with a line of JSON, `{}` or `{"error": text}`; it ends with its input. What takes
long, the imports and the conversion of a network, is done once.

A folder holds `job.json` and `images.npz` (`calibration`, `validation`: `(n, 3, h, w) uint8`;
`labels` of the validation images). The worker adds the INT8 network, `int8.xml` and `int8.bin`,
and `read.json`, the positions of the calibration images that were read.
"""

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np

JOB, IMAGES, RESULT, READ = "job.json", "images.npz", "int8.xml", "read.json"
NOT_JUDGED = -1  # the label of calibration images, which no accuracy counts
METRIC = "top1"
OVERFLOW_FIXES = {"disable": "no", "enable": "all", "first_layer": "first_layer"}


def serve() -> None:
    """Do jobs until the input ends."""
    import networkx

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tools print must not pass for an answer
    gc.disable()  # POT's graphs are large: collected once a job
    networkx.Graph.__str__ = object.__repr__  # for logs, else counts all edges
    for line in sys.stdin:
        try:
            quantize(Path(line.rstrip("\n")))
            answer = {}
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


def quantize(folder: Path) -> None:
    """Do the job in `folder`."""
    from openvino.tools import pot

    os.chdir(folder)
    job = json.loads(Path(JOB).read_text())
    xml = converted(job)
    loader = Loader(job["method"] != "default")
    engine = pot.IEEngine({"device": "CPU"}, data_loader=loader, metric=Top1())
    files = {"model": str(xml), "weights": str(xml.with_suffix(".bin"))}
    model = pot.load_model({"model_name": "model", **files})
    quantized = pot.create_pipeline([algorithm(job, len(loader))], engine).run(model)
    pot.compress_model_weights(quantized)
    pot.save_model(quantized, str(folder), Path(RESULT).stem)
    Path(READ).write_text(json.dumps(sorted(loader.read)))
    gc.collect()


def converted(job: dict) -> Path:
    """Return the FP32 IR that Model Optimizer makes of a job's ONNX file, made once.

    `job["input"]` has Model Optimizer put what the network takes into the graph, so that the IR
    takes one image `(1, 3, h, w)` of float32 pixels.
    """
    from openvino.preprocess import PrePostProcessor
    from openvino.runtime import Type, serialize
    from openvino.tools import mo

    xml = Path(job["converted"])
    if not xml.is_file():
        model = mo.convert_model(job["onnx"], compress_to_fp16=False, **job["input"])
        if job["input"]:
            model.reshape([1, *list(model.input(0).partial_shape)[1:]])
            steps = PrePostProcessor(model)
            steps.input().tensor().set_element_type(Type.f32)
            model = steps.build()
        serialize(model, str(xml))
    return xml


def algorithm(job: dict, total: int) -> dict:
    """Return POT's description of the algorithm that a job names.

    Ranges are taken from the first images, the calibration images; accuracy is judged on all,
    but calibration images do not count.
    """
    base = "MinMaxQuantization" if job["bias_correction"] == "none" else "DefaultQuantization"
    params = {"target_device": "CPU", "preset": job["preset"]}
    params |= {"stat_subset_size": job["calibration_images"]}
    params |= {"saturation_fix": OVERFLOW_FIXES[job["overflow_fix"]]}
    if base == "DefaultQuantization":
        params |= {"use_fast_bias": job["bias_correction"] == "fast"}
    if job["method"] == "default":
        return {"name": base, "params": params}
    params |= {"maximal_drop": job["max_drop"], "max_iter_num": job["max_iterations"]}
    params |= {"ranking_subset_size": total, "drop_type": "absolute", "base_algorithm": base}
    return {"name": "AccuracyAwareQuantization", "params": params}


class Loader:
    """POT's loader of the calibration images and, for accuracy, the validation images."""

    def __init__(self, validates: bool) -> None:
        self.config, self.read = {}, set()
        with np.load(IMAGES, allow_pickle=False) as arrays:
            self.images = arrays["calibration"]
            self.labels = np.full(len(self.images), NOT_JUDGED)
            if validates:
                self.images = np.concatenate([self.images, arrays["validation"]])
                self.labels = np.concatenate([self.labels, arrays["labels"]])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        if self.labels[index] == NOT_JUDGED:
            self.read.add(int(index))
        return self.images[index].astype(np.float32), int(self.labels[index])


class Top1:
    """POT's metric: top-1 accuracy over the images that are judged."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all outputs."""
        self.judged, self.last = [], True

    def update(self, output, target) -> None:
        """Take one output `(1, classes)` with its label."""
        self.last = target[0] == NOT_JUDGED or bool(np.argmax(output[0]) == target[0])
        if target[0] != NOT_JUDGED:
            self.judged.append(self.last)

    @property
    def value(self) -> dict:
        """Per image, of the last output: right or not; always right where it is not judged."""
        return {METRIC: [self.last]}

    @property
    def avg_value(self) -> dict:
        """The accuracy of all outputs."""
        return {METRIC: float(np.mean(self.judged)) if self.judged else 1.0}

    def get_attributes(self) -> dict:
        """Say which way is better."""
        return {METRIC: {"direction": "higher-better", "type": "accuracy"}}


if __name__ == "__main__":
    serve()
