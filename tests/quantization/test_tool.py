"""`quantize`: networks of other sizes and kinds, judged rightly, or refused in one line."""

import json
import shutil

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import TensorProto
from openvino import opset13
from PIL import Image
from torch import nn

from lib.__main__ import main
from lib.common.errors import StudyError
from lib.common.openvino import compile_model, traceable
from lib.common.tensors import save_tensors
from lib.data.layouts import save_one_file
from lib.data.samples import SampleSet
from lib.quantization.fake_quantize import activation_quantizers
from lib.quantization.tool import measure
from lib.quantization.tool.checks import alike, gather
from lib.quantization.tool.images import Folder, find_kind, make_images
from lib.quantization.tool.int8 import quantize
from lib.quantization.tool.measure import compare, decibels
from lib.quantization.tool.network import Takes, affine_of_input, inner_scale, read_network
from lib.quantization.tool.quantize import quantize_file
from lib.quantization.tool.report import not_checked, verdict
from lib.quantization.tool.scale import wrong_scale
from tests.quantization.conftest import TFLITE, write_ir, write_onnx

PIXELS = Takes(input_max=255)


@pytest.fixture(autouse=True)
def no_time_for_speed(monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0)


class Net(nn.Module):
    """Two convolutions; classes, or as many maps as the image has pixels."""

    def __init__(self, channels=3, maps=False, inside=False, depthwise=False, normed=False):
        super().__init__()
        self.inside, self.maps = inside, maps
        self.first = nn.Conv2d(3, 3, 3, 1, 1, groups=3) if depthwise else nn.Identity()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()
        )
        if normed:
            self.body.insert(1, nn.BatchNorm2d(8))
            nn.init.uniform_(self.body[1].running_mean, 1, 3)
            nn.init.uniform_(self.body[1].running_var, 1, 3)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = (x / 255 - 0.5) / 0.5 if self.inside else x
        x = self.head(self.body(self.first(x)))
        return nn.functional.interpolate(x, scale_factor=2.0) if self.maps else x.mean((2, 3))


def write(path, channels=3, size=(40, 56), open_size=False, batch=None, **options):
    torch.manual_seed(0)
    axes = {} if batch else {0: "n"}
    axes |= {2: "h", 3: "w"} if open_size else {}
    with traceable():
        torch.onnx.export(
            Net(channels, **options).eval(),
            torch.zeros(batch or 1, channels, *size),
            path,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes},
            training=torch.onnx.TrainingMode.PRESERVE,  # else it folds batch normalisations
            do_constant_folding=False,
        )
    return path


def outputs(xml, values):
    return compile_model(ov.Core().read_model(xml))(values)[0]


