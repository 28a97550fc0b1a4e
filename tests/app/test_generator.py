"""The image generator without a browser: requests, images, pages, downloads, exports."""

import io
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image
from safetensors.numpy import load

from lib.app import widgets as interface
from lib.app.generator import (
    CONFIG,
    FILES,
    ImageGenerator,
    ImagesRequest,
    PathRequest,
    draw_latents,
)
from lib.app.results import compare_models, make_images, make_path
from lib.common.errors import StudyError
from lib.common.files import ROOT, write_json
from lib.common.openvino import convert, save_ir
from tests.app.conftest import SIZES, random_student


@pytest.fixture(scope="module")
def generator(networks):
    return ImageGenerator(networks)


def test_more_images_and_other_classes_change_none_of_those_before(generator):
    few, labels = ImagesRequest((0, 2), 3, seed=5).inputs(generator)
    many, _ = ImagesRequest((2,), 8, seed=5).inputs(generator)
    assert labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert np.array_equal(few[3:], many[:3])
    assert not np.array_equal(few[:3], few[3:])
    other, _ = ImagesRequest((2,), 8, seed=6).inputs(generator)
    assert not np.isin(many, other).any()


@pytest.mark.parametrize("model", FILES)
def test_truncation_to_zero_leaves_one_image_a_class(generator, model):
    z, labels = ImagesRequest((0, 1), 20, seed=1).inputs(generator)
    assert abs(z.std() - 1) < 0.2
    spread = [
        generator.images(z, labels, model, psi).reshape(2, 20, -1).std(axis=1).mean()
        for psi in (0, 0.5, 1)
    ]
    assert spread[0] < 0.01 < spread[1] < spread[2]
    first, second = generator.images(z, labels, model, 0)[[0, 20]].astype(int)
    assert np.abs(first - second).mean() > 1


def test_requests_are_answered_with_their_truncation(generator):
    makes = (
        lambda psi: make_images(generator, ImagesRequest((0, 1), 3, 1, psi)),
        lambda psi: make_path(generator, PathRequest((0, 1), (1, 2), 4, psi)),
        lambda psi: compare_models(generator, ImagesRequest((0,), 3, 1, psi)),
    )
    for make in makes:
        same = [make(psi).files for psi in (0.3, 0.3, 1.0)]
        assert same[0] == same[1] != same[2]


def test_a_folder_of_networks_without_psi_scales_latents(networks, generator, tmp_path):
    for file in networks.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    network = random_student(SIZES)
    example = torch.randn(2, 6), torch.eye(3)[:2]
    save_ir(tmp_path / FILES["student"], convert(network, example, [[-1, 6], [-1, 3]]))
    z, labels = ImagesRequest((0, 1, 2), 3, seed=1).inputs(generator)
    images = ImageGenerator(tmp_path).images(z, labels, psi=0.5)
    with torch.inference_mode():
        raw = network(torch.from_numpy(z / 2), torch.eye(3)[labels]).numpy()
    assert np.abs(images - np.clip(np.rint(raw * 127.5 + 127.5), 0, 255)).max() <= 1


@pytest.mark.parametrize("model", FILES)
def test_batches_and_class_weights_give_the_same_images(generator, model):
    z, labels = ImagesRequest((0, 1, 2), 50, seed=1).inputs(generator)
    images = generator.images(z, labels, model)
    assert images.shape == (150, 3, 32, 32) and images.dtype == np.uint8
    assert images.std() > 4
    alone = generator.images(z[120:121], np.eye(3)[labels[120:121]], model)
    assert np.abs(alone[0].astype(int) - images[120]).max() <= 1


def test_a_network_of_one_batch_size_takes_any_number(networks, generator, tmp_path):
    for file in networks.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = ov.Core().read_model(networks / FILES["teacher"])
    model.reshape({0: [4, 6], 1: [4, 3], 2: [4, 1]})
    save_ir(tmp_path / FILES["teacher"], model)
    z, labels = ImagesRequest((0, 1, 2), 3, seed=1).inputs(generator)
    difference = ImageGenerator(tmp_path).images(z, labels, "teacher").astype(int)
    difference -= generator.images(z, labels, "teacher")
    assert len(difference) == 9 and np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "request_, message",
    [
        (ImagesRequest((), 5, 1), "Classes: choose at least one"),
        (ImagesRequest((3,), 5, 1), "Class: a whole number from 0 to 2"),
        (ImagesRequest((True,), 5, 1), "Class: a whole number"),
        (ImagesRequest((0,), 0, 1), "Images a class.*from 1 to 100, not 0"),
        (ImagesRequest((0,), 101, 1), "from 1 to 100, not 101"),
        (ImagesRequest((0,), 10**30, 1), "from 1 to 100"),
        (ImagesRequest((0,), 5.0, 1), "Images a class: a whole number"),
        (ImagesRequest((0,) * 11, 100, 1), "1,000 at most"),
        (ImagesRequest((0,), 5, -1), "Seed: a whole number"),
        (ImagesRequest((0,), 5, 1, float("nan")), "Truncation: a number from 0 to 1"),
        (ImagesRequest((0,), 5, 1, 1.1), "Truncation"),
        (PathRequest((0, 9), (1, 2), 5), "Class: a whole number"),
        (PathRequest((0, 1), (1, -2), 5), "Last seed"),
        (PathRequest((0, 1), (1, 2), 1), "Steps: a whole number from 2 to 20, not 1"),
    ],
)
def test_requests_out_of_range_are_one_line(generator, request_, message):
    with pytest.raises(StudyError, match=message) as error:
        request_.inputs(generator)
    assert "\n" not in str(error.value) and len(str(error.value)) < 120


