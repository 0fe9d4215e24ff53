"""The columns of a take."""

import numpy as np
from stream_fakes import Record

from consumer.records import Taken


def test_columns_say_where_each_record_stands_and_when_it_was_sent():
    taken = Taken([Record(3, 17, time_ms=5), Record(0, 2, time_ms=-1)])

    assert len(taken) == 2
    assert taken.partition_R.tolist() == [3, 0]
    assert taken.offset_R.tolist() == [17, 2]
    assert taken.time_R.tolist() == [5, -1]
    assert taken.stamps_R2.tolist() == [[1, 5], [1, -1]]


def test_nothing_taken_has_empty_columns():
    taken = Taken([])

    assert not taken
    assert taken.stamps_R2.shape == (0, 2)
    assert taken.partition_R.dtype == taken.offset_R.dtype == np.int64