def test_batch_normalisations_are_folded_before_nncf_could_quantize_around_them(tmp_path):
    path = write(tmp_path / "net.onnx", normed=True, inside=True)
    assert "BatchNormalization" in {node.op_type for node in onnx.load(path).graph.node}
    network = read_network(path, Takes())
    assert (network.input_max, network.mean) == (255, (0.0,) * 3)  # what it does inside is seen
    assert "BatchNormInference" not in {op.get_type_name() for op in network.model.get_ops()}
    torch.manual_seed(0)
    exact, values = Net(normed=True, inside=True).eval(), 255 * torch.rand(2, 3, 40, 56)
    with torch.inference_mode():
        expected = exact(values).numpy()
    found = compile_model(network.model)(values.numpy())[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_network_of_its_own_size_becomes_int8(tmp_path):
    path = write(tmp_path / "net.onnx")
    takes = Takes(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
    report = quantize_file(path, takes=takes, images=20)
    folder = tmp_path / "net_int8"
    made = {"net_int8.xml", "net_int8.bin", "net_fp32.xml", "net_fp32.bin"}
    assert {file.name for file in folder.iterdir()} == made | {"report.json", "report.md"}
    images = make_images("photographs", 20, (40, 56), 5)
    values = (images / 255 - 0.5) / np.array([0.5, 0.25, 0.5]).reshape(3, 1, 1)
    values = values.astype(np.float32)
    exact = Net().eval()
    exact.load_state_dict({k: v for k, v in _weights().items()})
    with torch.inference_mode():
        expected = exact(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(outputs(folder / "net_fp32.xml", values), expected, atol=1e-4)
    error = outputs(folder / "net_int8.xml", values) - expected
    assert 0 < np.square(error).sum() < 0.05 * np.square(expected).sum()
    written = json.loads((folder / "report.json").read_text())
    assert written["chosen"] == report.chosen == "mixed"
    assert written["images_read"] == 20
    assert [row["checked"] for row in report.checks] == ["photographs", "fractals"]
    assert all(row["counts"] and row["alike"] for row in report.checks)
    assert "the kinds of images that calibrated it" in report.verdict
    page = (folder / "report.md").read_text()
    assert "fractals" in page and "Accuracy: that takes labelled images" in page


def _weights():
    torch.manual_seed(0)
    return Net().state_dict()


def test_the_report_agrees_with_a_computation_of_its_own(tmp_path):
    path = write(tmp_path / "net.onnx")
    folder = tmp_path / "pictures"
    folder.mkdir()
    images = make_images("photographs", 9, (40, 56), 3)
    for k, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{k}.png")
    report = quantize_file(
        path, takes=PIXELS, images=10, check=[str(folder)], calibrate=["fractals"]
    )
    reported = Folder(folder, 0).read(0, 100, (40, 56)).astype(np.float32)
    assert len(reported) == 9  # all, as there is nothing to choose
    exact, rough = (
        outputs(tmp_path / f"net_int8/net_{kind}.xml", reported).astype(np.float64)
        for kind in ("fp32", "int8")
    )
    row = report.checks[0]
    assert row["checked"] == str(folder) and row["images"] == 9
    assert row["agreement"] == (exact.argmax(1) == rough.argmax(1)).mean()
    assert row["classes"] == len(set(exact.argmax(1)))
    noise = np.square(exact - rough).sum()
    assert row["snr_db"] == pytest.approx(10 * np.log10(np.square(exact).sum() / noise), abs=0.2)


def test_the_worse_calibration_is_exposed_and_the_better_kept(tmp_path):
    path = write(tmp_path / "net.onnx")
    report = quantize_file(path, takes=PIXELS, images=20, calibrate=["grey", "photos", "noise"])
    assert report.chosen in ("photographs", "noise")
    ratios = {row["calibrated"]: row["snr_db"] for row in report.checks if row["counts"]}
    assert ratios["grey"] < ratios[report.chosen] - 3
    alone = quantize_file(path, takes=PIXELS, images=20, calibrate=["grey"], out=tmp_path / "g")
    assert min(row["snr_db"] for row in alone.checks) < 15


@pytest.mark.parametrize(
    ("make", "takes"),
    [
        (lambda p: write(p / "a.onnx", channels=1), Takes()),
        (lambda p: write(p / "a.onnx", maps=True), PIXELS),
        (lambda p: write(p / "a.onnx", batch=4), PIXELS),
        (lambda p: write(p / "a.onnx", open_size=True), Takes(size=(24, 32))),
        (lambda p: write(p / "a.onnx", inside=True), Takes()),
        (lambda p: write_onnx(p / "a.onnx", kind=TensorProto.UINT8), Takes()),
        (lambda p: write_onnx(p / "a.onnx", kind=TensorProto.FLOAT16), PIXELS),
        (lambda p: write_onnx(p / "a.onnx", outputs=2), PIXELS),
        (lambda p: write_onnx(p / "a.onnx", layout="NHWC"), PIXELS),
        (lambda p: write_ir(p / "a.xml", half=True), Takes(colours="BGR")),
        (lambda p: shutil.copy(TFLITE, p / "a.tflite"), Takes()),
    ],
)
def test_networks_of_many_kinds(tmp_path, make, takes):
    path = make(tmp_path)
    report = quantize_file(path, takes=takes, images=8, calibrate=["mixed"])
    network = read_network(path, takes)
    model = ov.Core().read_model(tmp_path / "a_int8/a_int8.xml")
    assert any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
    assert model.input(0).get_element_type() == network.model.input(0).get_element_type()
    assert {row["output"] for row in report.checks} == set(network.outputs)
    assert min(row["snr_db"] for row in report.checks) > 5, report.checks
    maps = [row["agreement"] is None for row in report.checks]
    assert any(maps) == (not all(network.classifies))


def test_what_a_network_takes_is_found_out(tmp_path):
    assert inner_scale(ov.Core().read_model(write(tmp_path / "a.onnx", inside=True))) == 255
    assert inner_scale(ov.Core().read_model(write(tmp_path / "b.onnx"))) is None
    assert "assumed" in read_network(tmp_path / "b.onnx", Takes()).words
    assert read_network(tmp_path / "a.onnx", Takes()).words.startswith("values 0 … 255")
    assert read_network(TFLITE, Takes()).layout == "NHWC"


def test_images_reach_the_network_as_said(tmp_path):
    image = np.zeros((1, 3, 40, 56), np.uint8)
    image[:, 0], image[:, 1], image[:, 2] = 255, 102, 51
    takes = Takes(mean=(0.2, 0.4, 1), std=(0.5, 1, 2), colours="BGR")
    fed = read_network(write(tmp_path / "a.onnx"), takes).feed(image)
    np.testing.assert_allclose(fed[0, :, 0, 0], [0, 0, 0], atol=1e-6)
    grey = read_network(write(tmp_path / "b.onnx", channels=1), PIXELS).feed(image)
    assert grey.shape == (1, 1, 40, 56) and grey[0, 0, 0, 0] == round(76.245 + 59.874 + 5.814)


@pytest.mark.parametrize(
    ("options", "takes", "low", "high"),
    [
        ({}, Takes(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5)), [-2], [2]),
        ({"channels": 1}, Takes(input_max=255), [0], [255]),
        ({"inside": True}, Takes(input_max=255), [-1], [1]),
        (
            {"depthwise": True},
            Takes(mean=(0, 0.5, 0.5), std=(0.5, 0.25, 0.5)),
            [0, -2, -1],
            [2, 2, 1],
        ),
    ],
)
def test_the_input_is_not_clipped_whatever_calibrates(tmp_path, options, takes, low, high):
    network = read_network(write(tmp_path / "net.onnx", **options), takes)
    model = quantize(network, make_images("grey", 2, (40, 56), 0), "fast")
    first = activation_quantizers(model)[0]
    step = 1.01 * (np.array(high) - low) / (first.levels - 1)
    assert len(first.low) == len(low) and affine_of_input(first.operation.input_value(0))
    assert (np.abs(first.low - low) <= step).all() and (np.abs(first.high - high) <= step).all()
    zero = first.low / (first.high - first.low) * (first.levels - 1)
    np.testing.assert_allclose(zero, np.round(zero), atol=1e-3)
    assert not any(
        affine_of_input(quantizer.operation.input_value(0))
        for quantizer in activation_quantizers(model)[1:]
    )


def test_layers_return_to_floating_point_until_the_bound_holds(tmp_path):
    path = write(tmp_path / "net.onnx")
    takes, kind = PIXELS, ["grey"]
    loose = quantize_file(path, takes=takes, images=8, calibrate=kind)
    bound = quantize_file(
        path, takes=takes, images=8, calibrate=kind, max_drop=0.02, out=tmp_path / "bound"
    )
    assert loose.restored == 0 and bound.restored > 0
    worst = [min(row["agreement"] for row in each.checks) for each in (loose, bound)]
    assert worst[1] > worst[0]


def test_a_folder_both_calibrates_and_checks_with_other_images(tmp_path):
    for k in range(10):
        Image.new("RGB", (20 + k, 30), (k, 0, 0)).save(tmp_path / f"{k}.png")
    network = read_network(write(tmp_path / "net.onnx"), PIXELS)
    sets, checks = gather(network, [str(tmp_path)], 300, [str(tmp_path)], 0)
    seen = {int(image[0, 0, 0]) for image in sets[str(tmp_path)]}
    check = checks[str(tmp_path)]
    other = {int(i[0, 0, 0]) for images in (check.judged, check.reported) for i in images}
    assert len(seen) == 5 and not seen & other and seen | other == set(range(10))


def test_sample_sets_are_folders_of_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 48, 64), dtype=np.uint8)
    SampleSet(images, np.zeros(6, np.int64), info={"class_names": ["a"]}).save(tmp_path / "set")
    save_one_file(SampleSet.load(tmp_path / "set"), tmp_path / "set.safetensors")
    for place in (tmp_path / "set", find_kind(str(tmp_path / "set.safetensors"))):
        found = Folder(place, 0).read(0, 6, (48, 64))
        assert sorted(image.tobytes() for image in found) == sorted(i.tobytes() for i in images)
    save_tensors(tmp_path / "weights.safetensors", {"images": torch.zeros(1)}, {})
    with pytest.raises(StudyError, match="holds no images and labels"):
        Folder(tmp_path / "weights.safetensors", 0)


