"""What can be set of the teacher's training and of how it is sampled."""

from typing import Literal

from lib.common.options import Count, Truncation, option, options
from lib.gan.options import TrainingOptions


@options
class TeacherOptions(TrainingOptions):
    """Training of a StyleGAN2-ADA teacher; the official CIFAR-10 setting is params/cifar10.yaml."""

    z_dim: Count = option(64, "length of a latent")


@options
class SamplingOptions:
    """How teacher images are drawn; the student's are as many a class."""

    per_class: Count = option(500, "images per class that teacher and student make")
    truncation: Truncation = option(1.0, "truncation psi; 1 is none")
    noise_mode: Literal["const", "random", "none"] = option("const", "the teacher's noise inputs")
    latent_distribution: Literal["normal", "uniform"] = option(
        "normal", "distribution of the latents; the original study drew them uniformly"
    )
    backend: Literal["openvino", "torch"] = option(
        "openvino", "what computes: openvino (fastest on a CPU) or torch (CPU or GPU)"
    )
    precision: Literal["float32", "float16"] = option(
        "float32", "float16 on a GPU, for the blocks that the teacher marks for it"
    )
    batch_size: Count = option(100, "images per forward pass")
    shard_size: Count = option(1000, "images per file; an interrupted run repeats one at most")
