"""What can be set of the distillation."""

from typing import Annotated, Literal

from pydantic import Field

from lib.common.options import Count, NotNegative, Positive, Share, option, options
from lib.gan.options import TrainingOptions


@options
class StudentOptions(TrainingOptions):
    """Training of the student.

    The recipe `original` has its own learning rate and losses: of these options it takes kimg,
    batch_size and the three sizes of DiStyleGAN's networks.
    """

    recipe: Literal["default", "original"] = option(
        "default", "how the student is trained: default, or original, as DiStyleGAN first was"
    )
    generator: Literal["modulated", "distylegan"] = option(
        "modulated", "the recipe default's generator: a small StyleGAN2, or the original's"
    )
    channel_base: Annotated[int, Field(ge=32)] = option(
        352, "channels of the generator at resolution r are this over r, at most channel_max"
    )
    channel_max: Count = option(44, "most channels of the generator at any resolution")
    discriminator_base: Annotated[int, Field(ge=32)] = option(
        512, "channels of the discriminator at resolution r are this over r"
    )
    discriminator_max: Count = option(64, "most channels of the discriminator")
    pairing_weight: NotNegative = option(
        1.0, "weight at the start of the distance to the teacher's image of the same latent"
    )
    pairing_kimg: Positive = option(20.0, "thousands of images over which that weight falls to 0")
    real_share: Share = option(
        0.0, "share of real images among those that the discriminator takes for real"
    )
    final_moments: Annotated[int, Field(ge=1, le=15)] = option(
        1, "how many of the last of the 16 moments kept of the training are averaged in the student"
    )
    ngf: Annotated[int, Field(ge=8)] = option(32, "channels of DiStyleGAN's first block")
    ndf: Count = option(32, "channels of the original discriminator's first block")
    project_dim: Count = option(48, "width of its projections before the class is added")