def test_signal_to_noise_by_hand():
    assert decibels(100.0, 1.0) == 20 and decibels(1.0, 0.0) is None


def test_equal_networks_have_no_error(tmp_path):
    network = read_network(write(tmp_path / "net.onnx"), PIXELS)
    images = make_images("noise", 5, (40, 56), 0)
    found = compare(network, {"same": network.model}, images)
    assert found == {"same": [{"snr_db": None, "agreement": 1.0, "classes": 1}]}


def two_inputs(path):
    x = ov.opset13.parameter([1, 3, 32, 32], np.float32)
    y = ov.opset13.parameter([1, 3, 32, 32], np.float32)
    ov.save_model(ov.Model([ov.opset13.add(x, y)], [x, y]), path)
    return path


def unknown_operation(path):
    model = onnx.load(write_onnx(path))
    model.graph.node[2].op_type = "Mystery"
    onnx.save(model, path)
    return path


def quantized(path):
    quantize_file(write(path), takes=PIXELS, images=4)
    return path.with_name(f"{path.stem}_int8") / f"{path.stem}_int8.xml"


FAULTS = {
    "two inputs": (lambda p: two_inputs(p / "a.xml"), {}, "has 2 inputs"),
    "channels": (lambda p: write(p / "a.onnx", channels=4), {}, "images of 1 or 3 channels"),
    "any size": (lambda p: write(p / "a.onnx", open_size=True), {}, "such as --size 224x224"),
    "operation": (lambda p: unknown_operation(p / "a.onnx"), {}, "cannot be read .*Mystery"),
    "quantized": (lambda p: quantized(p / "a.onnx"), {}, "is quantized already"),
    "missing": (lambda p: p / "none.onnx", {}, "none.onnx is missing"),
    "mean": (
        lambda p: write(p / "a.onnx"),
        {"takes": Takes(mean=(0.5,))},
        "takes 3, one a",
    ),
    "layout": (lambda p: write(p / "a.onnx"), {"takes": Takes(layout="NHWC")}, "is --layout right"),
    "kind": (lambda p: write(p / "a.onnx"), {"calibrate": ["cats"]}, "cats is no folder"),
    "zeroq": (lambda p: write(p / "a.onnx"), {"calibrate": ["zeroq"]}, "fold into the layers"),
    "drop": (lambda p: write(p / "a.onnx", maps=True), {"max_drop": 0.01}, "gives none: leave"),
    "share": (lambda p: write(p / "a.onnx"), {"max_drop": 2}, "2 is no share of images"),
    "folder": (lambda p: p, {}, "is no network: give a file that ends in .onnx"),
    "ending": (lambda p: p / "a.py", {}, "is no network: give a file that ends in .onnx"),
    "colours": (
        lambda p: write(p / "a.onnx", channels=1),
        {"takes": Takes(colours="BGR")},
        "takes one channel",
    ),
    "out": (lambda p: write(p / "a.onnx"), {"out": "/proc/x"}, "cannot be written to"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_do_is_said_in_one_line(tmp_path, name):
    make, options, message = FAULTS[name]
    path = make(tmp_path)
    with pytest.raises(StudyError, match=message) as error:
        quantize_file(path, **options)
    assert "\n" not in str(error.value)


def test_empty_folders_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    path = write(tmp_path / "a.onnx")
    with pytest.raises(StudyError, match="empty has no images"):
        quantize_file(path, calibrate=[str(tmp_path / "empty")])


def test_command_line(tmp_path, capsys):
    path = write(tmp_path / "net.onnx")
    arguments = ["quantize", str(path), "-n", "4", "--mean", "0,0,0", "--std", "1,1,1"]
    assert main([*arguments, "--calibrate", "noise,fractal", "--out", str(tmp_path / "o")]) == 0
    assert "# net.onnx in INT8" in capsys.readouterr().out
    assert main(["quantize", str(tmp_path / "none.onnx")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [(["--size", "224"], "such as 224x224"), (["--mean", "a,b"], "such as 0.5,0.5,0.5")],
)
def test_the_command_line_says_how_numbers_are_given(capsys, words, remedy):
    with pytest.raises(SystemExit):
        main(["quantize", "net.onnx", *words])
    assert remedy in capsys.readouterr().err


def test_outputs_that_have_no_row_for_each_image_are_refused(tmp_path):
    model = onnx.load(write(tmp_path / "a.onnx"))
    model.graph.node.append(onnx.helper.make_node("NonZero", ["y"], ["where"]))
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("where", TensorProto.INT64, [2, None])
    )
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(StudyError, match="not a row an image"):
        quantize_file(tmp_path / "a.onnx", takes=PIXELS, images=4)
    model = onnx.load(write(tmp_path / "b.onnx"))
    model.graph.node.append(onnx.helper.make_node("Log", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    onnx.save(model, tmp_path / "b.onnx")
    with pytest.raises(StudyError, match="NaN or infinity"):
        quantize_file(tmp_path / "b.onnx", takes=PIXELS, images=4)


def test_folders_that_share_images_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "in/a.png")
    network = read_network(write(tmp_path / "net.onnx"), PIXELS)
    with pytest.raises(StudyError, match="name folders that share no images"):
        gather(network, [str(tmp_path)], 9, [str(tmp_path / "in")], 0)
    with pytest.raises(StudyError, match="has one image"):
        gather(network, [str(tmp_path / "in")], 9, [str(tmp_path / "in")], 0)


def test_names_from_a_file_become_no_code(tmp_path):
    model = onnx.load(write(tmp_path / "a.onnx"))
    name = "y\nimport os; os.abort()|`"
    model.graph.node[-1].output[0] = model.graph.output[0].name = name
    onnx.save(model, tmp_path / "a.onnx")
    page = quantize_file(tmp_path / "a.onnx", takes=PIXELS, images=4).page()
    assert "\nimport os" not in page
    compile(page.split("```python\n")[1].split("```")[0], "snippet", "exec")


def test_the_assumed_mean_follows_the_order_of_the_colours(tmp_path):
    network = read_network(write(tmp_path / "net.onnx"), Takes(colours="BGR"))
    assert network.mean == (0.406, 0.456, 0.485)


def row(
    images=100,
    agreement=None,
    classes=0,
    snr_db=30.0,
    checked="fractals",
    alike=False,
    output="y",
):
    return {
        "output": output,
        "alike": alike,
        "images": images,
        "agreement": agreement,
        "classes": classes,
        "snr_db": snr_db,
        "checked": checked,
    }


def test_the_verdict_says_no_more_than_was_seen():
    good, bad = (
        row(agreement=0.97, classes=9),
        row(agreement=0.68, classes=9, checked="photographs"),
    )
    assert verdict([good], False) == (
        "INT8 gives the class that floating point gives on 97.0% of 100 images (fractals)."
    )
    said = verdict([good | {"alike": True}], False)
    assert said.endswith("the kinds of images that calibrated it: others may do worse.")
    both = verdict([good, bad], False)
    assert "97.0% of 100 images (fractals) and 68.0% of 100 images (photographs)" in both
    assert "little, on images made for the purpose" in both
    assert "--max-drop" in both and "its domain" in both and "--check" in both
    lost = verdict([row(agreement=0.03, classes=9)], False)
    assert "too little to rely on" in lost and "--check" in lost
    given = verdict([bad], True, True)
    assert "too little to rely on" in given and "its domain" not in given
    one = verdict([row(agreement=1.0, classes=1, snr_db=4.0)], False)
    assert "one class, so classes tell nothing" in one and "4.0 dB" in one
    assert "--input-max right?" in one and "--max-drop" not in one
    assert "too little to rely on" in one
    assert "So few images tell little." in verdict([row(5, 1.0, 3)], False)
    assert "1 image (fractals)" in verdict([row(1, 1.0, 3)], False)
    maps = verdict([row(snr_db=15.0)], True)
    assert "15.0 dB" in maps and "--max-drop" not in maps and "more images" in maps


def test_the_verdict_tells_of_all_outputs():
    good, maps = row(agreement=0.97, classes=9), row(snr_db=4.0, output="map")
    said = verdict([good, maps], False)
    assert "97.0% of 100 images (fractals, output y)" in said
    assert "4.0 dB on 100 images (fractals, output map)" in said and "too little" in said
    one_class = row(agreement=1.0, classes=1, snr_db=3.0, output="z")
    assert "3.0 dB" in verdict([good, one_class], False)
    both = verdict([row(output="boxes"), row(snr_db=25.0, output="scores")], False)
    assert "output boxes" in both and "output scores" in both and "To do better" not in both


@pytest.mark.parametrize("normalised", [False, True])
def test_values_of_the_wrong_scale_are_doubted(tmp_path, normalised):
    body = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 5, 3), nn.ReLU()]
    torch.manual_seed(0)
    net = nn.Sequential(*body)
    nn.init.uniform_(net[1].bias, -1, 1)
    images = torch.from_numpy(make_images("photographs", 20, (40, 56), 7)).float()
    net(images / 255 * 4 - 2 if normalised else images)
    net[1].momentum = None
    net[1].reset_running_stats()
    net(images / 255 * 4 - 2 if normalised else images)
    with traceable():
        torch.onnx.export(net.eval(), images[:1], tmp_path / "net.onnx", dynamo=False)
    half = Takes(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    for takes in (half, PIXELS):
        doubt = wrong_scale(read_network(tmp_path / "net.onnx", takes))
        assert ("of the wrong scale" in doubt) == ((takes is PIXELS) == normalised), doubt
    report = quantize_file(tmp_path / "net.onnx", takes=PIXELS, images=4)
    assert ("Are --input-max" in report.page()) == normalised


def test_a_layer_of_patches_or_without_bias_tells_no_scale(tmp_path):
    for k, layer in enumerate((nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 3, bias=False))):
        path = tmp_path / f"{k}.onnx"
        with traceable():
            net = nn.Sequential(layer, nn.ReLU()).eval()
            torch.onnx.export(net, torch.zeros(1, 3, 40, 56), path, dynamo=False)
        assert wrong_scale(read_network(path, PIXELS)) == ""


def test_only_its_own_results_are_replaced(tmp_path):
    path, out = write(tmp_path / "net.onnx"), tmp_path / "net_int8"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    quantize_file(path, takes=PIXELS, images=4)
    quantize_file(path, takes=PIXELS, images=4)
    other = shutil.copy(path, tmp_path / "other.onnx")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/net_fp32.bin").write_text("mine")
    for file, folder in ((other, out), (path, tmp_path / "foreign")):
        before = {name.name: name.read_bytes() for name in folder.iterdir()}
        with pytest.raises(StudyError, match="of something else: delete it or name another"):
            quantize_file(file, takes=PIXELS, images=4, out=folder)
        assert before == {name.name: name.read_bytes() for name in folder.iterdir()}


def test_a_run_that_was_broken_off_can_be_run_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    path = write(tmp_path / "net.onnx")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lib.quantization.tool.report.Report.write", killed)
        quantize_file(path, takes=PIXELS, images=4)
    assert (tmp_path / "net_int8/net_int8.xml").exists()
    assert quantize_file(path, takes=PIXELS, images=4).name == "net.onnx"


def test_what_was_not_checked_depends_on_what_was_given():
    assert "It has not seen images of its own domain" in not_checked(False, False, "values")
    assert "It was not checked on images of its own domain" in not_checked(True, False, "values")
    assert "domain" not in not_checked(False, True, "values")
    assert "takes values was assumed" in not_checked(True, True, "values, assumed: say so")


def test_a_folder_is_halved_only_where_something_is_to_be_chosen(tmp_path):
    for k in range(8):
        Image.new("RGB", (60, 60), (k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "@eaDir").mkdir()
    Image.new("RGB", (60, 60), (99, 0, 0)).save(tmp_path / "@eaDir/0.png")
    network = read_network(write(tmp_path / "net.onnx"), PIXELS)
    for decide, reported in ((True, 4), (False, 8)):
        _, checks = gather(network, ["grey"], 3, [str(tmp_path)], 0, decide)
        assert len(checks[str(tmp_path)].reported) == reported


def test_a_constant_over_the_input_is_not_arithmetic_of_pixels():
    x = opset13.parameter([1, 3, 8, 8], name="x")
    assert affine_of_input(opset13.divide(x, opset13.constant(np.float32(2))).output(0))
    assert not affine_of_input(opset13.divide(opset13.constant(np.float32(2)), x).output(0))


def test_what_is_like_the_calibration_does_not_decide(tmp_path):
    network = read_network(write(tmp_path / "net.onnx"), PIXELS)
    for kinds, counts in (
        (["photographs"], [False, True]),
        (["grey", "fractals"], [True, False]),
        (["mixed"], [True, True]),
    ):
        _, checks = gather(network, kinds, 2, [], 0)
        assert [one.counts for one in checks.values()] == counts
    assert alike("mixed", "fractals") and not alike("grey", "photographs")


def test_what_keeps_enough_already_stays_as_it_is(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("accuracy control was called")

    monkeypatch.setattr("nncf.quantize_with_accuracy_control", fail)
    path = write(tmp_path / "net.onnx")
    report = quantize_file(path, takes=PIXELS, images=8, check=["photographs"], max_drop=0.9)
    assert report.restored == 0


def test_layers_that_went_back_are_in_the_report(tmp_path):
    path = write(tmp_path / "net.onnx")
    report = quantize_file(path, takes=PIXELS, images=8, calibrate=["grey"], max_drop=0.02)
    assert f"the inputs of {report.restored} layer" in report.page()
