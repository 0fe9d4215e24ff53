"""Top-k on a GPU without a score matrix, by Triton: what a group of items can score at most, and what its items score.

`model.grouped` explains how lists come of these two, and has their plain torch twins; where triton is missing, they
are what runs. What a user has seen, or gets scored apart, is left out by a bit of a mask, so that no program branches
and Triton can load ahead.

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
MOST_USERS = 128
"""Of a program, which takes items a group at a time; at width 64 three of them fit into a multiprocessor of 9.0."""
USER_NUMBERS = MOST_USERS * 64
"""Most numbers of a program's users: fewer users where vectors are wide."""
BOUND_WARPS, SCORE_WARPS = 8, 4
MOST_WIDTH = 256
"""Wider vectors do not fit into the shared memory of every GPU."""
PROGRAMS = 1024
"""Wanted at least, where there are so many groups: some for each multiprocessor."""


def available(device: torch.device, width: int) -> bool:
    """Whether the kernels run there, for vectors of this width."""
    return device.type == "cuda" and triton is not None and width <= MOST_WIDTH


def stages(width: int) -> int:
    """How many groups a program has on their way at once, and one more: what fits into 99 KiB."""
    return 3 if width <= MOST_WIDTH // 2 else 2


if triton is not None:

    @triton.jit
    def _larger_or_nan(left, right):
        return tl.maximum(left, right, propagate_nan=tl.PropagateNan.ALL)

    @triton.jit
    def _load_items(vectors_ID, base_I, log_count_I, item, items, column, width):
        """Vectors, bases and log counts of these items; zeros, -inf and zeros behind the last one."""
        is_item = item < items
        vectors = tl.load(
            vectors_ID + item.to(tl.int64)[:, None] * width + column[None, :],
            mask=is_item[:, None] & (column < width)[None, :],
            other=0.0,
        )
        base = tl.load(base_I + item, mask=is_item, other=float("-inf"))
        return vectors, base, tl.load(log_count_I + item, mask=is_item, other=0.0)

    @triton.jit
    def _bound_groups(
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, reach_U, left_out_UW, bounds_UG,
        users, items, width, groups, groups_a_split,
        GROUP: tl.constexpr, BLOCK_USERS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    ):  # fmt: skip
        user = tl.program_id(0) * BLOCK_USERS + tl.arange(0, BLOCK_USERS)
        is_user = user < users
        user_at = user.to(tl.int64)[:, None]
        column = tl.arange(0, BLOCK_WIDTH)
        user_vectors = tl.load(
            users_UD + user_at * width + column[None, :], mask=is_user[:, None] & (column < width)[None, :], other=0.0
        )
        popularity = tl.load(popularity_U + user, mask=is_user, other=0.0)
        reach = tl.load(reach_U + user, mask=is_user, other=0.0)
        first_group = tl.program_id(1) * groups_a_split
        for group in range(first_group, tl.minimum(first_group + groups_a_split, groups)):
            item = group * GROUP + tl.arange(0, GROUP)
            vectors, base, log_count = _load_items(vectors_ID, base_I, log_count_I, item, items, column, width)
            norm = tl.sqrt(tl.sum(vectors * vectors, 1))
            bound = tl.dot(user_vectors, tl.trans(vectors), input_precision="tf32")
            bound += base[None, :] + popularity[:, None] * log_count[None, :] + reach[:, None] * norm[None, :]
            word = (user_at * groups + group) * (GROUP // 32) + tl.arange(0, GROUP // 32)[None, :]
            left_out = tl.load(left_out_UW + word, mask=is_user[:, None], other=0)
            is_left_out = (left_out[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
            by_word = tl.reshape(bound, (BLOCK_USERS, GROUP // 32, 32))
            bound = tl.reshape(tl.where(is_left_out != 0, float("-inf"), by_word), (BLOCK_USERS, GROUP))
            best = tl.reduce(bound, 1, _larger_or_nan)
            best = tl.where(best == best, best, float("inf"))  # of NaN nothing is known
            tl.store(bounds_UG + user.to(tl.int64) * groups + group, best, mask=is_user)

    @triton.jit
    def _score_group(
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, left_out_UW, groups_UM, scores_UMG,
        items, width, groups, chosen,
        GROUP: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    ):  # fmt: skip
        user, place = tl.program_id(0).to(tl.int64), tl.program_id(1)
        group = tl.load(groups_UM + user * chosen + place).to(tl.int32)
        in_group = tl.arange(0, GROUP)
        item = group * GROUP + in_group
        column = tl.arange(0, BLOCK_WIDTH)
        user_vector = tl.load(users_UD + user * width + column, mask=column < width, other=0.0)
        vectors, base, log_count = _load_items(vectors_ID, base_I, log_count_I, item, items, column, width)
        popularity = tl.load(popularity_U + user)
        score = tl.sum(vectors * user_vector[None, :], 1) + (base + popularity * log_count)
        left_out = tl.load(left_out_UW + (user * groups + group) * (GROUP // 32) + in_group // 32)
        score = tl.where((left_out >> (in_group % 32)) & 1 != 0, float("-inf"), score)
        tl.store(scores_UMG + (user * chosen + place) * GROUP + in_group, score)


def bound_groups(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    reach_U: Tensor,
    left_out_UW: Tensor,
) -> Tensor:
    """The most that an item of each group scores (U, G), up to rounding: see the twin, `model.grouped.bounds_of`.

    float32 all but `left_out_UW`, int32; all contiguous.
    """
    users, items, width = len(users_UD), *vectors_ID.shape
    block_users, block_width = blocks(users, width)
    groups, user_blocks = -(-items // GROUP), -(-users // block_users)
    groups_a_split = max(1, groups * user_blocks // PROGRAMS)
    bounds_UG = torch.empty((users, groups), device=users_UD.device)
    _bound_groups[(user_blocks, -(-groups // groups_a_split))](
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, reach_U, left_out_UW, bounds_UG,
        users, items, width, groups, groups_a_split,
        GROUP=GROUP, BLOCK_USERS=block_users, BLOCK_WIDTH=block_width, num_warps=BOUND_WARPS,
        num_stages=stages(width),
    )  # fmt: skip
    return bounds_UG


def score_groups(
    users_UD: Tensor,
    vectors_ID: Tensor,
    base_I: Tensor,
    log_count_I: Tensor,
    popularity_U: Tensor,
    left_out_UW: Tensor,
    groups_UM: Tensor,
) -> Tensor:
    """Scores (U, M * GROUP) of the items of some groups of each user; -inf for those left out and behind the last.

    The same types as `bound_groups`, `groups_UM` int64.
    """
    chosen, (items, width) = groups_UM.shape[1], vectors_ID.shape
    scores_UMG = torch.empty((len(users_UD), chosen * GROUP), device=users_UD.device)
    _score_group[(len(users_UD), chosen)](
        users_UD, vectors_ID, base_I, log_count_I, popularity_U, left_out_UW, groups_UM, scores_UMG,
        items, width, -(-items // GROUP), chosen,
        GROUP=GROUP, BLOCK_WIDTH=blocks(len(users_UD), width)[1], num_warps=SCORE_WARPS,
    )  # fmt: skip
    return scores_UMG


def blocks(users: int, width: int) -> tuple[int, int]:
    """Users and columns of a program: powers of two, none below what a tensor core takes."""
    block_width = max(16, _power_of_two(width))
    most = max(16, USER_NUMBERS // block_width)
    return max(16, min(MOST_USERS, most, _power_of_two(users))), block_width


def _power_of_two(number: int) -> int:
    """The smallest one that is not below the number."""
    return 1 << max(number - 1, 0).bit_length()
