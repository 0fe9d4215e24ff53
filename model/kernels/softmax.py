"""Scores to ranks and softmax gradients on the CPU: one pass over each row of scores instead of a dozen.

`model.ranking` has the same in plain torch, for GPUs; a test holds the two against each other.
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled_loosely, inlined_loosely
from model.kernels.exponentials import exponentials

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Number = float | np.floating

NO_CANDIDATE = -1e30
FLOOR = -30.0
"""Scores this far below the best one count as e^-30: smaller numbers would be denormal, and slow."""


@inlined_loosely
def add_extras(
    scores_I: Floats,
    event: int,
    target: int,
    weight: Number,
    feature_starts_B: Ints,
    feature_items_E: Rows,
    feature_values_E: Floats,
    repeat_items_BW: Rows,
    repeat_bias_W: Floats,
    hides_seen: bool,
    seen_pool: Rows,
    seen_start_B: Ints,
    seen_length_B: Ints,
) -> None:
    """What only some items have, onto an event's scores: features of this weight, and what the user's past says of an
    item: it is no candidate, unless it is the target, or has a bias by its age.
    """
    for entry in range(feature_starts_B[event], feature_starts_B[event + 1]):
        scores_I[feature_items_E[entry]] += weight * feature_values_E[entry]
    if hides_seen:
        own = scores_I[target]
        for place in range(seen_start_B[event], seen_start_B[event] + seen_length_B[event]):
            scores_I[seen_pool[place]] = NO_CANDIDATE
        scores_I[target] = own
    else:
        for age in range(repeat_bias_W.shape[0]):
            if repeat_items_BW[event, age] >= 0:
                scores_I[repeat_items_BW[event, age]] += repeat_bias_W[age]


@inlined_loosely
def rank_of(scores_I: Floats, items: int, target: int) -> int:
    """Number of better candidates + half the ties (whole part); a NaN score ranks behind every candidate."""
    own, better, ties, candidates = scores_I[target], 0, -1, -1
    if own != own:
        for item in range(items):
            candidates += not scores_I[item] < NO_CANDIDATE / 2
        return candidates
    for item in range(items):
        better += scores_I[item] > own
    for item in range(items):
        ties += scores_I[item] == own
    return better + ties // 2


@compiled_loosely
def combine_and_rank(
    scores_RI: Floats,
    rows_B: Ints,
    targets_B: Ints,
    enters_B: Flags,
    lengths_B: NDArray[np.int8],
    base_I: Floats,
    bias_I: Floats,
    log_count_I: Floats,
    log_after_B: Floats,
    popularity_L: Floats,
    feature_starts_B: Ints,
    feature_items_E: Rows,
    feature_values_E: Floats,
    feature_weight_L: Floats,
    repeat_items_BW: Rows,
    repeat_bias_W: Floats,
    hides_seen: bool,
    seen_pool: Rows,
    seen_start_B: Ints,
    seen_length_B: Ints,
    ranks_B: Doubles,
) -> None:
    """Turn user . item products into scores, rank each target, and leave scores minus the row's best, cut at FLOOR.

    `rows_B` is the row of scores of each event, -1 for events that are not ranked: the next ones find what they did.
    `base_I` is the bias of known items and NO_CANDIDATE for others; it and `log_count_I` are as of the batch's start
    and follow the events here, to `log_after_B` for the item of each event that enters. A target without an earlier
    event ranks NaN, and its row is left as it is: nothing is learned from it.
    """
    items = scores_RI.shape[1]
    for event in range(targets_B.shape[0]):
        target = targets_B[event]
        is_known = not base_I[target] < NO_CANDIDATE / 2  # a bias that is NaN is known
        if rows_B[event] < 0 or not is_known:
            ranks_B[event] = np.nan
            base_I[target] = bias_I[target]
            if enters_B[event]:
                log_count_I[target] = log_after_B[event]
            continue
        row = scores_RI[rows_B[event]]
        length = lengths_B[event]
        popularity = popularity_L[length]
        for item in range(items):
            row[item] += base_I[item] + popularity * log_count_I[item]
        weight = feature_weight_L[length]
        add_extras(
            row,
            event,
            target,
            weight,
            feature_starts_B,
            feature_items_E,
            feature_values_E,
            repeat_items_BW,
            repeat_bias_W,
            hides_seen,
            seen_pool,
            seen_start_B,
            seen_length_B,
        )

        best = row[0]
        for item in range(items):
            best = max(best, row[item])
        ranks_B[event] = rank_of(row, items, target)
        for item in range(items):
            row[item] = max(row[item] - best, FLOOR)

        if enters_B[event]:
            log_count_I[target] = log_after_B[event]


@compiled_loosely
def soften(
    scores_BI: Floats,
    targets_B: Ints,
    weights_B: Floats,
    enters_B: Flags,
    lengths_B: NDArray[np.int8],
    log_count_I: Floats,
    log_after_B: Floats,
    feature_starts_B: Ints,
    feature_items_E: Rows,
    feature_values_E: Floats,
    repeat_items_BW: Rows,
    bits_I: Rows,
    powers_I: NDArray[np.float32],
    losses_B: Doubles,
    popularity_gradient_L: Floats,
    feature_gradient_L: Floats,
    repeat_gradient_W: Floats,
) -> None:
    """Turn what `combine_and_rank` left into the gradient of `model.losses.softmax_loss` by the scores, in place.

    `bits_I` and `powers_I` are room to work in (see `exponentials`). Also its losses, and the gradient by the weights
    of popularity, features and repeats, added to the last arrays.
    """
    items = scores_BI.shape[1]
    smallest = scores_BI.dtype.type(np.exp(FLOOR) * 1.001)
    for event in range(scores_BI.shape[0]):
        row = scores_BI[event]
        target = targets_B[event]
        weight = weights_B[event]
        if weight == 0:
            for item in range(items):
                row[item] = 0
        else:
            exponentials(row, items, bits_I, powers_I)
            whole = row[0] - row[0]
            for item in range(items):
                value = row[item] if row[item] > smallest else row[item] - row[item]
                row[item] = value
                whole += value
            own = max(row[target], smallest) / whole
            if weight > 0:
                losses_B[event] = -weight * np.log(own)
                pull = weight
            else:
                own = min(own, 1 - 1e-6)
                losses_B[event] = weight * np.log1p(-own)
                pull = weight * own / (1 - own)
            scale, of_target = pull / whole, row[target]
            by_popularity = row[0] - row[0]
            for item in range(items):
                value = row[item] * scale
                row[item] = value
                by_popularity += value * log_count_I[item]
            row[target] = of_target * scale - pull  # before it is rounded: nothing else may be left of the two
            length = lengths_B[event]
            popularity_gradient_L[length] += by_popularity - pull * log_count_I[target]
            by_feature = row[0] - row[0]
            for entry in range(feature_starts_B[event], feature_starts_B[event + 1]):
                by_feature += row[feature_items_E[entry]] * feature_values_E[entry]
            feature_gradient_L[length] += by_feature
            for age in range(repeat_gradient_W.shape[0]):
                if repeat_items_BW[event, age] >= 0:
                    repeat_gradient_W[age] += row[repeat_items_BW[event, age]]
        if enters_B[event]:
            log_count_I[target] = log_after_B[event]
