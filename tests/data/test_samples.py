import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.data.samples import SampleSet, write_shards

INFO = {"class_names": ["a", "b"], "data": "test"}


def draw(shard, start, stop):
    rng = np.random.default_rng(shard)
    n = stop - start
    return {
        "images": rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8),
        "labels": np.arange(start, stop, dtype=np.int64) % 2,
        "latents": rng.standard_normal((n, 4), dtype=np.float32),
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip_keeps_arrays_and_record(tmp_path):
    write_shards(tmp_path, 7, 3, draw, INFO)
    samples = SampleSet.load(tmp_path)
    assert len(samples) == 7
    assert samples.info == INFO
    np.testing.assert_array_equal(samples.images[3:6], draw(1, 3, 6)["images"])
    np.testing.assert_array_equal(samples.latents[6:], draw(2, 6, 7)["latents"])
    samples.subset(np.array([6, 0])).save(tmp_path / "part")
    np.testing.assert_array_equal(SampleSet.load(tmp_path / "part").images, samples.images[[6, 0]])


def test_interrupted_writing_resumes_to_the_same_bytes(tmp_path):
    write_shards(tmp_path / "whole", 7, 3, draw, INFO)

    def interrupted(shard, start, stop):
        if shard == 2:
            raise KeyboardInterrupt
        return draw(shard, start, stop)

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "parts", 7, 3, interrupted, INFO)
    drawn = []
    write_shards(tmp_path / "parts", 7, 3, lambda *a: drawn.append(a[0]) or draw(*a), INFO)
    assert drawn == [2]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damaged_shard_is_named_and_made_again(tmp_path, damage):
    write_shards(tmp_path, 7, 3, draw, INFO)
    expected = contents(tmp_path)
    path = tmp_path / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-100])
    with pytest.raises(StudyError, match="shard-00001.safetensors is damaged"):
        SampleSet.load(tmp_path)
    write_shards(tmp_path, 7, 3, draw, INFO)
    assert contents(tmp_path) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((2, 28, 28, 3), np.uint8)}, "images have shape"),
        ({"images": np.zeros((2, 3, 32, 32), np.float32)}, "images are float32"),
        ({"labels": np.zeros(3, np.int64)}, "numbers of images"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    arrays = {"images": np.zeros((2, 3, 32, 32), np.uint8), "labels": np.zeros(2, np.int64)}
    with pytest.raises(StudyError, match=message):
        SampleSet(**(arrays | change), info=INFO)


def test_missing_shard_and_record_are_named(tmp_path):
    with pytest.raises(StudyError, match="samples.json is missing"):
        SampleSet.load(tmp_path)
    write_shards(tmp_path, 7, 3, draw, INFO)
    (tmp_path / "shard-00002.safetensors").unlink()
    with pytest.raises(StudyError, match="shard-00002.safetensors"):
        SampleSet.load(tmp_path)


def test_writing_again_replaces_the_set(tmp_path):
    write_shards(tmp_path, 20, 5, draw, INFO)
    write_shards(tmp_path, 10, 5, draw, INFO)
    assert len(SampleSet.load(tmp_path)) == 10
    assert len(list(tmp_path.glob("shard-*"))) == 2
    samples = SampleSet(**draw(0, 0, 7), info=INFO)
    samples.save(tmp_path, shard_size=5)
    loaded = SampleSet.load(tmp_path)
    np.testing.assert_array_equal(loaded.images, samples.images)
