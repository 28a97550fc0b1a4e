import os

import pytest
from safetensors import SafetensorError

from lib.common.errors import StudyError
from lib.common.files import (
    atomic_path,
    hash_tree,
    read_json,
    read_named,
    replace_folder,
    sha256_json,
    write_json,
)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": 2})
    with pytest.raises(ValueError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert read_json(path) == {"a": 2, "b": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_is_named_whoever_writes(tmp_path):
    full = pytest.raises(StudyError, match="disk full while writing .*a.txt")
    with full, atomic_path(tmp_path / "a.txt"), open("/dev/full", "w") as file:
        file.write("x")
    with full, atomic_path(tmp_path / "a.txt"):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert os.listdir(tmp_path) == []


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StudyError, match="a.json is damaged"):
        read_json(tmp_path / "a.json")
    with pytest.raises(StudyError, match="b.json is missing"):
        read_json(tmp_path / "b.json")


def test_hashes_follow_content_and_not_order(tmp_path):
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    for name in "ba":
        (tmp_path / name).write_text(name)
    assert list(hash_tree(tmp_path)) == ["a", "b"]
    (tmp_path / "b").write_text("other")
    assert len(set(hash_tree(tmp_path).values())) == 2


def test_replaced_folder_holds_the_new_files_alone(tmp_path):
    for name, file in (("new", "n"), ("target", "t")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert os.listdir(tmp_path) == ["target"]
    assert os.listdir(tmp_path / "target") == ["n"]


def test_names_of_classes_stay_text(tmp_path):
    names = ["00", "NA", "null", "1e3", "None"]
    rows = "".join(f"{name},1,\n" for name in names)
    (tmp_path / "table.csv").write_text(f"class,value,missing\n{rows}")
    table = read_named(tmp_path / "table.csv")
    assert table["class"].tolist() == names
    assert table["value"].sum() == 5 and table["missing"].isna().all()
