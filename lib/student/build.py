"""Build students: DiStyleGAN as it first was, or a small StyleGAN2."""

from typing import Any

from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.gan.adversarial import build_generator
from lib.gan.generator import Generator as ModulatedGenerator
from lib.student.networks import Generator
from lib.student.options import StudentOptions

SIZES = ("z_dim", "c_dim", "ngf", "project_dim", "nc")
MODULATED = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs")
MODULATED += ("synthesis_kwargs",)
Student = Generator | ModulatedGenerator
"""Maps latents `(n, z_dim)` and one-hot labels `(n, c_dim)` to images `(n, 3, 32, 32)`."""


def build_student(config: dict[str, Any]) -> Student:
    """Build the untrained generator that `config`, such as a student's record, describes."""
    kind, names = (Generator, SIZES) if "ngf" in config else (ModulatedGenerator, MODULATED)
    if missing := [name for name in names if name not in config]:
        raise StudyError(f"student: the configuration lacks {', '.join(missing)}; train it again")
    return kind(**{name: config[name] for name in names})


def student_record(samples: SampleSet, options: StudentOptions) -> dict[str, Any]:
    """Return the record of a student: what it is built from, and what it is trained on."""
    z_dim, classes = samples.latents.shape[1], len(samples.class_names)
    if options.recipe == "original" or options.generator == "distylegan":
        sizes = {"z_dim": z_dim, "c_dim": classes, "nc": 3}
        sizes |= {"ngf": options.ngf, "project_dim": options.project_dim}
    else:  # without noise inputs: its image depends on latent and class alone
        sizes = build_generator(options, z_dim, classes, 32, use_noise=False).config
    about = {"class_names": samples.class_names, "data": samples.info["data"]}
    return sizes | about | {"recipe": options.recipe, "latent_distribution": "normal"}
