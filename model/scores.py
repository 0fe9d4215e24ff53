"""Scores of all items for users, in plain torch on any device: for lists, from the parameters as they stand.

    score of item i = user . item_i + bias_i + popularity * log(count_i + 1/2) + together * feature_i  (+ repeat)

as `model.ranking` has it for events. Who is a candidate is not known here: every item row has a score.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.cooccurrence import Features
from model.grouped import Parts
from model.ranking_parameters import REPEAT_AGES, RankingParameters
from model.small import SmallParameters
from model.user_content import Said
from model.windows import Windows


def all_scores(
    parameters: RankingParameters,
    windows: Windows,
    count_I: NDArray[np.int64],
    *,
    allow_repeats: bool,
    said: Said | None = None,
) -> Tensor:
    """Scores (U, I) of every item row for users with these windows, and what is said of them; nothing is left out
    yet.
    """
    features = parameters.features(windows, count_I)
    items_ID = parameters.vectors(count_I)
    scores_UI = parameters.users(windows, items_ID, said) @ items_ID.T
    lengths_U = as_rows(windows.lengths_B, scores_UI.device)
    log_counts_I = log_counts(as_tensor(count_I, scores_UI.device), scores_UI.dtype)
    scores_UI += parameters.biases.values[:, 0] + parameters.mix["popularity"][lengths_U, None] * log_counts_I
    add_entries(scores_UI, parameters.mix, windows, features, allow_repeats=allow_repeats)
    return scores_UI


def cold_scores(
    parameters: RankingParameters,
    windows: Windows,
    count_I: NDArray[np.int64],
    vectors_XD: Tensor,
    said: Said | None = None,
) -> Tensor:
    """Scores (U, X) of items without an event, by their content vectors alone, beside those of `all_scores`."""
    scores_UX = parameters.users(windows, parameters.vectors(count_I), said) @ vectors_XD.T
    no_count_1 = log_counts(torch.zeros(1, device=scores_UX.device), scores_UX.dtype)
    lengths_U = as_rows(windows.lengths_B, scores_UX.device)
    return scores_UX + parameters.mix["popularity"][lengths_U, None] * no_count_1


def parts_on_device(
    parameters: RankingParameters,
    windows: Windows,
    count_I: NDArray[np.int64],
    *,
    allow_repeats: bool,
    said: Said | None,
    is_candidate_I: NDArray[np.bool_],
    seen: tuple[NDArray[np.int64], NDArray[np.int32]],
) -> Parts:
    """What `all_scores` adds up, extras as they are added, for lists without all scores.

    `seen`: (user, item) pairs that are no candidates, `is_candidate_I` as it is for every user.
    """
    features, mix = parameters.features(windows, count_I), parameters.mix
    vectors_ID = parameters.vectors(count_I)
    device = vectors_ID.device
    lengths_U = as_rows(windows.lengths_B, device)
    users_E, items_E, values_E = entries_of(features, vectors_ID)
    extras_E = mix["together"][lengths_U[users_E]] * values_E
    entries_U = np.diff(features.starts_B)
    if allow_repeats:
        repeats = repeats_of(windows)
        repeat_users, repeat_ages, repeat_items = (as_rows(rows, device) for rows in repeats)
        users_E, items_E = torch.cat((users_E, repeat_users)), torch.cat((items_E, repeat_items))
        extras_E = torch.cat((extras_E, mix["repeat"][repeat_ages]))
        entries_U = entries_U + np.bincount(repeats[0], minlength=len(windows))
    # pageable memory is copied aside before this returns, so that nothing waits and nothing may be overwritten
    candidate_I, users_S, items_S = (as_tensor(array, device) for array in (is_candidate_I, *seen))
    return Parts(
        parameters.users(windows, vectors_ID, said).float(),
        vectors_ID.float(),
        torch.where(candidate_I, parameters.biases.values[:, 0].float(), -torch.inf),
        log_counts(as_tensor(count_I, device), vectors_ID.dtype).float(),
        mix["popularity"][lengths_U].float(),
        users_E,
        items_E,
        extras_E.float(),
        users_S,
        items_S.to(torch.int64),
        int(entries_U.max(initial=0)),
    )


# --- terms of a score ---


def add_entries(
    scores_BI: Tensor, mix: SmallParameters, windows: Windows, features: Features, *, allow_repeats: bool
) -> None:
    """Add what only some items have: the co-occurrence feature and, where repeats are allowed, their bias."""
    lengths_B = as_rows(windows.lengths_B, scores_BI.device)
    events_E, items_E, values_E = entries_of(features, scores_BI)
    added_E = mix["together"][lengths_B[events_E]] * values_E
    scores_BI.index_put_((events_E, items_E), added_E, accumulate=True)
    if allow_repeats:
        events, ages, items = (as_rows(rows, scores_BI.device) for rows in repeats_of(windows))
        scores_BI.index_put_((events, items), mix["repeat"][ages], accumulate=True)


def entries_of(features: Features, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(event, item, value) of each feature, on the device of `like`, values in its type."""
    events_E, items_E = as_rows(features.events_E, like.device), as_rows(features.items_E, like.device)
    return events_E, items_E, as_tensor(features.values_E, like.device).to(like.dtype)


def repeats_of(windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """(event, age, item) of the newest interactions of each window."""
    newest = windows.items_BW[:, :REPEAT_AGES]
    events, ages = np.nonzero(newest >= 0)
    return events, ages, newest[events, ages]


def log_counts(count_I: Tensor, dtype: torch.dtype) -> Tensor:
    return (count_I.to(dtype) + 0.5).log()


def as_rows(rows: NDArray[np.integer], device: torch.device) -> Tensor:
    return as_tensor(rows.astype(np.int64, copy=False), device)


def as_tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)
