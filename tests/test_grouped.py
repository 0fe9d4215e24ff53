"""Lists by bounds on groups are those of all scores, or said not to be proven."""

from functools import cache

import numpy as np
import pytest
import torch
from streams import random_stream, run, small_learner

from model.entries import ItemContent
from model.grouped import GROUP, TORCH, Parts, _cut, best_by_groups, kernels_for
from model.kernels.groups import available
from model.ranking import RankingRates
from model.topk import best, by_torch, on_device

NAN, INF = float("nan"), float("inf")


def made(*, users=12, items=2000, width=16, seed=0, extras=30, seen=40, **changed):
    """Random parts; some items are no candidates, some pairs have two extras, some of these are seen."""
    draw = np.random.default_rng(seed)
    owners, others = np.sort(draw.integers(0, users, extras * users)), np.sort(draw.integers(0, users, seen * users))
    extra_items = draw.integers(0, items, len(owners))
    extra_items[1::7] = extra_items[: len(extra_items[1::7]) * 7 : 7]
    seen_pairs = np.unique(np.stack((others, draw.integers(0, items, len(others)))), axis=1)
    both = min(len(owners), seen_pairs.shape[1]) // 5
    seen_pairs[:, :both] = owners[:both], extra_items[:both]
    arrays = {
        "users_UD": draw.normal(size=(users, width)),
        "vectors_ID": draw.normal(size=(items, width)),
        "base_I": np.where(draw.random(items) < 0.1, -INF, draw.normal(size=items)),
        "log_count_I": np.log(draw.integers(0, 50, items) + 0.5),
        "popularity_U": draw.normal(size=users),
        "extras_E": 3 * draw.normal(size=len(owners)),
        **changed,
    }
    return Parts(
        **{name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items()},
        extra_users_E=torch.from_numpy(owners),
        extra_items_E=torch.from_numpy(extra_items),
        seen_users_S=torch.from_numpy(seen_pairs[0]),
        seen_items_S=torch.from_numpy(seen_pairs[1]),
        most_extras=int(np.bincount(owners, minlength=1).max(initial=0)),
    )


def all_scores(parts):
    scores_UI = parts.users_UD @ parts.vectors_ID.T + (parts.base_I + parts.popularity_U[:, None] * parts.log_count_I)
    scores_UI.index_put_((parts.extra_users_E, parts.extra_items_E), parts.extras_E, accumulate=True)
    scores_UI[parts.seen_users_S, parts.seen_items_S] = -INF
    return scores_UI


def assert_best(found, parts, k):
    """The k best of all scores, but for items whose scores differ by no more than float32 rounds."""
    scores_UI = all_scores(parts)
    values_UK, _ = best(scores_UI, k)
    right_UK = np.full((len(values_UK), k), -INF, dtype=np.float32)
    right_UK[:, : values_UK.shape[1]] = values_UK.numpy()
    np.testing.assert_allclose(found.scores_UK, right_UK, rtol=1e-5, atol=1e-4)
    listed_UK = found.scores_UK > -INF
    own_UK = np.take_along_axis(scores_UI.numpy(), found.rows_UK, 1)
    np.testing.assert_allclose(own_UK[listed_UK], found.scores_UK[listed_UK], rtol=1e-5, atol=1e-4)
    for rows, listed in zip(found.rows_UK, listed_UK, strict=True):
        assert len(set(rows[listed].tolist())) == listed.sum()


@pytest.mark.parametrize("k", [1, 10, 64, 200])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_few_groups_are_the_best_of_all(seed, k):
    parts = made(seed=seed, items=20_000)

    found = best_by_groups(parts, k, TORCH)

    assert found.is_proven_U.all()
    assert_best(found, parts, k)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("apart", [1e-4, 1e-3, 1e-2])
