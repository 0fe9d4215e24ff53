"""Top-k on a GPU without a score matrix, by Triton: what a group of items can score at most, and what its items score.

`model.grouped` explains how lists come of these two, and has their plain torch twins; where triton is missing, they
are what runs. Both kernels leave out, for each user, the items of a list sorted by row (the seen ones, and those that
are scored apart): a program keeps a pointer into each of its users' lists and moves it on as the items pass.

Never run on a GPU so far: only by Triton's interpreter, and compiled for compute capability 8.0 and 9.0, where they use
TF32 tensor cores, spill no registers and fit into the shared memory of either (tests/test_kernels_groups.py). What that
does not show: speed, for which the sizes below are guesses, and the rounding of the tensor cores, for which
`model.grouped` allows.
"""

# mypy: disable-error-code="untyped-decorator, import-untyped, import-not-found, unused-ignore, no-untyped-def"
# Triton has no types, and its kernels' arguments are pointers and constants of its own.

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

GROUP = 64
"""Items of a group."""
MOST_USERS, MOST_ITEMS = 128, 128
"""Of a program's tile."""
TILE = 128 * 64
"""Numbers of a tile of users, and of one of items: less of them where vectors are wide."""
BOUND_WARPS, SCORE_WARPS = 8, 2
PROGRAMS = 1024
"""Wanted at least, where there are so many tiles: some for each multiprocessor."""


def available(device: torch.device) -> bool:
    """Whether the kernels run there."""
    return device.type == "cuda" and triton is not None


