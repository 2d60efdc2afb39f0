"""Take out of the latents what a linear function of the attributes explains."""

from __future__ import annotations

import torch
from torch import Tensor

from training.vae.model import ConditionalVAE


def regress(latent: Tensor, attributes: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The weight f32 [Z, K] and bias f32 [Z] that explain `latent` f32 [N, Z] by `attributes` f32 [N, K] best.

    `ridge`, in squared units of an attribute, is added to the attributes' variances and shrinks the weight. Estimates
    of a rare attribute hardly vary, so that without it the slope between "certainly not" and "hardly likely" is
    carried on to +1, many times further than any face lies.
    """
    centred, mean = attributes.double() - attributes.double().mean(0), latent.double().mean(0)
    covariance = centred.T @ centred / len(centred)  # [K, K]
    # The pseudo-inverse copes with an attribute that never varies.
    inverse = torch.linalg.pinv(covariance + ridge * torch.eye(len(covariance), dtype=torch.double))
    weight = (inverse @ centred.T @ (latent.double() - mean) / len(centred)).T  # [Z, K]
    return weight.float(), (mean - weight @ attributes.double().mean(0)).float()


@torch.no_grad()
def replace_prior(model: ConditionalVAE, weight: Tensor, bias: Tensor) -> None:
    """Let the encoder take off weight a + bias, and the decoder put back as much more as that is more, in place.

    The KL term drives W towards the regression of the posterior means on the attributes and does not quite arrive;
    going there in closed form leaves latents that hardly tell of the attributes linearly (Belrose et al. 2023), and
    reconstructions that are what they were.
    """
    for values, found in (("weight", weight), ("bias", bias)):
        current = getattr(model.prior, values)
        change = found.to(current.device) - current
        current += change
        getattr(model.shift, values).add_(change)
