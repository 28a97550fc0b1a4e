"""Sample sets written as `ImageFolder` PNGs and read from the original project's layout."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from lib.common.errors import StudyError
from lib.common.files import hash_tree
from lib.data.layouts import export_image_folder, folder_names, import_sample_folder
from lib.data.samples import SampleSet

NAMES = ["cat", "dog"]


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    latents = rng.standard_normal((5, 7), dtype=np.float32)
    labels = np.array([1, 0, 1, 1, 0])
    return SampleSet(images, labels, latents, {"class_names": NAMES, "data": "test"})


def test_export_is_an_image_folder(samples, tmp_path):
    export_image_folder(samples, tmp_path / "out")
    tree = ImageFolder(str(tmp_path / "out"))
    assert tree.classes == NAMES
    assert tree.targets == [0, 0, 1, 1, 1]
    order = [int(path[-9:-4]) for path, _ in tree.samples]
    assert order == [1, 4, 0, 2, 3]
    for index, (image, _) in zip(order, tree, strict=True):
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), samples.images[index])


def test_export_again_gives_the_same_bytes(samples, tmp_path):
    for name in "aab":
        export_image_folder(samples, tmp_path / name)
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_export_keeps_files_that_are_not_its_own(samples, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="notes.txt is no part of this export"):
        export_image_folder(samples, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_names_that_no_folder_can_have_are_changed_and_said(samples, tmp_path, capsys):
    samples.info["class_names"] = ["4 deer & <b>bold</b>", "../up"]
    export_image_folder(samples, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "4 deer & _b_bold__b_",
        "_.._up",
    }
    assert "note: class '../up' lies in" in capsys.readouterr().out
    names = ["", ".", "a/b", "a\\b", "A_b", "ä" * 300, "x. ", "con\n"]
    found = folder_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert all(0 < len(name.encode()) < 200 and name not in (".", "..") for name in found)
    assert not any(set(name) & set("/\\\n") or name != name.strip() for name in found)
    for names in (["a:b", "a_b_2", "a*b"], ["a", "a_2", "A"], ["con", "nul.txt", "com1", "_con"]):
        found = folder_names(names)
        assert len({name.casefold() for name in found}) == len(names)
        assert not {"con", "nul.txt", "com1"} & set(found)


@pytest.fixture
def original(tmp_path):
    """A folder in the original project's layout: 12 images a class, latents of 6 numbers."""
    batch = torch.arange(2 * 12 * 6.0).reshape(2, 12, 6)
    for k in range(2):
        folder = tmp_path / "set" / f"class_{k}"
        folder.mkdir(parents=True)
        for i in range(12):
            image = np.full((32, 32, 3), 20 * i + k, dtype=np.uint8)
            Image.fromarray(image).save(folder / f"image_{i}.png")
            latent = batch[k, i : i + 1] if i % 2 else batch[k, i].clone()
            torch.save(latent, folder / f"noise_{i}.pt")
    return tmp_path / "set"


def test_original_layout_is_sorted_by_number(original):
    samples = import_sample_folder(original, NAMES)
    assert samples.labels.tolist() == [0] * 12 + [1] * 12
    assert samples.images[:, 0, 0, 0].tolist() == [20 * i + k for k in range(2) for i in range(12)]
    np.testing.assert_array_equal(samples.latents, np.arange(144.0).reshape(24, 6))
    assert samples.latents.dtype == np.float32
    assert samples.latents.base is None
    assert samples.class_names == NAMES


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux shows what is mapped")
def test_slice_of_a_large_batch_costs_only_the_slice(original, monkeypatch):
    path, mapped, real = original / "class_0" / "noise_0.pt", [], torch.load
    batch = torch.arange(60_000.0).reshape(10_000, 6)
    torch.save(batch[7000], path)
    assert path.stat().st_size > 240_000

    def load(*arguments, **options):
        latent = real(*arguments, **options)
        mapped.append(str(path) in Path("/proc/self/maps").read_text())
        return latent

    monkeypatch.setattr(torch, "load", load)
    samples = import_sample_folder(original, NAMES)
    assert samples.latents[0].tolist() == batch[7000].tolist()
    assert mapped[0]  # the file is mapped, not read


def change_noise(original, value, **options):
    path = original / "class_1" / "noise_3.pt"
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 6), "float32 .2, 6., expected one latent"),
        (torch.zeros(()), "class_0/noise_0.pt holds 6"),
        (torch.zeros(0), "expected one latent"),
        (torch.zeros(6, dtype=torch.int64), "int64"),
        (torch.zeros(1, 1, 6), "expected one latent"),
        (torch.zeros(5), r"noise_3.pt holds 5 numbers, .*class_0/noise_0.pt holds 6"),
        (torch.zeros(1).expand(10**9), "1000000000,., expected one latent"),
        (torch.tensor([1.0, float("nan"), 0, 0, 0, 0]), "not finite"),
        (torch.zeros(6).to_sparse(), "no plain tensor"),
        ({"z": torch.zeros(6)}, "no plain tensor"),
        ("text", "no plain tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_unfit_latents_are_named(original, value, message):
    change_noise(original, value)
    with pytest.raises(StudyError, match=message) as caught:
        import_sample_folder(original, NAMES)
    assert "class_1/noise_3.pt" in str(caught.value)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_damaged_and_hostile_latents_are_named(original, tmp_path):
    victim = tmp_path / "victim"
    path = change_noise(original, torch.zeros(6))
    good = path.read_bytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**7)
    change_noise(original, Touch(victim))
    hostile = path.read_bytes()
    old = pickle.dumps(Touch(victim))
    for data in (good[:200], good[:-30], b"", b"junk", file.getvalue(), hostile, old):
        path.write_bytes(data)
        with pytest.raises(StudyError, match=r"class_1/noise_3\.pt .*replace it"):
            import_sample_folder(original, NAMES)
    assert not victim.exists()


def test_missing_and_surplus_files_are_named(original):
    folder = original / "class_1"
    (folder / "noise_3.pt").rename(folder / "noise_99.pt")
    with pytest.raises(StudyError, match="image_3.png has no noise file"):
        import_sample_folder(original, NAMES)
    shutil.copy(folder / "noise_99.pt", folder / "noise_3.pt")
    with pytest.raises(StudyError, match="noise_99.pt has no image file"):
        import_sample_folder(original, NAMES)
    shutil.copy(folder / "image_3.png", folder / "image_99.png")
    with pytest.raises(StudyError, match="class_1 belongs to none of 1 classes"):
        import_sample_folder(original, ["cat"])
    with pytest.raises(StudyError, match="class_2 is missing"):
        import_sample_folder(original, [*NAMES, "owl"])
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(StudyError, match="class_1 is empty"):
        import_sample_folder(original, NAMES)


def test_unfit_images_are_named(original):
    path = original / "class_0" / "image_5.png"
    path.write_bytes(b"junk")
    with pytest.raises(StudyError, match="image_5.png is no image"):
        import_sample_folder(original, NAMES)
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(StudyError, match="image_5.png is 64×64"):
        import_sample_folder(original, NAMES)
