"""Running figures: those of numpy, over all ratings so far."""

import numpy as np
import pytest

from model.kernels.running import deviation_of, observe


def test_running_figures_are_those_of_all_ratings():
    overall, ratings = np.zeros(6), np.random.default_rng(5).random(50)

    for rating in ratings:
        observe(overall, rating, 0.25)

    np.testing.assert_allclose(
        overall, [50, ratings.mean(), ratings.var(), ratings.min(), ratings.max(), 0.25], rtol=1e-12
    )
    assert deviation_of(overall) == pytest.approx(ratings.std())
