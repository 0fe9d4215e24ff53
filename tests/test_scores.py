"""Scores for lists: those that events are ranked by, worked out one by one."""

import numpy as np
import pytest
import torch
from plain_ranking import PlainScores
from ranked_batches import ITEMS, WINDOW, make_batch, make_head

from model.scores import all_scores
from model.windows import empty_windows


@pytest.mark.parametrize("allow_repeats", [False, True])
def test_scores_for_lists_are_the_scores_that_events_are_ranked_by(allow_repeats):
    given = make_batch(7, allow_repeats=allow_repeats)
    count_I = np.arange(ITEMS)
    windows = given.batch.found.windows
    plain, counts = PlainScores(given.head), dict(enumerate(count_I.tolist()))
    features = given.head.cooccurrence.features(windows, count_I)

    scores = all_scores(given.head.parameters, windows, count_I, allow_repeats=allow_repeats)

    for place, event in enumerate(given.words):
        here = slice(features.starts_B[place], features.starts_B[place + 1])
        said = dict(zip(features.items_E[here].tolist(), features.values_E[here].tolist(), strict=True))
        expected = torch.stack(list(plain.scores(event.window, counts, said, allow_repeats).values()))
        torch.testing.assert_close(scores[place], expected.detach(), atol=1e-6, rtol=1e-6)


def test_nobody_has_no_scores():
    scores = all_scores(
        make_head().parameters, empty_windows(0, WINDOW), np.zeros(ITEMS, dtype=np.int64), allow_repeats=False
    )

    assert scores.shape == (0, ITEMS)
