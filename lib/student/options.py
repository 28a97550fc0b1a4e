"""What can be set of the distillation."""

from typing import Annotated, Literal

from pydantic import Field

from lib.common.options import Count, NotNegative, Positive, checked, option, options
from lib.student.recipes import parse_recipe


@options
class StudentOptions:
    """Training of the student; options that belong to a change count where the recipe has it."""

    recipe: Annotated[str, checked(parse_recipe)] = option(
        "default", "default, or original (as DiStyleGAN was first trained), with changes: +name"
    )
    epochs: Count = option(10, "passes over the teacher's samples")
    batch_size: Annotated[int, Field(ge=2)] = option(32, "images an update")
    ngf: Annotated[int, Field(ge=8)] = option(32, "channels of the generator's first block")
    ndf: Count = option(32, "channels of the discriminator's first block")
    project_dim: Count = option(48, "width of the projections before the class is added")
    learning_rate: Positive = option(
        0.001, "Adam's learning rate, of both networks; the recipe original has 2e-4"
    )
    pixel_weight: NotNegative = option(1.0, "weight of the pixel loss at the start")
    pixel_epochs: Positive = option(10.0, "epochs over which the pixel loss falls to 0")
    adversarial_weight: NotNegative = option(
        0.1, "weight of the adversarial losses, with the change adversarial; else 0.01"
    )
    adversarial_interval: Count = option(
        1, "updates between adversarial losses, with the change adversarial; else 10"
    )
    ema_kimg: Positive = option(
        10.0, "half-life of the averaged generator's weights in thousands of images"
    )
    augment: Literal["none", "translation", "translation,cutout", "color,translation"] = option(
        "none", "differentiable augmentation of what the discriminator sees"
    )
    checkpoint_updates: Count = option(100, "updates between checkpoints", how=True)
