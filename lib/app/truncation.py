"""Truncation as an input of a generator, for each image its own."""

import torch
from torch import Tensor, nn

from lib.common.seeds import torch_generator
from lib.gan.generator import Generator

MAPPED = 2000  # latents a class from which its mean w is taken


class Truncatable(nn.Module):
    """A generator of latents `(n, z_dim)`, class weights `(n, c_dim)` and psi `(n, 1)` in [0, 1].

    Below 1 images are more typical and less varied; at 0 each class has one image. A StyleGAN2
    moves w towards the mean of its class (Karras et al. 2019, arXiv 1812.04948, but class by
    class); DiStyleGAN, which has no w, scales its latents towards their mean, 0. At 1 the images
    are the network's own, with its stored noise.
    """

    def __init__(self, network: nn.Module, seed: int = 1) -> None:
        super().__init__()
        self.network, self.maps = network, isinstance(network, Generator)
        if self.maps:
            draws = torch_generator(seed, "truncation")
            latents = torch.randn(MAPPED, network.z_dim, generator=draws)
            labels = torch.eye(network.c_dim)
            with torch.no_grad():
                means = [
                    network.mapping(latents, c.expand(MAPPED, -1))[:, 0].mean(0) for c in labels
                ]
            self.register_buffer("centres", torch.stack(means))
        self.eval().requires_grad_(False)  # a custom gradient could not be traced

    def forward(self, z: Tensor, c: Tensor, psi: Tensor) -> Tensor:
        """Return images `(n, 3, h, w)` in about [-1, 1]."""
        if not self.maps:
            return self.network(z * psi, c)
        centre = (c @ self.centres)[:, None]
        ws = centre + psi[:, :, None] * (self.network.mapping(z, c) - centre)
        return self.network.synthesis(ws, noise_mode="const", noise_generator=None)
