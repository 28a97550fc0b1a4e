"""Samples of the teacher, in torch and in OpenVINO."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from openvino import Type

from lib.common.errors import StudyError
from lib.common.files import hash_tree
from lib.common.seeds import torch_generator
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet, read_shard, to_uint8
from lib.gan.generator import Generator
from lib.teacher import sampling
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import (
    OpenVinoGenerator,
    choose_backend,
    generate,
    load_teacher,
    open_teacher,
    sample_teacher,
    set_precision,
)
from tests.gan.conftest import DATA, fill, read_keys, tiny_generator, tiny_inputs

SAMPLING = SamplingOptions(
    per_class=7,
    truncation=0.9,
    backend="torch",
    batch_size=4,
    shard_size=9,
)
PROGRESS = [4, 8, 9, 13, 17, 21]  # of 21 images in shards of 9 and batches of 4
UNEVEN = {"channel_base": 200, "channel_max": 24, "conv_clamp": 0.5, "architecture": "resnet"}


def test_loaded_teacher_is_the_trained_average(trained):
    generator, record = open_teacher(trained / "teacher.safetensors")
    assert record["class_names"] == ["dark", "grey", "light"] and record["data"] == "blobs"
    assert (generator.z_dim, generator.c_dim, generator.num_ws) == (8, 3, 8)
    assert not generator.training and not any(p.requires_grad for p in generator.parameters())
    tensors, _ = load_tensors(trained / "snapshots.safetensors")
    z = torch.randn(12, 8, generator=torch_generator(3, "teacher snapshot"))
    images = generator(z, torch.eye(3)[tensors["labels"]], noise_mode="const")
    assert torch.equal(to_uint8(images), tensors["images"][-1])


def test_other_files_are_no_teacher(trained, tmp_path):
    with pytest.raises(StudyError, match="missing"):
        load_teacher(tmp_path / "teacher.safetensors")
    with pytest.raises(StudyError, match=r"ends in .pkl or .safetensors"):
        load_teacher(tmp_path / "teacher.txt")
    with pytest.raises(StudyError, match="holds no teacher"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
        load_teacher(tmp_path / "a.safetensors")
    with pytest.raises(StudyError, match="other weights than its record says"):
        load_teacher(trained / "snapshots.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((trained / "teacher.safetensors").read_bytes()[:5000])
    with pytest.raises(StudyError, match="damaged"):
        load_teacher(cut)


def test_a_record_that_asks_for_more_than_the_weights_is_refused(trained, tmp_path):
    state, record = load_tensors(trained / "teacher.safetensors")
    for change in ({"z_dim": 10**9}, {"z_dim": "64"}, {"depth": 3}, {"w_dim": 128}):
        changed = record | {"generator": record["generator"] | change}
        save_tensors(tmp_path / "b.safetensors", state, changed)
        with pytest.raises(StudyError, match="b.safetensors"):
            load_teacher(tmp_path / "b.safetensors")


def test_one_call_makes_a_teachers_images(trained):
    generator = load_teacher(trained / "teacher.safetensors")
    z = np.random.default_rng(0).standard_normal((5, generator.z_dim))
    labels = np.arange(5, dtype=np.uint8) % generator.c_dim
    images = generate(generator, z, labels)
    assert images.shape == (5, 3, 32, 32) and images.dtype == np.uint8
    assert np.array_equal(images, generate(generator, z, labels, batch_size=2))
    assert not np.array_equal(images, generate(generator, z, (labels + 1) % generator.c_dim))


def sample(trained, out, seed=5, **changes) -> SampleSet:
    options = replace(SAMPLING, **changes)
    sample_teacher(out, teacher=trained / "teacher.safetensors", seed=seed, options=options)
    return SampleSet.load(out)


def test_samples_are_balanced_and_recorded(trained, tmp_path):
    samples = sample(trained, tmp_path)
    assert samples.images.shape == (21, 3, 32, 32) and samples.latents.shape == (21, 8)
    assert np.bincount(samples.labels).tolist() == [7, 7, 7]
    shard, _ = read_shard(tmp_path / "shard-00001.safetensors")
    assert np.bincount(shard["labels"]).tolist() == [3, 3, 3]
    assert samples.class_names == ["dark", "grey", "light"]
    assert samples.info["truncation"] == 0.9 and samples.info["latent_distribution"] == "normal"
    generator = load_teacher(trained / "teacher.safetensors")
    labels = torch.eye(3)[samples.labels]
    images = generator(torch.from_numpy(samples.latents), labels, 0.9, noise_mode="const")
    difference = to_uint8(images).int() - torch.from_numpy(samples.images).int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("noise_mode", ["const", "random"])
def test_batches_do_not_change_the_samples(trained, tmp_path, noise_mode):
    one = sample(trained, tmp_path / "a", noise_mode=noise_mode)
    two = sample(trained, tmp_path / "b", noise_mode=noise_mode, batch_size=9)
    assert np.array_equal(one.latents, two.latents)
    assert np.abs(one.images.astype(int) - two.images.astype(int)).max() <= 1


def test_sampling_resumes_to_the_same_bytes_unless_the_seed_is_another(trained, tmp_path):
    sample(trained, tmp_path / "a")
    sample(trained, tmp_path / "b")
    (tmp_path / "b" / "samples.json").unlink()
    (tmp_path / "b" / "shard-00001.safetensors").unlink()
    kept = (tmp_path / "b" / "shard-00000.safetensors").stat().st_mtime_ns
    sample(trained, tmp_path / "b")
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")
    assert (tmp_path / "b" / "shard-00000.safetensors").stat().st_mtime_ns == kept
    for name in "bc":
        sample(trained, tmp_path / name, seed=99)
    assert hash_tree(tmp_path / "b") == hash_tree(tmp_path / "c") != hash_tree(tmp_path / "a")


def test_sampling_options_matter(trained, tmp_path):
    base = sample(trained, tmp_path / "base")
    for name, value in [("seed", 6), ("truncation", 0.3), ("latent_distribution", "uniform")]:
        other = sample(trained, tmp_path / name, **{name: value})
        assert not np.array_equal(other.images, base.images), name


def test_a_sample_takes_few_bytes_beside_its_numbers(trained, tmp_path):
    """50,000 samples with latents of 512 numbers must fit into 300 MB."""
    sample(trained, tmp_path, per_class=300, shard_size=900, batch_size=300)
    disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    overhead = disk / 900 - (3 * 32 * 32 + 8 + 4 * 8)
    assert overhead < 2
    assert 50_000 * (3 * 32 * 32 + 8 + 4 * 512 + overhead) < 300e6


def test_progress_of_sampling_is_in_images(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lib.common.progress.PAUSE", 0)
    monkeypatch.setattr("lib.common.progress.person_watches", lambda: False)
    sample(trained, tmp_path / "x")
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("teacher: 21 images in ") and last.endswith("/s")
    assert [line.split(",")[0] for line in lines] == [f"teacher: {n}/21 images" for n in PROGRESS]
    assert all("/s, " in line and line.endswith(" s left") for line in lines)


def test_backends_make_the_same_images(trained, tmp_path):
    one = sample(trained, tmp_path / "a", backend="openvino")
    two = sample(trained, tmp_path / "b", backend="torch")
    assert np.array_equal(one.latents, two.latents) and one.info == two.info
    assert np.abs(one.images.astype(int) - two.images.astype(int)).max() <= 1


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_half_precision_needs_a_gpu(trained, backend):
    generator = load_teacher(trained / "teacher.safetensors")
    with pytest.raises(StudyError, match="float16 needs device: cuda"):
        choose_backend(generator, backend, "float16", batch_size=4)


def test_half_precision_is_where_the_network_marks_it():
    generator = load_teacher(DATA / "tiny_p4.pkl")
    blocks = [getattr(generator.synthesis, f"b{side}") for side in (4, 8, 16, 32)]
    assert [block.use_fp16 for block in blocks] == [False, True, True, True]
    gpu = torch.device("cuda")
    for precision in ("float16", "float32"):
        set_precision(generator, precision, gpu)
        types = [torch.float32] + 3 * [getattr(torch, precision)]
        assert [block.precision for block in blocks] == types
    for block in blocks:
        block.use_fp16 = False
    with pytest.raises(StudyError, match="marks no blocks"):
        set_precision(generator, "float16", gpu)


def test_images_are_those_of_the_original():
    generator = fill(Generator(**read_keys("small")["init_kwargs"])).eval().requires_grad_(False)
    reference = np.load(DATA / "small.npz")
    z, c = torch.from_numpy(reference["z"]), torch.from_numpy(reference["labels"])
    for name, options in (
        ("img_psi0.7_const", {"truncation": 0.7, "noise_mode": "const"}),
        ("img_psi1_none", {"truncation": 1.0, "noise_mode": "none"}),
    ):
        converted = OpenVinoGenerator(generator, batch_size=8, **options)
        assert np.abs(converted(z, c).numpy() - reference[name]).max() < 1e-3, name
        compiled = converted.request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == Type.f32


@pytest.mark.parametrize(
    "options",
    [{"c_dim": 0}, {"synthesis": UNEVEN}],
    ids=["no labels", "uneven"],
)
def test_random_noise_is_that_of_each_image(options):
    generator = tiny_generator(**options).requires_grad_(False)
    z, c = tiny_inputs(3)
    converted = OpenVinoGenerator(generator, truncation=0.7, noise_mode="random", batch_size=4)

    def sources():
        return [torch.Generator().manual_seed(image) for image in range(3)]

    found = converted(z, c, sources())
    noise = {"noise_mode": "random", "noise_generator": sources()}
    expected = generator(z, c, truncation_psi=0.7, **noise)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        converted(z[:1], c[:1], sources()[:1]), expected[:1], atol=1e-5, rtol=0
    )


def test_other_images_than_torchs_are_noticed(monkeypatch):
    monkeypatch.setattr(sampling, "TOLERANCE", 1e-12)
    generator = tiny_generator().requires_grad_(False)
    with pytest.raises(StudyError, match="differs from torch by .*sampling_backend: torch"):
        OpenVinoGenerator(generator, truncation=1.0, noise_mode="const", batch_size=4)
