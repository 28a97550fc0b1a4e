"""Networks from elsewhere: one small network as ONNX, OpenVINO IR and TFLite, in many manners."""

import os
import shutil

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from scipy.special import softmax

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.openvino import read_ir
from lib.data.samples import SampleSet
from lib.quantization.cell import Cell, divergence
from lib.quantization.grid import load_results, run_grid
from lib.quantization.models import measure_speeds, predict_ir
from lib.quantization.nncf import quantize_default, restore_accuracy
from lib.quantization.options import QuantizationOptions
from lib.quantization.own.imports import (
    better_description,
    check_network,
    export_models,
    import_network,
    near_chance,
    own_table,
)
from lib.quantization.own.parameters import (
    content_hash,
    external_files,
    own_files,
    own_records,
    read_input,
)
from lib.study.params import read_profile, validate
from lib.study.preflight import check_networks
from tests.quantization.conftest import (
    IMAGES,
    MEAN,
    NAMES,
    STD,
    TFLITE,
    logits,
    own,
    write_ir,
    write_onnx,
)


@pytest.mark.parametrize(
    "arguments, changes",
    [
        ({"batch": "n"}, {}),
        ({"batch": 1}, {"input_max": 255, "mean": [100.0, 120.5, 90.0], "std": [50.0, 60.0, 70.0]}),
        ({"batch": 8}, {"colours": "BGR"}),
        ({"batch": 8, "stuck": 8}, {}),
        ({"batch": 8, "target": 8}, {}),
        ({"batch": "n", "layout": "NHWC"}, {"layout": "NHWC", "colours": "BGR"}),
    ],
)
def test_onnx_becomes_a_network_of_pixels(tmp_path, arguments, changes):
    model = own(write_onnx(tmp_path / "theirs.onnx", **arguments), **changes)
    check_network(model, 10)
    import_network(tmp_path / "out", model, IMAGES, 10)
    kept = {key: changes[key] for key in ("input_max", "mean", "std", "colours") if key in changes}
    expected = logits(IMAGES, **kept)
    found = read_ir(tmp_path / "out/mine.xml")
    np.testing.assert_allclose(predict_ir(found, IMAGES), expected, rtol=0, atol=1e-4)
    assert found.is_dynamic() == ("stuck" not in arguments)
    takes = read_input(tmp_path / "out", "mine")
    assert (takes is None) == ("stuck" in arguments) == (not (tmp_path / "out/mine.onnx").exists())
    if takes is not None:
        assert (takes.colours, takes.layout) == (model.colours, model.layout)


