"""Ids as spans of one buffer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.ids import Ids

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=8)


@given(NAMES)
def test_ids_come_back_as_they_were(names):
    ids = Ids.of(names)

    assert len(ids) == len(names)
    assert ids.names() == names


@given(NAMES, st.data())
def test_some_of_them_are_those_at_the_places(names, data):
    places = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=5)) if names else []

    assert Ids.of(names)[np.array(places, dtype=np.int64)].names() == [names[place] for place in places]
    assert Ids.of(names)[1:3].names() == names[1:3]