if triton is not None:

    @triton.jit
    def _bound_tiles(
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, reach_U, left_out_E, begins_US, ends_U, bounds_UG,
        users, items, width, groups, splits, tiles_a_split,
        GROUP: tl.constexpr, BLOCK_USERS: tl.constexpr, BLOCK_ITEMS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    ):  # fmt: skip
        user = tl.program_id(0) * BLOCK_USERS + tl.arange(0, BLOCK_USERS)
        split = tl.program_id(1)
        is_user = user < users
        column = tl.arange(0, BLOCK_WIDTH)
        is_column = column < width
        user_at = user.to(tl.int64)
        user_vectors = tl.load(
            users_UD + user_at[:, None] * width + column[None, :],
            mask=is_user[:, None] & is_column[None, :],
            other=0.0,
        )
        popularity = tl.load(popularity_U + user, mask=is_user, other=0.0)
        reach = tl.load(reach_U + user, mask=is_user, other=0.0)
        at = tl.load(begins_US + user_at * splits + split, mask=is_user, other=0)
        end = tl.load(ends_U + user, mask=is_user, other=0)
        left_out = tl.load(left_out_E + at, mask=at < end, other=2147483647)
        first_tile = split * tiles_a_split
        past_tile = tl.minimum(first_tile + tiles_a_split, tl.cdiv(items, BLOCK_ITEMS))
        for tile in range(first_tile, past_tile):
            item = tile * BLOCK_ITEMS + tl.arange(0, BLOCK_ITEMS)
            is_item = item < items
            vectors = tl.load(
                vectors_ID + item.to(tl.int64)[:, None] * width + column[None, :],
                mask=is_item[:, None] & is_column[None, :],
                other=0.0,
            )
            base = tl.load(base_I + item, mask=is_item, other=float("-inf"))
            log_count = tl.load(log_count_I + item, mask=is_item, other=0.0)
            norm = tl.sqrt(tl.sum(vectors * vectors, 1))
            bound = tl.dot(user_vectors, tl.trans(vectors), input_precision="tf32")
            bound += base[None, :] + popularity[:, None] * log_count[None, :] + reach[:, None] * norm[None, :]
            bound = tl.where(bound == bound, bound, float("inf"))  # of NaN nothing is known
            bound = tl.where(is_item[None, :], bound, float("-inf"))
            past = (tile + 1) * BLOCK_ITEMS
            while tl.max((left_out < past).to(tl.int32), 0) > 0:
                bound = tl.where(item[None, :] == left_out[:, None], float("-inf"), bound)
                at = tl.where(left_out < past, at + 1, at)
                left_out = tl.load(left_out_E + at, mask=at < end, other=2147483647)
            best = tl.max(tl.reshape(bound, (BLOCK_USERS, BLOCK_ITEMS // GROUP, GROUP)), 2)
            group = tile * (BLOCK_ITEMS // GROUP) + tl.arange(0, BLOCK_ITEMS // GROUP)
            tl.store(
                bounds_UG + user_at[:, None] * groups + group[None, :],
                best,
                mask=is_user[:, None] & (group < groups)[None, :],
            )

    @triton.jit
    def _score_group(
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, left_out_E, starts_U, groups_UM, scores_UMG,
        items, width, chosen,
        GROUP: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    ):  # fmt: skip
        user, place = tl.program_id(0).to(tl.int64), tl.program_id(1)
        first = tl.load(groups_UM + user * chosen + place).to(tl.int32) * GROUP
        item = first + tl.arange(0, GROUP)
        is_item = item < items
        column = tl.arange(0, BLOCK_WIDTH)
        is_column = column < width
        user_vector = tl.load(users_UD + user * width + column, mask=is_column, other=0.0)
        vectors = tl.load(
            vectors_ID + item.to(tl.int64)[:, None] * width + column[None, :],
            mask=is_item[:, None] & is_column[None, :],
            other=0.0,
        )
        popularity = tl.load(popularity_U + user)
        base = tl.load(base_I + item, mask=is_item, other=float("-inf"))
        log_count = tl.load(log_count_I + item, mask=is_item, other=0.0)
        score = tl.sum(vectors * user_vector[None, :], 1) + (base + popularity * log_count)
        low, end = tl.load(starts_U + user), tl.load(starts_U + user + 1)
        high = end
        while low < high:  # the first left out item of the group, or behind it
            middle = (low + high) // 2
            is_before = tl.load(left_out_E + middle) < first
            low = tl.where(is_before, middle + 1, low)
            high = tl.where(is_before, high, middle)
        left_out = tl.load(left_out_E + low, mask=low < end, other=2147483647)
        while left_out < first + GROUP:
            score = tl.where(item == left_out, float("-inf"), score)
            low += 1
            left_out = tl.load(left_out_E + low, mask=low < end, other=2147483647)
        tl.store(scores_UMG + (user * chosen + place) * GROUP + tl.arange(0, GROUP), score)


def bound_groups(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    reach_U: Tensor,
    left_out_E: Tensor,
    starts_U: Tensor,
) -> Tensor:
    """The most that an item of each group scores (U, G), up to rounding: see the twin, `model.grouped.bounds_of`.

    float32 all, `left_out_E` int32 and not empty, `starts_U` int64 of one more than there are users.
    """
    users, items, width = len(users_UD), *vectors_ID.shape
    block_users, block_items, block_width = blocks(users, width)
    groups, tiles = -(-items // GROUP), -(-items // block_items)
    user_blocks = -(-users // block_users)
    tiles_a_split = max(1, tiles * user_blocks // PROGRAMS)
    splits = -(-tiles // tiles_a_split)
    bounds_UG = torch.empty((users, groups), device=users_UD.device)
    _bound_tiles[(user_blocks, splits)](
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, reach_U, left_out_E,
        _begins(left_out_E, starts_U, splits, tiles_a_split * block_items), starts_U[1:], bounds_UG,
        users, items, width, groups, splits, tiles_a_split,
        GROUP=GROUP, BLOCK_USERS=block_users, BLOCK_ITEMS=block_items, BLOCK_WIDTH=block_width, num_warps=BOUND_WARPS,
    )  # fmt: skip
    return bounds_UG


def score_groups(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    left_out_E: Tensor,
    starts_U: Tensor,
    groups_UM: Tensor,
) -> Tensor:
    """Scores (U, M * GROUP) of the items of some groups of each user; -inf behind the last item, as for the left out.

    The same types as `bound_groups`, `groups_UM` int64.
    """
    chosen, (items, width) = groups_UM.shape[1], vectors_ID.shape
    scores_UMG = torch.empty((len(users_UD), chosen * GROUP), device=users_UD.device)
    _score_group[(len(users_UD), chosen)](
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, left_out_E, starts_U, groups_UM, scores_UMG,
        items, width, chosen,
        GROUP=GROUP, BLOCK_WIDTH=blocks(len(users_UD), width)[2], num_warps=SCORE_WARPS,
    )  # fmt: skip
    return scores_UMG


def _begins(left_out_E: Tensor, starts_U: Tensor, splits: int, items_a_split: int) -> Tensor:
    """Where, in the list of each user, the items of each split begin (U, S)."""
    users = len(starts_U) - 1
    user_E = torch.searchsorted(starts_U, torch.arange(len(left_out_E), device=left_out_E.device), right=True) - 1
    first_S = torch.arange(splits, device=left_out_E.device) * items_a_split
    # user and item as one number; what pads the end of the list comes behind all users
    key_E = user_E << 32 | left_out_E
    key_US = torch.arange(users, device=left_out_E.device)[:, None] << 32 | first_S
    return torch.searchsorted(key_E, key_US).contiguous()


def blocks(users: int, width: int) -> tuple[int, int, int]:
    """Users, items and columns of a program's tile: powers of two, none below what a tensor core takes."""
    block_width = max(16, _power_of_two(width))
    most = TILE // block_width
    block_users = max(16, min(MOST_USERS, most, _power_of_two(users)))
    return block_users, max(GROUP, min(MOST_ITEMS, most)), block_width


def _power_of_two(number: int) -> int:
    """The smallest one that is not below the number."""
    return 1 << max(number - 1, 0).bit_length()