def test_onnx_may_leave_the_shape_of_its_output_open(tmp_path):
    network = onnx.load(write_onnx(tmp_path / "theirs.onnx"))
    network.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(network, tmp_path / "open.onnx")
    import_network(tmp_path, own(tmp_path / "open.onnx"), IMAGES, 10)
    found = predict_ir(tmp_path / "mine.xml", IMAGES)
    np.testing.assert_allclose(found, logits(IMAGES), rtol=0, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_ir_becomes_a_network_of_pixels_in_fp32(tmp_path, half):
    import_network(tmp_path / "out", own(write_ir(tmp_path / "theirs.xml", half)), IMAGES, 10)
    tolerance = 0.02 if half else 1e-4  # the weights were rounded before they came here
    found = predict_ir(tmp_path / "out/mine.xml", IMAGES)
    np.testing.assert_allclose(found, logits(IMAGES), rtol=0, atol=tolerance)
    for operation in read_ir(tmp_path / "out/mine.xml").get_ops():
        assert operation.get_output_element_type(0) != ov.Type.f16
    assert not (tmp_path / "out/mine.onnx").exists()


def test_tflite_becomes_a_network_of_pixels(tmp_path):
    import_network(tmp_path, own(TFLITE, layout="NHWC"), IMAGES, 10)
    expected = torch.from_numpy(logits(IMAGES)).softmax(1).numpy()
    np.testing.assert_allclose(
        predict_ir(tmp_path / "mine.xml", IMAGES), expected, rtol=0, atol=1e-5
    )


def test_weights_beside_the_network_are_part_of_it(tmp_path):
    (tmp_path / "split").mkdir()
    split = tmp_path / "split" / "theirs.ONNX"
    network = onnx.load(write_onnx(tmp_path / "theirs.onnx", batch="n"))
    onnx.save(network, split, save_as_external_data=True, location="w.data", size_threshold=0)
    import_network(tmp_path / "out", own(split), IMAGES, 10)
    expected = logits(IMAGES)
    found = predict_ir(tmp_path / "out/mine.xml", IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    alone = onnx.load(tmp_path / "out/mine.onnx", load_external_data=False)
    assert not external_files(alone)
    before = content_hash(split)
    weights = bytearray((split.parent / "w.data").read_bytes())
    weights[0] ^= 1
    (split.parent / "w.data").write_bytes(weights)
    assert content_hash(split) != before
    (split.parent / "w.data").unlink()
    with pytest.raises(StudyError, match="w.data is missing"):
        check_network(own(split), 10)


def test_weights_beside_the_network_may_be_hard_links(tmp_path):
    network = onnx.load(write_onnx(tmp_path / "theirs.onnx"))
    whole = tmp_path / "whole"
    whole.mkdir()
    how = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    onnx.save(network, whole / "theirs.onnx", **how)
    shutil.copytree(whole, tmp_path / "linked", copy_function=os.link)
    import_network(tmp_path / "out", own(tmp_path / "linked/theirs.onnx"), IMAGES, 10)
    copy = onnx.load(tmp_path / "out/mine.onnx")
    source = onnx.load(tmp_path / "theirs.onnx").graph.initializer
    for ours, theirs in zip(copy.graph.initializer, source, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    outside = tmp_path / "outside.data"
    (whole / "w.data").rename(outside)
    (whole / "w.data").symlink_to(outside)
    with pytest.raises(StudyError, match="outside of the network's folder: .* by cp -rL"):
        check_network(own(whole / "theirs.onnx"), 10)


def test_tflite_may_end_in_capitals(tmp_path):
    shutil.copy(TFLITE, tmp_path / "theirs.TFLITE")
    takes = {"layout": "NHWC", "mean": MEAN, "std": STD}
    check_network(own(tmp_path / "theirs.TFLITE", **takes), 10)


@pytest.mark.parametrize("way", ["outputs", "statistics"])
def test_networks_that_look_at_the_batch_were_exported_in_training(tmp_path, way):
    path = write_onnx(tmp_path / "theirs.onnx")
    network = onnx.load(path)
    nodes = list(network.graph.node)
    where = next(k for k, node in enumerate(nodes) if node.op_type == "Relu")
    if way == "outputs":  # as before opset 14
        ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
        for name, array in (("g", ones), ("b", zeros), ("m", zeros), ("v", ones)):
            network.graph.initializer.append(numpy_helper.from_array(array, f"bn_{name}"))
        names = [nodes[where].output[0], *(f"bn_{name}" for name in "gbmv")]
        outputs = ["norm", "m1", "v1", "m2", "v2"]
        new = [helper.make_node("BatchNormalization", names, outputs)]
    else:
        mean = helper.make_node("ReduceMean", [nodes[where].output[0]], ["mean"], axes=[0, 2, 3])
        new = [mean, helper.make_node("Sub", [nodes[where].output[0], "mean"], ["norm"])]
    nodes[where + 1].input[0] = "norm"
    del network.graph.node[:]
    network.graph.node.extend([*nodes[: where + 1], *new, *nodes[where + 1 :]])
    onnx.save(network, path)
    with pytest.raises(StudyError, match="call eval"):
        check_network(own(path), 10)


def test_one_of_several_outputs_is_taken_by_name(tmp_path):
    path = write_onnx(tmp_path / "two.onnx", outputs=2)
    names = [output.name for output in onnx.load(path).graph.output]
    import_network(tmp_path / "out", own(path, output=names[0]), IMAGES, 10)
    found = predict_ir(tmp_path / "out/mine.xml", IMAGES)
    np.testing.assert_allclose(found, logits(IMAGES), rtol=0, atol=1e-4)
    with pytest.raises(StudyError, match=f"no output x: it has {', '.join(names)}"):
        check_network(own(path, output="x"), 10)
    assert "output" not in own_records([own(path)])[0]


def test_pixels_of_eight_bits_are_taken_as_they_are(tmp_path):
    path = write_onnx(tmp_path / "bytes.onnx", kind=TensorProto.UINT8)
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3, "input_max": 255}
    import_network(tmp_path / "out", own(path, **plain), IMAGES, 10)
    found = predict_ir(tmp_path / "out/mine.xml", IMAGES)
    np.testing.assert_allclose(found, logits(IMAGES, **plain), rtol=0, atol=1e-2)
    assert not (tmp_path / "out/mine.onnx").exists()  # POT takes floats
    labels = logits(IMAGES, **plain).argmax(axis=1).astype(np.int64)
    samples = SampleSet(IMAGES, labels, info={"class_names": NAMES})
    assert better_description(own(path, **plain), samples) == ""
    words = better_description(own(path, **plain, colours="BGR"), samples)
    assert "100% with colours: RGB" in words or words == ""  # so few images may not tell


def test_a_wrong_description_is_told_of_a_better_one(tmp_path):
    random = np.random.default_rng(1)
    images = 255 * random.random((200, 3, 1, 1)) * random.random((200, 3, 32, 32))
    images = images.astype(np.uint8)
    path = write_onnx(tmp_path / "theirs.onnx")
    true = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    labels = logits(images, **true).argmax(axis=1).astype(np.int64)
    samples = SampleSet(images, labels, info={"class_names": NAMES})
    assert better_description(own(path, **true), samples) == ""
    for wrong, words in (
        (true | {"colours": "BGR"}, "100% with colours: RGB: is that what it takes"),
        ({"mean": [0.0] * 3, "std": [1.0] * 3}, "100% with ImageNet's mean and std"),
        (true | {"input_max": 255}, "100% with input_max: 1"),
    ):
        assert words in better_description(own(path, **wrong), samples)
    both = {"mean": [0.0] * 3, "std": [1.0] * 3, "colours": "BGR"}
    assert "100% with colours: RGB and ImageNet's mean" in better_description(
        own(path, **both), samples
    )
    turned = SampleSet(images, (labels + 1) % 10, info=samples.info)
    assert "in the order of the data's (class_order)?" in better_description(
        own(path, **true), turned
    )


def faulty(folder):
    """Write files that cannot be taken, each with the words that its error must hold."""
    good = write_onnx(folder / "good.onnx")
    outside = onnx.load(good)
    for tensor in outside.graph.initializer:
        set_external_data(tensor, "../weights")
        tensor.ClearField("raw_data")
    onnx.save(outside, folder / "outside.onnx")
    trained = onnx.load(good)
    trained.graph.node.append(
        onnx.helper.make_node("BatchNormalization", list("abcde"), ["f"], training_mode=1)
    )
    onnx.save(trained, folder / "trains.onnx")
    (folder / "cut.onnx").write_bytes(good.read_bytes()[:500])
    (folder / "cut.tflite").write_bytes(TFLITE.read_bytes()[:2000])
    (folder / "junk.tflite").write_bytes(b"junk" * 100)
    (folder / "junk.xml").write_text("<junk/>")
    (folder / "junk.bin").write_bytes(b"")
    shutil.copy(write_ir(folder / "whole.xml"), folder / "alone.xml")
    ir = (folder / "whole.xml").read_text()
    (folder / "cut.xml").write_text(ir[: len(ir) // 2])
    (folder / "cut.bin").write_bytes((folder / "whole.bin").read_bytes())
    samples = SampleSet(IMAGES, np.arange(20) % 10, info={"class_names": NAMES})
    import_network(folder, own(good, name="fp32"), IMAGES, 10)
    int8 = quantize_default(read_ir(folder / "fp32.xml"), samples).model
    ov.save_model(int8, folder / "int8.xml")
    small = onnx.load(good)
    small.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    onnx.save(small, folder / "large.onnx")
    write_onnx(folder / "two.onnx", outputs=2)
    write_onnx(folder / "bytes.onnx", kind=TensorProto.UINT8)
    write_onnx(folder / "whole.bytes.onnx", kind=TensorProto.INT32)
    return {
        "missing.onnx": "missing.onnx is missing: put it there or mend its path",
        "alone.xml": "alone.bin is missing",
        "outside.onnx": "weights lies, or links, outside of the network",
        "trains.onnx": "trains.onnx was exported in training mode: call eval",
        "cut.onnx": "cut.onnx is damaged",
        "cut.tflite": "cut.tflite cannot be read",
        "junk.tflite": "junk.tflite is no .tflite file",
        "junk.xml": "junk.xml cannot be read",
        "cut.xml": "cut.xml cannot be read",
        "two.onnx": r"has 2 outputs \(.*\): say which in own_models, such as output: ",
        "bytes.onnx": r"takes pixels of 8 bits as they are: describe it by mean: \[0, 0, 0\]",
        "whole.bytes.onnx": "takes i32 numbers: export it with a floating-point or 8-bit input",
        "large.onnx": "large.onnx takes .*64,32., the study feeds NCHW images",
        "int8.xml": "int8.xml is quantized already",
    }


def test_faulty_files_are_named_on_one_line(tmp_path, capfd):
    for name, message in faulty(tmp_path).items():
        with pytest.raises(StudyError, match=message) as error:
            check_network(own(tmp_path / name), 10)
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    with pytest.raises(StudyError, match="mend its layout in own_models"):
        check_network(own(tmp_path / "good.onnx", layout="NHWC"), 10)
    with pytest.raises(StudyError, match=r"gives \[\?,10\], the data have 7 classes"):
        check_network(own(tmp_path / "good.onnx"), 7)


def test_preflight_checks_the_files_and_the_number_of_classes(tmp_path):
    path = write_onnx(tmp_path / "theirs.onnx")
    entry = {"name": "mine", "path": str(path), "mean": MEAN, "std": STD}
    values = read_profile(ROOT / "params/tiny.yaml") | {"own_models": [entry], "classifiers": []}
    check_networks(validate(values))
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(StudyError, match="the data have 2 classes"):
        check_networks(validate(values | {"data": "imagefolder", "data_dir": str(tmp_path)}))
    path.unlink()
    with pytest.raises(StudyError, match="theirs.onnx is missing"):
        check_networks(validate(values))


def test_reuse_depends_on_the_content_not_on_the_name(tmp_path):
    path = write_ir(tmp_path / "theirs.xml")
    first = own_records([own(path)])
    for suffix in (".xml", ".bin"):
        shutil.copy(path.with_suffix(suffix), tmp_path / f"moved{suffix}")
    assert own_records([own(tmp_path / "moved.xml")]) == first
    assert own_records([own(path, colours="BGR")]) != first
    (tmp_path / "moved.bin").write_bytes(bytes(path.with_suffix(".bin").stat().st_size))
    assert content_hash(tmp_path / "moved.xml") != content_hash(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of images whose labels are what the network says of most of them."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate({"real": 60, "validation": 50, "test": 100}.items()):
        rng = np.random.default_rng(seed)
        brightness = rng.uniform(20, 230, (n, 3, 1, 1))
        images = np.clip(brightness + rng.normal(0, 40, (n, 3, 32, 32)), 0, 255).astype(np.uint8)
        labels = logits(images).argmax(axis=1).astype(np.int64)
        SampleSet(images, labels, info={"data": "x", "class_names": NAMES}).save(folder / name)
    return folder


def test_own_networks_pass_through_the_grid(data, tmp_path):
    models = [
        own(write_onnx(tmp_path / "a.onnx", batch=8, stuck=8), name="stuck"),
        own(TFLITE, name="lite", layout="NHWC"),
    ]
    export_models(
        tmp_path / "models",
        classifiers={},
        check=data / "validation",
        own=own_records(models),
        files=own_files(models),
    )
    test = SampleSet.load(data / "test")
    table = own_table(tmp_path / "models", ["stuck", "lite"], test)
    assert table["batch"].tolist() == ["8, fixed", "any"]
    assert table["output"].tolist() == ["logits", "probabilities"]
    assert (table["FP32 top-1"] == 1).all() and (table["remark"] == "").all()
    test.labels = np.arange(100) % 10  # have nothing to do with the images
    assert own_table(tmp_path / "models", ["lite"], test)["remark"][0].startswith("near chance")
    methods = ("default", "accuracy_aware")
    cells = [Cell(m, "nncf", way, "real", 20) for m in ("stuck", "lite") for way in methods]
    places = {"validation": data / "validation", "test": data / "test"}
    places |= {"models": tmp_path / "models", "calibration": {"real": data / "real"}}
    run_grid(tmp_path / "grid", cells=cells, options=QuantizationOptions(max_drop=0.5), **places)
    results, _, _ = load_results(tmp_path / "grid")
    assert (results["status"] == "ok").all() and set(results["family"]) == {"own"}
    int8 = results[results["engine"] == "nncf"]
    assert int8["agreement"].min() > 0.85 and int8["kl"].between(1e-6, 0.1).all()
    assert int8.groupby("model")["images_read"].max().to_dict() == {"stuck": 16, "lite": 20}


def test_a_fixed_batch_is_calibrated_as_single_images_are(data, tmp_path):
    """Two batches of 8 give the ranges of the same 16 images one by one."""
    found = []
    for name, stuck in {"stuck": 8, "free": None}.items():
        path = write_onnx(tmp_path / f"{name}.onnx", batch=8, stuck=stuck)
        import_network(tmp_path, own(path, name=f"{name}_network"), IMAGES, 10)
        ir = read_ir(tmp_path / f"{name}_network.xml")
        samples = SampleSet.load(data / "real")
        options = QuantizationOptions(subset_size=16, bias_correction="none")
        found.append(quantize_default(ir, samples, options))
    assert found[0].labels_read == found[1].labels_read
    outputs = [predict_ir(each.model, IMAGES) for each in found]
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-4)


def test_a_fixed_batch_is_restored_and_timed(data, tmp_path):
    path = write_onnx(tmp_path / "stuck.onnx", batch=8, stuck=8)
    import_network(tmp_path, own(path), IMAGES, 10)
    sets = [SampleSet.load(data / name) for name in ("real", "validation")]
    ir = read_ir(tmp_path / "mine.xml")
    options = QuantizationOptions(max_drop=0.5, max_iterations=1, subset_size=16)
    made = restore_accuracy(ir, *sets, options)
    assert made.images_read == 16
    speed = measure_speeds({"mine": tmp_path / "mine.xml"}, IMAGES, repeats=1)["mine"]
    assert speed["latency_ms"] > 0 and speed["throughput"] > 0


def test_divergence_of_probabilities_is_that_of_their_logits():
    rng = np.random.default_rng(0)
    reference, other = rng.normal(size=(2, 50, 10))
    expected = divergence(reference, other)
    as_probabilities = softmax(np.stack([reference, other]), axis=2)
    assert divergence(*as_probabilities) == pytest.approx(expected)
    assert divergence(reference, as_probabilities[1]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"meen": 1}, "own_models, network 1, meen: Extra inputs"),
        ({"std": [1, 1, 0]}, "network 1, std: .*above 0"),
        ({"mean": [0.5]}, "network 1, mean: .*at least 3"),
        ({"layout": "HWC"}, "network 1, layout: .*'NCHW' or 'NHWC'"),
        ({"input_max": 2}, "network 1, input_max: .*1 or 255"),
        ({"path": "net.pt"}, "network 1, path: net.pt: give a file that ends in .onnx"),
        ({"name": "a.b"}, "network 1, name"),
        ({"name": "resnet20"}, "own_models.*resnet20 is a name of the study's"),
        ({"name": "repvgg_a0_unfused"}, "own_models.*is a name of the study's"),
    ],
)
def test_wrong_descriptions_are_one_line(change, message):
    entry = {"name": "mine", "path": "a.onnx", "mean": [0, 0, 0], "std": [1, 1, 1]}
    values = read_profile(ROOT / "params/tiny.yaml")
    assert validate(values | {"own_models": [entry]}).own_models[0].input_max == 1
    with pytest.raises(StudyError, match=message) as error:
        validate(values | {"own_models": [entry | change]})
    assert "\n" not in str(error.value)
    with pytest.raises(StudyError, match="mine named twice"):
        validate(values | {"own_models": [entry, entry]})
    with pytest.raises(StudyError, match="classifiers and own_models are both empty"):
        validate(values | {"classifiers": []})


@pytest.mark.parametrize(
    ("share", "classes", "guessing"),
    [(0.98, 2, False), (0.55, 2, True), (0.13, 10, True), (0.6, 10, False), (0.02, 100, True)],
)
def test_what_is_near_chance_depends_on_the_classes(share, classes, guessing):
    assert near_chance(share, 300, classes) == guessing
