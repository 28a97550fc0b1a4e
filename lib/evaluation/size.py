"""How large and how costly a network is."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable and fixed parameters, buffers left out."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_macs(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Return the multiply-accumulates of one forward pass, of convolutions and matrix products.

    Other arithmetic (activations, normalisation) is left out, as is customary. Give inputs of
    batch 1 for the figure of one image.
    """
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() // 2