def test_a_path_ends_at_both_classes_and_latents(generator):
    z, c = PathRequest((0, 2), (7, 8), 5).inputs(generator)
    assert c[[0, -1]].tolist() == [[1, 0, 0], [0, 0, 1]]
    ends = [draw_latents(seed, 0, 1, 6)[0] for seed in (7, 8)]
    assert np.allclose(z[[0, -1]], ends, atol=1e-5)
    page = make_path(generator, PathRequest((0, 2), (7, 8), 5)).page
    assert page.count("<img") == 5 and "<b>" not in page


def test_a_page_shows_every_image_under_its_class_and_escapes_names(generator):
    result = make_images(generator, ImagesRequest((1, 2), 4, seed=1))
    sections = result.page.split("<section")[1:]
    assert [part.count("<img") for part in sections] == [4, 4]
    assert "Class dog" in sections[0] and "Class &lt;b&gt;bird&lt;/b&gt;" in sections[1]
    assert "<b>" not in result.page
    assert re.match(r"8 images in [\d,]+ ms \([\d,]+ images/s\)", result.words)


def test_the_zip_is_an_image_folder_with_the_latents(generator):
    request = ImagesRequest((1, 2), 3, seed=4, truncation=0.5)
    z, labels = request.inputs(generator)
    files = make_images(generator, request).files
    assert files == make_images(generator, request).files
    with zipfile.ZipFile(io.BytesIO(files["images.zip"])) as archive:
        names = archive.namelist()
        arrays = load(archive.read("latents.safetensors"))
        image = np.array(Image.open(io.BytesIO(archive.read("class-2/00004.png"))))
    assert [name for name in names if name.startswith("dog/")] == [
        f"dog/{i:05d}.png" for i in range(3)
    ]
    assert np.array_equal(arrays["latents"], z) and np.array_equal(arrays["labels"], labels)
    expected = generator.images(z, labels, psi=0.5)[4].transpose(1, 2, 0)
    assert np.abs(image.astype(int) - expected).max() <= 1
    grid = Image.open(io.BytesIO(files["images.png"]))
    assert grid.size == (3 * 34 - 2, 2 * 34 - 2)


def test_all_networks_are_compared_on_the_same_latents(generator):
    result = compare_models(generator, ImagesRequest((0,), 5, seed=1))
    assert [name for name in FILES if f"<h3>{name[0].upper()}{name[1:]} " in result.page] == [
        *FILES
    ]
    assert result.page.count("<img") == 15
    assert result.page.count("grey levels of 255 from the student") == 2


def test_widgets_refuse_and_go_on(generator):
    panel = interface.images_panel(generator, 1)
    side = panel.box.children[0].children
    count = next(w for w in side if getattr(w, "description", "").startswith("Images a class"))
    panel.run()
    before = panel.page.value
    assert before.count("<img") == 3 * count.value
    count.value = 1000
    panel.run()
    assert 'role="alert"' in panel.message.value and panel.page.value == before
    count.value = 2
    panel.button.click()
    assert 'role="status"' in panel.message.value and panel.page.value.count("<img") == 6
    assert not panel.button.disabled and panel.button.description == "Generate"


def test_an_unforeseen_fault_tells_the_person_nothing_of_the_machine(generator, caplog):
    panel = interface.Panel([], "Generate", lambda: 1 / 0)
    panel.run()
    assert "did not work" in panel.message.value and "division" not in panel.message.value
    assert not panel.button.disabled
    assert "ZeroDivisionError" in caplog.text


def test_folders_without_a_student_are_named(tmp_path):
    with pytest.raises(StudyError, match="config.json is missing"):
        ImageGenerator(tmp_path)
    write_json(tmp_path / CONFIG, SIZES)
    with pytest.raises(StudyError, match="holds no student"):
        ImageGenerator(tmp_path)
    (tmp_path / FILES["student"]).write_text("<net")
    with pytest.raises(StudyError, match="student-fp32.xml or its .bin is missing"):
        ImageGenerator(tmp_path)
    (tmp_path / FILES["student"]).with_suffix(".bin").touch()
    with pytest.raises(StudyError, match="student-fp32.xml is damaged"):
        ImageGenerator(tmp_path)


def test_the_page_s_kernels_do_without_torch():
    code = "import sys, lib.app.widgets; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
