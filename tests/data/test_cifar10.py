"""CIFAR-10's binary version: found, compared with its author's, faults named."""

import hashlib
import tarfile

import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.data import cifar10
from lib.data.cifar10 import ARCHIVE, FOLDER, check_cifar10, load_cifar10


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """A folder like the binary version, of 20 images a batch, whose sums are taken for right."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(cifar10, "BATCH", 20)
    (tmp_path / FOLDER).mkdir()
    sums = {}
    for name in cifar10.SHA1:
        records = rng.integers(0, 256, (20, cifar10.RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (tmp_path / FOLDER / name).write_bytes(records.tobytes())
        sums[name] = hashlib.sha1(records.tobytes()).hexdigest()
    monkeypatch.setattr(cifar10, "SHA1", sums)
    return tmp_path / FOLDER


def test_folder_and_archive_are_read_in_the_official_order(batches, tmp_path):
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / ARCHIVE, "w:gz") as archive:
        archive.add(batches, FOLDER)
    places = (tmp_path, batches, tmp_path / "packed", tmp_path / "packed" / ARCHIVE)
    for place in places:
        train, test = load_cifar10(place)
        assert (len(train), len(test), train.class_names[5]) == (100, 20, "dog")
        second = np.frombuffer((batches / "data_batch_2.bin").read_bytes(), np.uint8)
        record = second.reshape(20, -1)[3]
        np.testing.assert_array_equal(train.images[23].flatten(), record[1:])
        assert train.labels[23] == record[0] == 3
        assert test.info["data"] == "CIFAR-10"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:], "is damaged: its SHA-1 is not"),
        (lambda b: b[:-1], "has 61,459 bytes, not 61,460: it is cut off"),
        (lambda b: b[: 3 * cifar10.RECORD] + b"\x0b" + b[3 * cifar10.RECORD + 1 :], "label of 11"),
        (lambda b: b"\x80\x02}q\x01", "is of the Python version, not of the binary one"),
    ],
)
def test_batches_that_are_not_the_authors_are_refused_by_name(batches, fault, message):
    path = batches / "data_batch_3.bin"
    path.write_bytes(fault(path.read_bytes()))
    for read in (load_cifar10, check_cifar10):
        with pytest.raises(StudyError, match=f"data_batch_3.bin .*{message}.*get it again from"):
            read(batches)


def test_missing_batches_are_named(batches):
    (batches / "test_batch.bin").rename(batches / "test_batch")
    with pytest.raises(StudyError, match=r"lacks test_batch.bin \(here is the Python version"):
        load_cifar10(batches.parent)
    (batches / "test_batch").unlink()
    with pytest.raises(StudyError, match="lacks test_batch.bin: put there what cifar-10-binary"):
        load_cifar10(batches.parent)
