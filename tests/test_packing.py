"""Ids as bytes and lengths: what is packed comes back, and arrays that do not fit together are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.packing import pack, unpack

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))


@given(ids)
def test_what_is_packed_is_unpacked(names):
    packed = pack(names)

    assert unpack("ids", *packed) == names


def test_the_layout_is_utf_8_end_to_end_and_lengths_in_bytes():
    packed = pack(["ab", "ü", "", "日"])

    assert packed.bytes.dtype == np.uint8
    assert packed.bytes.tobytes() == "abü日".encode()
    assert packed.lengths.dtype == np.int64
    assert packed.lengths.tolist() == [2, 2, 0, 3]


def test_no_ids_are_two_empty_arrays():
    packed = pack([])

    assert (packed.bytes.shape, packed.lengths.shape) == ((0,), (0,))
    assert unpack("ids", *packed) == []


def test_the_arrays_may_be_written_to():
    packed = pack(["a"])

    packed.bytes[0] = ord("b")
    packed.lengths[0] = 1

    assert unpack("ids", *packed) == ["b"]


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        ([1], "users: lengths add up to 1 bytes, but there are 3"),
        ([2, 2], "users: lengths add up to 4 bytes, but there are 3"),
        ([], "users: lengths add up to 0 bytes, but there are 3"),
        ([4, -1], "users: a length of -1 bytes"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(lengths, complaint):
    packed = np.frombuffer(b"abc", dtype=np.uint8)

    with pytest.raises(ValueError, match=complaint):
        unpack("users", packed, np.array(lengths, dtype=np.int64))


def test_bytes_that_are_not_utf_8_are_refused():
    with pytest.raises(ValueError, match="utf-8"):
        unpack("users", np.array([0xFF], dtype=np.uint8), np.array([1], dtype=np.int64))
