"""Losses as pure functions: values and gradients by the scores, written down."""

import torch
from torch import Tensor


def softmax_loss(logits_BC: Tensor, targets_B: Tensor, weights_B: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted softmax cross-entropy of each row against its target column, and its gradient by the logits.

    A positive weight w attracts: loss w * -log p(target). A negative one repels, by the unlikelihood loss
    |w| * -log(1 - p(target)) (Welleck et al. 2020), whose push fades as the target becomes unlikely. Weight 0 is
    no loss. Columns at -inf are no candidates. Returns the losses (B,) and the gradient (B, C) of their sum.
    """
    rows_B = torch.arange(len(targets_B), device=logits_BC.device)
    log_p_BC = torch.log_softmax(logits_BC, dim=1)
    log_p_B = log_p_BC[rows_B, targets_B]
    p_B = log_p_B.exp().clamp(max=1 - 1e-6)
    attracted_B = weights_B.clamp(min=0)
    repelled_B = (-weights_B).clamp(min=0)
    losses_B = -attracted_B * log_p_B - repelled_B * torch.log1p(-p_B)
    pull_B = attracted_B - repelled_B * p_B / (1 - p_B)
    gradient_BC = log_p_BC.exp_().mul_(pull_B[:, None])
    gradient_BC[rows_B, targets_B] -= pull_B
    return losses_B, gradient_BC
