"""The study's own training of the student: the teacher's game, with its samples as the data."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.common.processes import rank, share_batch_norm
from lib.common.seeds import derive_seed
from lib.common.tensors import load_tensors
from lib.data.samples import SampleSet
from lib.gan.adversarial import AdversarialTraining, build_discriminator
from lib.gan.batches import Batches
from lib.gan.options import GROUP
from lib.gan.training import Losses
from lib.student.batches import first_latents
from lib.student.build import build_student, student_record
from lib.student.options import StudentOptions

MAP_WEIGHTS = (1 / 8, 1 / 4, 1.0)  # of the discriminator's maps at 16×16, 8×8 and 4×4


class StudentTraining(AdversarialTraining):
    """The game with a teacher's samples in the place of real images, paired by their latents."""

    columns = (*AdversarialTraining.columns, "pair_features", "pair_pixels")
    keeps_moments = True

    def __init__(
        self,
        samples: SampleSet,
        real: SampleSet | None,
        seed: int,
        options: StudentOptions,
        device: str = "cpu",
    ):
        same = "student", seed, options.batch_size, device
        batches = Batches(samples, *same)
        self.sample_latents = torch.from_numpy(samples.latents)
        self.real = None if real is None else Batches(real, *same)
        record = student_record(samples, options)
        widths = options.discriminator_base, options.discriminator_max
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "student networks"))
            generator = share_batch_norm(build_student(record))
            discriminator = build_discriminator(options, batches.classes, 32, *widths)
        networks = {"generator": generator, "discriminator": discriminator}
        super().__init__(batches, options, networks, record, device)
        self.latents = first_latents(samples, self.snapshots.labels)

    def generate(self, step: int, labels: Tensor) -> Tensor:
        """Draw images of the latents that the teacher drew the batch from."""
        z = self.sample_latents[torch.from_numpy(self.batches.index(step))]
        return self.generator(z.to(self.device), labels)

    def judged(self, step: int, images: Tensor) -> Tensor:
        """Replace `real_share` of the groups of samples by real images of the same classes."""
        if self.real is None:
            return images
        groups = self.options.batch_size // GROUP
        chosen = self.batches.rows % groups < round(self.options.real_share * groups)
        chosen = chosen.to(self.device)[:, None, None, None]
        return torch.where(chosen, self.real.real(step)[0], images)

    def write(self, out: Path) -> None:
        """Write the results; the student is the mean of the last `final_moments`.

        The learning rate is constant to the end: a longer mean steadies the weights (Izmailov et
        al. 2018, arXiv 1803.05407).
        """
        files = sorted((out / "moments").iterdir())[-self.options.final_moments :]
        if len(files) > 1 and rank() == 0:
            moments = [load_tensors(file)[0] for file in files]
            mean = {k: torch.stack([m[k].float() for m in moments]).mean(0) for k in moments[0]}
            self.average.load_state_dict(mean)
        super().write(out)

    def pairing(
        self, step: int, fake: Tensor, maps: list[Tensor], images: Tensor, labels: Tensor
    ) -> tuple[Tensor | float, Losses]:
        """Return the distance (L1) to the teacher's images: of pixels and of feature maps.

        Both are seen under the same augmentation (Chang & Lu 2020, arXiv 2009.13829, whose
        distance is that of features); its weight falls linearly to 0.
        """
        o = self.options
        left = 1 - step * o.batch_size / (o.pairing_kimg * 1000)
        if o.pairing_weight == 0 or left <= 0:
            return 0.0, {}
        with torch.no_grad():
            shown = self.show(images, "generator", step)
            target, _ = self.discriminator.maps_and_logits(shown, labels)
        pairs = zip(MAP_WEIGHTS, maps, target, strict=True)
        features = sum(w * F.l1_loss(mine.float(), other.float()) for w, mine, other in pairs)
        pixels = F.l1_loss(fake, images)
        loss = o.pairing_weight * left * (features + pixels)
        return loss, {"pair_features": features, "pair_pixels": pixels}
