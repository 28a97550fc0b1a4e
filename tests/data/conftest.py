from PIL import Image

OPTIONS = {
    "data": "digits",
    "data_dir": "",
    "source": "",
    "name": "",
    "seed": 1,
    "test_images": 600,
}


def write_tree(folder, classes=("cat", "dog"), side=32, n=3):
    for split in ("train", "test"):
        for value, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(n):
                pixel = (10 * value, index, 200)
                Image.new("RGB", (side, side), pixel).save(folder / split / name / f"{index}.png")
    return folder
