"""Top-k lists without a score matrix, on a GPU: bounds on groups of items first, then the scores of a few groups.

    score of item i = user . vector_i + base_i + popularity * log_count_i      (base: the bias, -inf for no candidate)
    bound of group g = the largest of its items' rough scores, each with what roughness can hide: a share of
                       |user| |vector_i| (Cauchy-Schwarz)

1. The bound of every group of GROUP items, from one pass over all items on the tensor cores: the product is never
   written, only a number for each user and group (1 / GROUP of the scores).
2. The groups with the highest bounds, a few more than k of them. The k best items lie in no more than k groups.
3. Float32 scores of the items of these groups, and the k best of them, ties to the lower row.
4. The proof: no item of another group can get in, where the k-th best score is above the highest bound left over. A
   user of whom that is not so is told (`Best.is_proven`), and gets a list from all scores instead: so lists are exact.

Items a user has seen are left out of both passes, by a bit for each user and item. Items with an extra (co-occurrence,
repeats) are left out too, and scored one by one. That is the two-stage scheme of blockwise maxima known from
approximate top-k on accelerators (Chern et al., "TPU-KNN: K Nearest Neighbor Search at Peak FLOP/s", NeurIPS 2022),
made exact by bounds.

The margin for rough products: tensor cores read float32 as TF32, 10 bits behind the point, cut off or rounded. Each
factor is off by at most 2^-10 of itself, a product by 2^-9 + 2^-20, their sum by that times |user| |vector_i|; sums in
float32, in whatever order, add no more than (width + 32) * 2^-22 of it, as in `model.kernels.scan`. (bfloat16 would be
twice as fast and the margin eight times as wide: several times as many groups to score.)

The functions of `Kernels` are Triton's on a GPU (`model.kernels.groups`); `TORCH` are their plain twins, which run
anywhere and cut the factors as TF32 does, so that tests do not rest on better arithmetic than the GPU's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.kernels import groups
from model.kernels.groups import GROUP

MORE_GROUPS = 12
"""Beside k: what the margin may let in."""
ROUGH = 2.0**-9 + 2.0**-20
ROUNDING = 2.0**-22
NEVER = 2**31 - 1
LOW_WORD = 2**32 - 1
NO_KEY = -(2**63)


class Kernels(NamedTuple):
    bound_groups: Callable[..., Tensor]
    score_groups: Callable[..., Tensor]


class Parts(NamedTuple):
    """What scores are made of, float32, all on one device; nothing is left out of them yet but what is no candidate."""

    users_UD: Tensor
    vectors_ID: Tensor
    base_I: Tensor
    log_count_I: Tensor
    popularity_U: Tensor
    extra_users_E: Tensor
    """Entries: what is added to the score of an item for one user (int64, by user; those of one item add up)."""
    extra_items_E: Tensor
    extras_E: Tensor
    seen_users_S: Tensor
    """Pairs that are no candidates, by user (int64)."""
    seen_items_S: Tensor
    most_extras: int
    """Entries of the user who has most; known on the host, where they come from."""


class Best(NamedTuple):
    """On the host. Best first, ties to the lower row; both (U, k), -inf and row 0 behind the last candidate."""

    scores_UK: NDArray[np.float32]
    rows_UK: NDArray[np.int64]
    is_proven_U: NDArray[np.bool_]
    """Where not, a list may lack items that another group has."""


def kernels_for(device: torch.device, width: int) -> Kernels:
    return Kernels(groups.bound_groups, groups.score_groups) if groups.available(device, width) else TORCH


def best_by_groups(parts: Parts, k: int, kernels: Kernels, *, more: int = MORE_GROUPS) -> Best:
    """The k best items of each user; ValueError for k below 1. One transfer to the host, at the end."""
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    users, (items, width) = len(parts.users_UD), parts.vectors_ID.shape
    if not users or not items:
        nothing_UK = np.full((users, k), -np.inf, dtype=np.float32)
        return Best(nothing_UK, np.zeros((users, k), dtype=np.int64), np.ones(users, dtype=np.bool_))
    left_out_UW = _left_out(parts)
    common = (parts.users_UD, parts.vectors_ID, parts.base_I, parts.log_count_I, parts.popularity_U)
    length_U = torch.linalg.vector_norm(parts.users_UD, dim=1)
    reach_U = (ROUGH + 2 * (width + 32) * ROUNDING) * length_U
    bounds_UG = kernels.bound_groups(*common, reach_U, left_out_UW)
    chosen = min(k + more, bounds_UG.shape[1])
    highest_UM, groups_UM = torch.topk(bounds_UG, min(chosen + 1, bounds_UG.shape[1]), dim=1)
    groups_UM = groups_UM[:, :chosen].contiguous()
    scores_UC = kernels.score_groups(*common, left_out_UW, groups_UM)
    rows_UC = (groups_UM[:, :, None] * GROUP + torch.arange(GROUP, device=groups_UM.device)).flatten(1)
    keys_UC = torch.cat((_keys(scores_UC, rows_UC), _extra_keys(parts)), 1)
    missing = k - keys_UC.shape[1]
    if missing > 0:
        keys_UC = torch.nn.functional.pad(keys_UC, (0, missing), value=NO_KEY)
    keys_UK = torch.topk(keys_UC, k, dim=1).values  # no two are equal, but those of no candidates
    worst_U = _scores_of(keys_UK[:, -1])
    is_proven_U = torch.ones_like(worst_U, dtype=torch.bool)
    if highest_UM.shape[1] > chosen:
        rest_U = highest_UM[:, -1]
        margin_U = 2 * ROUNDING * (_largest(parts.base_I) + parts.popularity_U.abs() * _largest(parts.log_count_I))
        is_proven_U = (rest_U == -torch.inf) | (worst_U > rest_U + margin_U + 4 * ROUNDING * worst_U.abs())
    found = torch.cat((keys_UK, is_proven_U[:, None].to(keys_UK.dtype)), 1).cpu()  # CPU-GPU sync point: the only one
    scores_UK, rows_UK = _scores_of(found[:, :-1]), (NEVER - (found[:, :-1] & LOW_WORD))
    rows_UK[scores_UK == -torch.inf] = 0
    return Best(scores_UK.numpy(), rows_UK.numpy(), found[:, -1].bool().numpy())


# --- entries ---


def _left_out(parts: Parts) -> Tensor:
    """What the passes leave out: a bit an item, a whole number of groups a user (U, G * GROUP / 32), int32."""
    users_E = torch.cat((parts.seen_users_S, parts.extra_users_E))
    items_E = torch.cat((parts.seen_items_S, parts.extra_items_E))
    words = -(-len(parts.vectors_ID) // GROUP) * (GROUP // 32)
    pairs_E = torch.sort(_pair(users_E, items_E)).values
    is_first_E = torch.ones_like(pairs_E, dtype=torch.bool)
    is_first_E[1:] = pairs_E[1:] != pairs_E[:-1]  # a bit that is added twice would be another bit
    items_E = pairs_E & LOW_WORD
    bits_E = torch.where(is_first_E, 1 << (items_E & 31), 0).to(torch.int32)
    left_out_UW = torch.zeros(len(parts.users_UD) * words, dtype=torch.int32, device=pairs_E.device)
    left_out_UW.scatter_add_(0, (pairs_E >> 32) * words + (items_E >> 5), bits_E)
    return left_out_UW.view(len(parts.users_UD), words)


def _extra_keys(parts: Parts) -> Tensor:
    """Keys (U, most extras) of the items that have an extra and are candidates, in no order."""
    users, entries = len(parts.users_UD), len(parts.extras_E)
    keys_UE = parts.seen_items_S.new_full((users, parts.most_extras), NO_KEY)
    if not entries:
        return keys_UE
    pairs_E, order_E = torch.sort(_pair(parts.extra_users_E, parts.extra_items_E), stable=True)
    users_E, items_E = parts.extra_users_E[order_E], parts.extra_items_E[order_E]
    is_first_E = torch.ones_like(pairs_E, dtype=torch.bool)
    is_first_E[1:] = pairs_E[1:] != pairs_E[:-1]
    item_E = is_first_E.cumsum(0) - 1  # a number for each pair
    # index_put_ adds in one order, always the same; index_add_ does not on a GPU
    extra_E = torch.zeros_like(parts.extras_E).index_put_((item_E,), parts.extras_E[order_E], accumulate=True)[item_E]
    products_E = (parts.users_UD[users_E] * parts.vectors_ID[items_E]).sum(1)
    usual_E = parts.base_I[items_E] + parts.popularity_U[users_E] * parts.log_count_I[items_E]
    scores_E = products_E + usual_E + extra_E
    if len(parts.seen_items_S):
        seen_S = torch.sort(_pair(parts.seen_users_S, parts.seen_items_S)).values
        at_E = torch.searchsorted(seen_S, pairs_E).clamp(max=len(seen_S) - 1)
        scores_E = torch.where(seen_S[at_E] == pairs_E, -torch.inf, scores_E)
    scores_E = torch.where(is_first_E, scores_E, -torch.inf)
    starts_U = torch.searchsorted(users_E, torch.arange(users, device=users_E.device))
    place_E = torch.arange(entries, device=users_E.device) - starts_U[users_E]
    keys_UE[users_E, place_E] = _keys(scores_E, items_E)
    return keys_UE


def _pair(users_E: Tensor, items_E: Tensor) -> Tensor:
    """User and item as one number, by user and then by item."""
    return users_E << 32 | items_E


# --- keys ---


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """One number for score and row (int64): the larger, the better; NO_KEY for what is no candidate."""
    is_candidate = scores > -torch.inf  # not NaN either
    bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # there are two zeros: -0.0 + 0.0 is 0.0
    ordered = torch.where(bits < 0, bits ^ NEVER, bits)
    return torch.where(is_candidate, (ordered << 32) | (NEVER - rows), NO_KEY)


def _scores_of(keys: Tensor) -> Tensor:
    ordered = keys >> 32
    bits = torch.where(ordered < 0, ordered ^ NEVER, ordered).to(torch.int32)
    return torch.where(keys == NO_KEY, -torch.inf, bits.view(torch.float32))


def _largest(values_I: Tensor) -> Tensor:
    """The largest finite absolute value."""
    return torch.where(values_I.isfinite(), values_I.abs(), 0.0).amax()


# --- the plain torch twins ---


def bounds_of(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    reach_U: Tensor,
    left_out_UW: Tensor,
) -> Tensor:
    """The most that an item of each group scores (U, G), where `reach_U` is what products may hide of |vector_i|.

    +inf where it is not known, of NaN; -inf for groups without a candidate. `left_out_UW` has a bit for each item
    that is no candidate of the user, 32 items an int32, the lowest bit first.
    """
    bounds_UI = _cut(users_UD) @ _cut(vectors_ID).T
    bounds_UI += base_I + popularity_U[:, None] * log_count_I
    bounds_UI += reach_U[:, None] * torch.linalg.vector_norm(vectors_ID, dim=1)
    bounds_UI.masked_fill_(bounds_UI.isnan(), torch.inf)
    _leave_out(bounds_UI, left_out_UW)
    return _whole_groups(bounds_UI).view(len(users_UD), -1, GROUP).amax(2)


def scores_of(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    left_out_UW: Tensor,
    groups_UM: Tensor,
) -> Tensor:
    """Scores (U, M * GROUP) of the items of some groups of each user; -inf for those left out and behind the last."""
    scores_UI = users_UD @ vectors_ID.T + (base_I + popularity_U[:, None] * log_count_I)
    _leave_out(scores_UI, left_out_UW)
    rows_UC = (groups_UM[:, :, None] * GROUP + torch.arange(GROUP, device=groups_UM.device)).flatten(1)
    return _whole_groups(scores_UI).gather(1, rows_UC)


TORCH = Kernels(bounds_of, scores_of)


def _leave_out(values_UI: Tensor, left_out_UW: Tensor) -> None:
    bits_UW32 = (left_out_UW[:, :, None] >> torch.arange(32, dtype=torch.int32, device=left_out_UW.device)) & 1
    values_UI.masked_fill_(bits_UW32.flatten(1)[:, : values_UI.shape[1]].bool(), -torch.inf)


def _whole_groups(values_UI: Tensor) -> Tensor:
    return torch.nn.functional.pad(values_UI, (0, -values_UI.shape[1] % GROUP), value=-torch.inf)


def _cut(values: Tensor) -> Tensor:
    """As TF32 has them, what does not fit cut off; 10 of the 23 bits behind the point are left."""
    return (values.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
