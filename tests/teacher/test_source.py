"""Teachers from elsewhere: official files, folders of samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT, sha256_file, write_json
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.gan.generator import Generator
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import load_teacher, open_teacher
from lib.teacher.source import (
    adopt_teacher,
    check_source,
    count_parameters,
    find_teacher,
    latent_distribution,
    licence_note,
    make_teacher_samples,
    source_record,
)

OFFICIAL_LAYOUT = ROOT / "tests" / "fixtures" / "stylegan2" / "tiny_p4.pkl"
NAMES = ["zero", "one", "two"]
SAMPLING = SamplingOptions(per_class=4, shard_size=5, backend="torch", batch_size=10)


@pytest.fixture
def samples_folder(tmp_path):
    """Six images a class in the original project's layout, latents of 16 numbers."""
    draws = torch.Generator().manual_seed(0)
    for label in range(3):
        folder = tmp_path / "published" / f"class_{label}"
        folder.mkdir(parents=True)
        for i in range(6):
            image = np.full((32, 32, 3), 10 * i + label, dtype=np.uint8)
            Image.fromarray(image).save(folder / f"image_{i}.png")
            torch.save(torch.rand(1, 16, generator=draws), folder / f"noise_{i}.pt")
    return tmp_path / "published"


def adopt(out, source, origin, names=NAMES):
    about = source_record(origin, source) | {"class_names": names, "data": "test"}
    adopt_teacher(out, source=source, **about)


def test_a_folder_of_samples_stands_in_for_a_teacher(samples_folder, tmp_path):
    check_source(samples_folder, 3)
    adopt(tmp_path / "teacher", samples_folder, "published")
    assert count_parameters(tmp_path / "teacher") is None
    assert "folder published" in licence_note(tmp_path / "teacher")
    about = {"teacher": tmp_path / "teacher", "seed": 1}
    make_teacher_samples(tmp_path / "out", **about, options=SAMPLING)
    samples = SampleSet.load(tmp_path / "out")
    assert samples.labels.tolist() == [0, 1, 2] * 4
    assert samples.images[:, 0, 0, 0].tolist() == [10 * i + k for i in range(4) for k in range(3)]
    assert samples.class_names == NAMES and samples.info["latent_distribution"] == "uniform"
    stored = torch.load(samples_folder / "class_2" / "noise_1.pt", weights_only=True)
    np.testing.assert_array_equal(samples.latents[5], stored[0].numpy())
    with pytest.raises(StudyError, match="published holds 6 images .* asks for 7: lower it"):
        make_teacher_samples(tmp_path / "more", **about, options=replace(SAMPLING, per_class=7))


def test_unfit_folders_of_samples_are_named(samples_folder, tmp_path):
    with pytest.raises(StudyError, match="class_2 belongs to none of 2 classes"):
        adopt(tmp_path / "x", samples_folder, "published", NAMES[:2])
    with pytest.raises(StudyError, match="class_3 is missing"):
        adopt(tmp_path / "x", samples_folder, "published", [*NAMES, "three"])
    torch.save(torch.zeros(7), samples_folder / "class_1" / "noise_2.pt")
    with pytest.raises(StudyError, match="noise_2.pt holds 7 numbers"):
        adopt(tmp_path / "x", samples_folder, "published")
    (samples_folder / "class_1" / "noise_2.pt").unlink()
    with pytest.raises(StudyError, match="class_1/image_2.png has no noise file"):
        check_source(samples_folder, 3)
    with pytest.raises(StudyError, match="class_0 is missing"):
        check_source(tmp_path, 3)
    assert not (tmp_path / "x").exists()


def test_the_hash_of_a_folder_is_that_of_its_content(samples_folder):
    before = source_record("x", samples_folder)
    assert before == source_record("x", samples_folder) and before["origin"] == "published"
    path = samples_folder / "class_0" / "image_0.png"
    path.rename(path.with_name("image_9.png"))
    assert source_record("x", samples_folder)["sha256"] != before["sha256"]


def test_latent_distributions_are_recognised():
    draws = np.random.default_rng(0)
    for name, latents in (
        ("uniform", draws.random((500, 8))),
        ("normal", draws.standard_normal((500, 8))),
        ("unknown", 5 * draws.standard_normal((500, 8))),
    ):
        assert latent_distribution(latents.astype(np.float32)) == name


def test_official_pickle_becomes_a_teacher_of_named_classes(tmp_path):
    names = [f"class {k}" for k in range(10)]
    adopt(tmp_path, OFFICIAL_LAYOUT, "official", names)
    generator, record = open_teacher(tmp_path / "teacher.safetensors")
    assert record["class_names"] == names
    assert record["sha256"] == sha256_file(OFFICIAL_LAYOUT)
    expected = load_teacher(OFFICIAL_LAYOUT)
    assert count_parameters(tmp_path) == sum(w.numel() for w in expected.parameters())
    z, c = torch.randn(2, generator.z_dim), torch.eye(10)[:2]
    torch.testing.assert_close(
        generator(z, c, noise_mode="const"), expected(z, c, noise_mode="const"), rtol=0, atol=0
    )
    assert "NVIDIA Source Code License" in licence_note(tmp_path)
    adopt(tmp_path / "other", OFFICIAL_LAYOUT, "tiny", names)
    assert "file tiny_p4.pkl" in licence_note(tmp_path / "other")
    with pytest.raises(StudyError, match="trained for 10 classes, the data have 3"):
        adopt(tmp_path, OFFICIAL_LAYOUT, "official")
    with pytest.raises(StudyError, match="trained for 10 classes, the data have 3"):
        check_source(OFFICIAL_LAYOUT, 3)


def test_a_teacher_of_another_size_is_refused_before_work(tmp_path):
    sizes = {"mapping_kwargs": {"num_layers": 1}, "synthesis_kwargs": {"channel_max": 4}}
    generator = Generator(8, 3, 8, 64, 3, *sizes.values())
    record = {"generator": generator.config, "class_names": NAMES, "data": "photographs"}
    save_tensors(tmp_path / "large.safetensors", generator, record)
    with pytest.raises(StudyError, match="makes 64×64 images of 3 channels, the study takes 32×32"):
        check_source(tmp_path / "large.safetensors", 3)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache folder that holds an official file, put there by hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "cache" / "synthetic-calibration-study" / "stylegan2-ada-cifar10.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(OFFICIAL_LAYOUT.read_bytes())
    return path


def test_paths_and_the_official_name(cache):
    assert find_teacher("official") == cache
    assert find_teacher("models/mine.safetensors") == ROOT / "models" / "mine.safetensors"


def test_the_official_file_must_be_the_one_of_the_manifest(cache, tmp_path):
    manifest = tmp_path / "manifest.json"
    options = {"origin": "official", "sha256": sha256_file(cache)}
    write_json(manifest, {"artifacts": {"teacher": {"options": options}}})
    assert find_teacher("official", manifest) == cache
    cache.write_bytes(b"another file")
    cache.with_name(cache.name + ".sha256").unlink()
    with pytest.raises(StudyError, match=f"SHA-256 .* expected {options['sha256']}: delete it"):
        find_teacher("official", manifest)
    write_json(manifest, {"artifacts": {"teacher": {"options": options | {"origin": "a.pkl"}}}})
    assert find_teacher("official", manifest) == cache
