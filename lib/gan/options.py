"""What can be set of adversarial training, of teacher and student alike."""

from typing import Annotated, Literal

from pydantic import Field

from lib.common.options import Count, NotNegative, Positive, Share, option, options

GROUP = 4
"""Images over which the discriminator takes its minibatch statistics."""


@options
class TrainingOptions:
    """Adversarial training as StyleGAN2-ADA's (Karras et al. 2020, arXiv 2006.06676)."""

    kimg: Positive = option(56.0, "length of the training in thousands of images shown")
    batch_size: Annotated[int, Field(ge=4)] = option(32, f"images per step, a multiple of {GROUP}")
    w_dim: Count = option(64, "length of an intermediate latent")
    mapping_layers: Count = option(2, "layers of the mapping network")
    mapping_lr_multiplier: Positive = option(
        0.1, "scales the learning rate of the generator's mapping network; officially 0.01"
    )
    label_lr_multiplier: Positive = option(
        1.0, "the same for the discriminator's mapping network, which sees the label alone"
    )
    channel_base: Annotated[int, Field(ge=32)] = option(
        512, "channels at resolution r are this over r, at most channel_max"
    )
    channel_max: Count = option(64, "most channels at any resolution")
    learning_rate: Positive = option(0.003, "Adam's learning rate, of both networks")
    r1_gamma: NotNegative = option(0.3, "weight of the R1 penalty")
    r1_interval: Count = option(16, "steps between R1 penalties")
    ema_kimg: Positive = option(
        10.0, "half-life of the averaged generator's weights in thousands of images"
    )
    ada_target: Share = option(0.6, "sign of overfitting r_t that the augmentation holds")
    ada_kimg: Positive = option(
        500.0, "thousands of images in which the augmentation's probability may go from 0 to 1"
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "precision of the feature maps; bfloat16 is faster on a GPU and on a CPU with "
        "AVX512-BF16 or AMX; a CPU that has neither trains in float32",
    )
    checkpoint_kimg: Positive = option(4.0, "thousands of images between checkpoints", how=True)