def test_what_the_rough_product_cannot_tell_apart_is_not_called_proven(apart, scale):
    draw = np.random.default_rng(3)
    close_ID = scale * (draw.normal(size=(1, 32)) + apart * draw.normal(size=(20_000, 32)))
    parts = made(
        users=60, items=20_000, width=32, vectors_ID=close_ID, base_I=np.zeros(20_000), popularity_U=np.zeros(60),
        extras=0, seen=0,
    )  # fmt: skip

    found = best_by_groups(parts, 3, TORCH, more=0)

    rough_UI = _cut(parts.users_UD) @ _cut(parts.vectors_ID).T
    exact_UI = (parts.users_UD.double() @ parts.vectors_ID.double().T).numpy()
    by_rough_UK = best(rough_UI, 3)[1].numpy()
    best_UK = np.sort(exact_UI, 1)[:, :-4:-1]
    wrong_U = np.take_along_axis(exact_UI, by_rough_UK, 1)[:, -1] < best_UK[:, -1] - 1e-6 * np.abs(best_UK[:, -1])
    found_UK = np.take_along_axis(exact_UI, found.rows_UK, 1)
    is_right_U = (found_UK >= best_UK - 1e-6 * np.abs(best_UK)).all(1)
    assert is_right_U[found.is_proven_U].all()
    assert wrong_U.any()  # or there was nothing to be mistaken about
    assert not found.is_proven_U.all()


def test_equal_scores_come_by_row():
    parts = made(
        items=GROUP * 30, vectors_ID=np.ones((GROUP * 30, 16)), base_I=np.zeros(GROUP * 30), extras=0, seen=0,
        log_count_I=np.zeros(GROUP * 30),
    )  # fmt: skip

    few, whole = best_by_groups(parts, 10, TORCH), best_by_groups(parts, 10, TORCH, more=30)

    assert not few.is_proven_U.any()  # another group could have a lower row
    assert whole.is_proven_U.all()
    assert (whole.rows_UK == np.arange(10)).all()


def test_both_zeros_are_equal():
    vectors_ID = np.zeros((GROUP, 2))
    vectors_ID[::2, 0] = -0.0
    parts = made(users=1, items=GROUP, width=2, users_UD=[[1.0, 0.0]], vectors_ID=vectors_ID, extras=0, seen=0,
                 base_I=np.where(np.arange(GROUP) % 2, 0.0, -0.0), popularity_U=[-0.0])  # fmt: skip

    found = best_by_groups(parts, 5, TORCH)

    assert found.rows_UK.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("k", [1, 5, 40])
def test_lists_end_with_the_last_candidate(k):
    base_I = np.full(3000, -INF)
    base_I[[7, 800, 2999]] = 0.5
    parts = made(items=3000, base_I=base_I, extras=0, seen=0)

    found = best_by_groups(parts, k, TORCH)

    assert found.is_proven_U.all()
    assert ((found.scores_UK > -INF).sum(1) == min(k, 3)).all()
    assert_best(found, parts, k)


def test_who_has_seen_everything_gets_nothing_and_others_all_of_theirs():
    items = 300
    parts = made(users=3, items=items, extras=4)._replace(
        seen_users_S=torch.zeros(items, dtype=torch.int64), seen_items_S=torch.arange(items)
    )

    found = best_by_groups(parts, 400, TORCH)

    assert (found.scores_UK[0] == -INF).all()
    assert found.is_proven_U.all()
    assert_best(found, parts, 400)


def test_a_score_that_is_no_number_makes_no_candidate():
    vectors_ID = np.random.default_rng(0).normal(size=(2000, 16))
    vectors_ID[[3, 700]] = NAN
    parts = made(vectors_ID=vectors_ID, extras=0)

    found = best_by_groups(parts, 10, TORCH)

    assert found.is_proven_U.all()
    assert not np.isin(found.rows_UK, [3, 700]).any()
    assert_best(found, parts._replace(base_I=parts.base_I.masked_fill(parts.vectors_ID[:, 0].isnan(), -INF),
                                      vectors_ID=parts.vectors_ID.nan_to_num()), 10)  # fmt: skip


def test_infinite_scores_are_left_to_others():
    vectors_ID = np.random.default_rng(0).normal(size=(2000, 16))
    vectors_ID[:1500, 2] = INF

    found = best_by_groups(made(vectors_ID=vectors_ID, extras=0), 10, TORCH)

    assert not found.is_proven_U.any()


def test_nobody_and_nothing_give_empty_lists():
    nobody = best_by_groups(made(users=1, extras=0, seen=0)._replace(users_UD=torch.zeros((0, 16))), 5, TORCH)
    nothing = best_by_groups(made(extras=0, seen=0)._replace(vectors_ID=torch.zeros((0, 16))), 5, TORCH)

    assert nobody.rows_UK.shape == (0, 5)
    assert (nothing.scores_UK == -INF).all()
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        best_by_groups(made(), 0, TORCH)


