"""The sampled softmax: kernels and twin, what is drawn for whom, what moves. Its gradient: test_ranking.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ranked_batches import ITEMS, SAMPLED_RATES, WIDTHS, make_batch
from streams import click, run, small_learner

from model.kernels.sample import SEEN_LOOKED_AT
from model.negatives import Negatives
from model.ranking import RankingRates
from model.sampled import SampledSoftmax


def gradients(given, step=1):
    """Of a step, by name; those of encoder and mix as they were kept."""
    head = given.head
    head.sampled.follow(given.batch)
    weights = np.where(given.batch.found.known_B, given.weights, 0.0)
    found = head.sampled.gradients(
        given.batch, given.features, weights, step,
        items=head.items, biases=head.biases, content=None, encoder=head.encoder, mix=head.mix,
    )  # fmt: skip
    kept = {**head.mix.gradients, **head.encoder.gradients()}
    table = torch.zeros_like(head.items.values).index_add(0, torch.from_numpy(found.rows_T), found.by_items_TD)
    return {"losses": found.losses_B, "items": table, "biases": found.by_biases_T, **kept}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("allow_repeats", [False, True])
@pytest.mark.parametrize(("negatives", "drawn"), [(1, 0.2), (3, 0.2), (3, 0.5), (8, 0.2), (100, 0.2)])
@pytest.mark.parametrize("size", [1, 25])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_kernels_do_what_their_torch_twin_does(monkeypatch, width, size, negatives, drawn, allow_repeats, dtype):
    rates = replace(SAMPLED_RATES, negatives=negatives, drawn_an_event=drawn)
    one, twin = (
        make_batch(3, allow_repeats=allow_repeats, rates=rates, dtype=dtype, size=size, only_known=True, width=width)
        for _ in range(2)
    )

    kernels = gradients(one)
    monkeypatch.setattr(SampledSoftmax, "_soften", SampledSoftmax._soften_anywhere)
    plain = gradients(twin)

    near = 1e-7 if dtype == torch.float64 else 1e-4  # exponentials are a series
    for name, value in kernels.items():
        torch.testing.assert_close(value.to(plain[name]), plain[name], atol=near, rtol=10 * near, msg=name)
    assert kernels["losses"].any() or size == 1


def test_the_kernels_do_what_their_torch_twin_does_for_who_has_more_items_than_are_looked_at(monkeypatch):
    rates = RankingRates(full_softmax_items=0, negatives=64)
    collected = [click(user, f"i{n}", n) for user in ("first", "second") for n in range(2 * SEEN_LOOKED_AT)]
    kernels, plain = (small_learner(dtype=torch.float64, ranking=rates) for _ in range(2))

    run(kernels, collected, 32)
    monkeypatch.setattr(SampledSoftmax, "_soften", SampledSoftmax._soften_anywhere)
    run(plain, collected, 32)

    torch.testing.assert_close(kernels.ranking.items.values, plain.ranking.items.values, atol=1e-7, rtol=1e-6)


def test_the_events_of_a_batch_share_the_drawn_items_out_in_turns():
    given = make_batch(3, rates=replace(SAMPLED_RATES, negatives=2, drawn_an_event=2.0))
    given.head.sampled.follow(given.batch)

    sample = given.head.sampled.draw(given.batch, 1)

    assert sample.samples == len(sample.drawn_N) // 2 > 1
    assert sample.rows_T[: len(sample.drawn_N)].tolist() == sample.drawn_N.tolist()
    assert len(set(sample.rows_T.tolist())) == len(sample.rows_T)
    assert sample.rows_T[sample.places_B].tolist() == given.batch.items_B.tolist()
    filled = sample.windows.items_BW >= 0
    np.testing.assert_array_equal(
        sample.rows_T[sample.windows.items_BW[filled]], given.batch.found.windows.items_BW[filled]
    )


def test_a_small_part_of_what_is_drawn_weighs_as_much_more():
    both = []
    for negatives in (2, 1000):
        given = make_batch(3, rates=replace(SAMPLED_RATES, negatives=negatives, drawn_an_event=40.0))
        given.head.sampled.follow(given.batch)
        sample = given.head.sampled.draw(given.batch, 1)
        both.append(dict(zip(sample.drawn_N.tolist(), sample.log_share_N.tolist(), strict=True)))

    drawn = len(both[1])
    for item, log_share in both[0].items():
        assert log_share == pytest.approx(both[1][item] + np.log(2 / drawn))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_where_nothing_can_be_drawn_an_item_is_certain(monkeypatch, dtype):
    monkeypatch.setattr(Negatives, "draw", lambda *_: (np.zeros(0, dtype=np.int64), np.zeros(0)))
    given = make_batch(3, rates=SAMPLED_RATES, dtype=dtype, only_known=True)

    found = gradients(given)

    assert (found["losses"][given.weights >= 0] == 0).all()
    assert found["items"].isfinite().all()


def test_samples_are_a_function_of_seed_and_step():
    drawn = []
    for step in (1, 1, 2):
        given = make_batch(3, rates=SAMPLED_RATES)
        given.head.sampled.follow(given.batch)
        drawn.append(given.head.sampled.draw(given.batch, step).drawn_N.tolist())

    assert drawn[0] == drawn[1] != drawn[2]


def test_a_step_says_which_rows_it_moved():
    given = make_batch(3, rates=SAMPLED_RATES)
    before = given.head.items.values.clone()

    place = given.head.moved.end
    given.head.rank_then_learn(given.batch, given.features, given.weights, 1)

    moved = np.flatnonzero((given.head.items.values != before).any(1).numpy())
    rows = given.head.moved.since(place).tolist()
    assert set(moved.tolist()) <= set(rows)
    assert len(rows) == len(set(rows)) < ITEMS


def test_a_step_that_was_refused_moved_no_row_and_the_full_softmax_moves_all():
    given = make_batch(3, rates=SAMPLED_RATES)
    full = make_batch(3)
    places = [one.head.moved.end for one in (given, full)]

    with np.errstate(invalid="ignore"):
        given.head.rank_then_learn(given.batch, given.features, given.weights * np.inf, 1)
    full.head.rank_then_learn(full.batch, full.features, full.weights, 1)

    assert given.head.moved.since(places[0]).tolist() == []
    assert full.head.moved.since(places[1]) is None
