"""Take out of the latents what a linear function of the attributes explains."""

from __future__ import annotations

import torch
from torch import Tensor

from training.model import ConditionalVAE


def regress(latent: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
    """The weight f32 [Z, K] and bias f32 [Z] that explain `latent` f32 [N, Z] by `attributes` f32 [N, K] best."""
    design = torch.cat([attributes, torch.ones_like(attributes[:, :1])], dim=1).double()  # [N, K + 1]
    # The pseudo-inverse copes with an attribute that never varies.
    found = torch.linalg.pinv(design) @ latent.double()  # [K + 1, Z]
    return found[:-1].T.float(), found[-1].float()


@torch.no_grad()
def move(model: ConditionalVAE, weight: Tensor, bias: Tensor) -> None:
    """Let the encoder take off weight a + bias more, and the decoder put back as much, in place.

    The KL term drives W towards the regression of the latents on the attributes and does not quite arrive; moving the
    rest in closed form leaves latents that no linear function of the attributes explains (Belrose et al. 2023), and
    reconstructions that are what they were.
    """
    for layer in (model.prior, model.shift):
        layer.weight += weight.to(layer.weight.device)
        layer.bias += bias.to(layer.bias.device)
