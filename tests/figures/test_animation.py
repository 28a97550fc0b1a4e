"""The GIF of a training."""

import numpy as np
from PIL import Image

from lib.figures.animation import TITLE_HEIGHT, training_frames, write_gif


def test_gif_shows_every_frame_unstretched(tmp_path):
    images = np.zeros((3, 4, 3, 32, 32), np.uint8)
    images[1] += 100
    images[2] += 180
    frames = training_frames(images, ["epoch 0", "epoch 1", "epoch 2"], columns=2)
    write_gif(tmp_path / "training.gif", frames)
    with Image.open(tmp_path / "training.gif") as gif:
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        shown, titles = [], []
        for k in range(3):
            gif.seek(k)
            frame = np.asarray(gif.convert("RGB")).astype(int)
            shown.append(frame[TITLE_HEIGHT + 20, 20].tolist())
            titles.append(frame[:TITLE_HEIGHT].tobytes())
    assert np.abs(np.array(shown) - [[0] * 3, [100] * 3, [180] * 3]).max() <= 1
    assert len(set(titles)) == 3