# --- a learner's lists ---


def learner_of(encoder, items=4000, **settings):
    made = small_learner(encoder=encoder, ranking=RankingRates(full_softmax_items=4096, negatives=8), **settings)
    run(made, random_stream(3, 2500, users=20, items=items), 64)
    return made


@cache
def shared_learner_of(encoder, *, allow_repeats):
    """For those who only ask it."""
    return learner_of(encoder, allow_repeats=allow_repeats)


def rows_of(learner):
    return np.arange(len(learner.users), dtype=np.int64)


def assert_same_lists(ours, theirs):
    assert ours.users_U.tolist() == theirs.users_U.tolist()
    assert ours.lengths_U.tolist() == theirs.lengths_U.tolist()
    for mine, right, length in zip(ours.scores_UK, theirs.scores_UK, ours.lengths_U, strict=True):
        np.testing.assert_allclose(mine[:length], right[:length], rtol=1e-4, atol=1e-4)
    same = [
        len(set(mine[:length]) & set(right[:length])) / max(length, 1)
        for mine, right, length in zip(ours.codes_UK, theirs.codes_UK, ours.lengths_U, strict=True)
    ]
    assert np.mean(same) > 0.99  # ties in all but rounding may fall either way


@pytest.mark.parametrize("k", [1, 10, 3000])
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize("encoder", ["recency", "blend", "cooccurrence", "gru"])
def test_a_learners_lists_are_those_of_plain_torch(encoder, allow_repeats, k):
    learner = shared_learner_of(encoder, allow_repeats=allow_repeats)

    assert_same_lists(on_device(learner, rows_of(learner), k, kernels=TORCH), by_torch(learner, rows_of(learner), k))


def test_lists_that_are_not_proven_are_made_from_all_scores():
    learner, rows_U = learner_of("recency"), np.array([3, 5, 8])
    learner.ranking.items.values.zero_()  # so that all scores are equal
    learner.ranking.biases.values.zero_()
    learner.ranking.mix.values["popularity"].zero_()
    proven_U = best_by_groups(learner.parts_on_device(rows_U), 3, TORCH).is_proven_U

    lists, right = on_device(learner, rows_U, 3, kernels=TORCH), by_torch(learner, rows_U, 3)

    assert not proven_U.any()
    assert lists.codes_UK.tolist() == right.codes_UK.tolist()
    assert lists.scores_UK.tolist() == right.scores_UK.tolist()
    assert lists.lengths_U.tolist() == right.lengths_U.tolist()


@pytest.mark.parametrize("k", [40, 400])
@pytest.mark.parametrize("cold_items", [False, True])
def test_the_catalogue_hides_items_and_adds_cold_ones_as_for_plain_torch(cold_items, k):
    learner = learner_of("blend", items=300)
    names = [learner.items.name(row) for row in range(len(learner.items))]
    contents = {item: ItemContent(text=f"word{n % 5}", available=n % 4 != 0) for n, item in enumerate(names)}
    colds = {f"cold{n}": ItemContent(text=f"word{n % 5}", available=n != 7) for n in range(30)}
    learner.describe({**contents, **colds})
    run(learner, random_stream(12, 600, users=20, items=300), 64)  # what words say is learned
    for part in ("popularity", "together"):
        learner.ranking.mix.values[part].zero_()  # or no item without an event is among the best
    learner.ranking.biases.values.zero_()

    lists = on_device(learner, rows_of(learner), k, cold_items=cold_items, kernels=TORCH)

    assert_same_lists(lists, by_torch(learner, rows_of(learner), k, cold_items=cold_items))
    listed = {code for codes, n in zip(lists.codes_UK, lists.lengths_U, strict=True) for code in codes[:n].tolist()}
    assert not listed & {learner.items.row(item) for item in names[::4]}
    assert any(code < 0 for code in listed) == cold_items
    assert any(code >= 0 for code in listed)


def test_a_device_without_kernels_takes_plain_torch():
    assert kernels_for(torch.device("cpu"), 64) is TORCH
    assert not available(torch.device("cpu"), 64)
