"""Figures of the cold: who is cold is judged by what came before the event."""

import numpy as np

from consumer.cold import FEW, ColdFigures
from model.interactions import Forget, Interaction


def click(user, item, weight=1.0, rating=None):
    return Interaction(user, item, 0, weight, rating)


def observe(made, batch, ranks, ranked=None):
    ranks = np.array(ranks, dtype=np.float64)
    made.observe(batch, np.ones(len(ranks), dtype=np.bool_) if ranked is None else np.array(ranked), ranks)


def test_a_user_is_cold_for_the_first_few_events_and_an_item_too_wherever_steps_are_cut():
    for size in (1, 3, 8):
        made = ColdFigures()
        batch = [click("u", f"i{n % 2}") for n in range(16)]
        for start in range(0, 16, size):
            observe(made, batch[start : start + size], [0.0] * len(batch[start : start + size]))

        figures = made.figures()

        assert figures["users"] == {"ranked": FEW, "hr@10": 1, "ndcg@10": 1}
        assert figures["items"]["ranked"] == 2 * FEW


def test_misses_count_as_nothing_and_what_is_not_ranked_does_not_count():
    made = ColdFigures()

    observe(made, [click("u", "a"), click("v", "b"), click("w", "c")], [1.0, np.nan, 0.0], [True, True, False])

    assert made.figures()["items"] == {"ranked": 2, "hr@10": 0.5, "ndcg@10": round(0.5 / np.log2(3), 6)}


def test_skips_make_nobody_warm_and_who_was_forgotten_is_cold_again():
    made = ColdFigures()
    observe(made, [click("u", "a", weight=-1.0)] * 9, [0.0] * 9, [False] * 9)
    observe(made, [click("u", f"a{n}", weight=0.0, rating=1.0) for n in range(9)], [0.0] * 9)

    observe(made, [Forget("u"), click("u", "a")], [0.0])

    assert made.figures()["users"]["ranked"] == FEW + 1


def test_nothing_ranked_has_no_figures():
    assert ColdFigures().figures()["items"] == {"ranked": 0, "hr@10": None, "ndcg@10": None}
