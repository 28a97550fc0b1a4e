"""What can be set of the distillation, and its recipes.

A recipe is a text: "original", "default" (the changes that earn their place: all but residual
blocks and the stronger adversarial loss), or one of these with changes added or taken away, such as
"original+projection" or "default-average". Without any change the training is the original's, with
its own learning rate and weights of the losses.
"""

import re
from typing import Annotated, Literal

from pydantic import Field

from lib.common.errors import StudyError
from lib.common.options import Count, NotNegative, Positive, checked, option, options

CHANGES = {
    "projection": "projection discriminator, which sees the class (Miyato & Koyama 2018)",
    "average": "running average of the generator's weights, of half-life ema_kimg",
    "residual": "residual blocks in the generator",
    "pixel_epochs": "pixel_weight falls to 0 within pixel_epochs, not within 20 updates",
    "one_state": "teacher's and student's features of one state of the discriminator",
    "train_mode": "the generator is in train mode throughout",
    "one_pass": "every image is made once an update, and judged in one pass",
    "augment": "differentiable augmentation of what the discriminator sees, of the kinds that the "
    "option of this name gives (in the default: none)",
    "learning_rate": "learning_rate, not 2e-4",
    "rate_decay": "the learning rate falls to 0 over the second half",
    "adversarial": "adversarial_weight and adversarial_interval, not 0.01 every 10th update",
}
BASES = {"original": frozenset(), "default": frozenset(CHANGES) - {"residual", "adversarial"}}
NEEDS = {"one_pass": {"one_state", "train_mode"}}


def parse_recipe(recipe: str) -> frozenset[str]:
    """Return the changes to the original that `recipe` makes, names of `CHANGES`.

    Raises `StudyError` where a base or change is unknown, or a change lacks one that it builds on.
    """
    base, *signed = re.split(r"(?=[+-])", recipe.replace(" ", ""))
    if base not in BASES:
        raise StudyError(f"recipe: '{base}' is unknown; choose from {', '.join(BASES)}")
    changes = set(BASES[base])
    for sign, name in ((text[0], text[1:]) for text in signed):
        if name not in CHANGES:
            raise StudyError(f"recipe: change '{name}' is unknown; there are {', '.join(CHANGES)}")
        (changes.add if sign == "+" else changes.discard)(name)
    for name, needed in NEEDS.items():
        if name in changes and not needed <= changes:
            raise StudyError(f"recipe: {name} needs {' and '.join(sorted(needed))}: add them too")
    return frozenset(changes)


@options
class StudentOptions:
    """Training of the student; options that belong to a change count where the recipe has it."""

    recipe: Annotated[str, checked(parse_recipe)] = option(
        "default", "default, or original (as DiStyleGAN was first trained), with changes: +name"
    )
    epochs: Count = option(10, "passes over the teacher's samples")
    batch_size: Annotated[int, Field(ge=2)] = option(32, "images per update")
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
