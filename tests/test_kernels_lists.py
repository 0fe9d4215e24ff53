"""The compiled writer of lists: what it writes is, decoded, what msgspec writes; ids are `hashlib`'s."""

import hashlib
import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.kernels import lists as kernels
from consumer.kernels.lists import MOST_SCORE, find_coded, replace_lists, sha256_32, unpack_lists, write_lists
from consumer.lists import UserList, recommendations_of
from model.kernels.compiled import interpreted
from producer.events import Recommendations, SourceEvent

KERNELS = [write_lists, sha256_32, replace_lists, find_coded, unpack_lists]
INNER = [name for name in vars(kernels) if name.startswith(("_put", "_mix", "_rot"))]


@pytest.fixture(params=["compiled", "plain"])
def twin(request, monkeypatch):
    """A function that gives a kernel as it runs with numba, and as it runs without."""
    if request.param == "compiled":
        return lambda kernel: kernel
    for name in INNER:
        monkeypatch.setattr(kernels, name, interpreted(getattr(kernels, name)))
    return interpreted


def columns(ids):
    """The ids as a vocabulary keeps them, not in the order of its rows."""
    encoded = [name.encode() for name in ids]
    order = list(range(len(ids)))
    random.Random(len(ids)).shuffle(order)
    start_R, blob = np.zeros(len(ids), dtype=np.int64), b""
    for row in order:
        start_R[row] = len(blob)
        blob += encoded[row]
    lengths = np.array([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(blob + b"\xff\xff", dtype=np.uint8), start_R, lengths


def written(write, lists, *, topic="events", version=7, generated_at=1000, sources=None, room=1 << 20, first=0):
    """What the writer makes of (user, items, scores); of an item that begins with "cold" as one of the catalogue."""
    users = sorted({user for user, _, _ in lists})
    items = sorted({item for _, items, _ in lists for item in items})
    warm, cold = [item for item in items if not item.startswith("cold")], [i for i in items if i.startswith("cold")]
    code_of = {**{item: row for row, item in enumerate(warm)}, **{item: -1 - row for row, item in enumerate(cold)}}
    longest = max((len(items) for _, items, _ in lists), default=0)
    codes_UK = np.full((len(lists), longest), 2**31 - 1, dtype=np.int32)
    scores_UK = np.full((len(lists), longest), np.nan, dtype=np.float32)
    for place, (_, listed, scores) in enumerate(lists):
        codes_UK[place, : len(listed)] = [code_of[item] for item in listed]
        scores_UK[place, : len(listed)] = scores
    sources = sources or [(0, 5, 1000)] * len(lists)
    partition_U, offset_U, timestamp_U = np.array(sources, dtype=np.int64).reshape(-1, 3).T.copy()
    out, bounds = np.empty(room, dtype=np.uint8), np.empty(2 * len(lists) + 1, dtype=np.int64)
    count = write(
        first,
        np.arange(len(lists)),
        np.array([users.index(user) for user, _, _ in lists], dtype=np.int64),
        codes_UK,
        np.array([len(listed) for _, listed, _ in lists], dtype=np.int32),
        scores_UK,
        partition_U,
        offset_U,
        timestamp_U,
        version,
        generated_at,
        np.frombuffer(topic.encode(), dtype=np.uint8).copy(),
        np.frombuffer(msgspec.json.encode(topic), dtype=np.uint8).copy(),
        *columns(users),
        *columns(warm),
        *columns(cold),
        out,
        bounds,
    )
    ends = bounds[: 2 * count + 1].tolist() if count else [0]
    return [
        (out[key:value].tobytes(), out[value:end].tobytes())
        for key, value, end in zip(ends[0::2], ends[1::2], ends[2::2], strict=False)
    ]


def plain(one, source=("events", 0, 5, 1000), version=7, generated_at=1000):
    user, items, scores = one
    exact = [float(np.float32(score)) for score in scores]
    return recommendations_of(UserList(user, items, exact), SourceEvent(*source), version, generated_at)


def assert_same(found, expected):
    """Byte for byte the key; decoded, the value. Strict: what msgspec refuses is no JSON."""
    key, value = found
    assert key == expected.user_id.encode()
    assert msgspec.json.decode(value, type=Recommendations) == expected


ids = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.text(st.sampled_from('"\\/\x00\x01\x1f\x7f\n\r\t\b\fü€😀\u2028{}[],: a'), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=40, max_size=256),
)
scores = st.one_of(
    st.floats(-MOST_SCORE, MOST_SCORE, width=32, exclude_min=True, exclude_max=True),
    st.floats(-10, 10, width=32),
    st.sampled_from(
        [0.0, -0.0, 5e-7, -5e-7, 4.9e-7, 1e-6, 0.9999995, 0.9999994, 1.5, -0.1, 1e-45, 2.0**-21, 3 * 2.0**-7]
    ),
)


@settings(max_examples=300, deadline=None)  # the first example may compile a kernel
@given(
    st.lists(st.tuples(ids, st.lists(st.tuples(ids, scores), max_size=6)), min_size=1, max_size=5),
    st.text(st.sampled_from("events.v1_-"), min_size=1, max_size=80),
    st.lists(st.integers(0, 2**62), min_size=5, max_size=5),
)
def test_decoded_it_is_what_msgspec_writes(lists, topic, numbers):
    partition, offset, time_ms, version, generated_at = numbers
    made = [(user, [item for item, _ in pairs], [score for _, score in pairs]) for user, pairs in lists]

    found = written(
        write_lists,
        made,
        topic=topic,
        version=version,
        generated_at=generated_at,
        sources=[(partition, offset, time_ms)] * len(made),
    )

    for one, pair in zip(made, found, strict=True):
        assert_same(pair, plain(one, (topic, partition, offset, time_ms), version, generated_at))


def test_every_byte_that_an_id_can_begin_with_and_all_of_the_catalogue(twin):
    characters = [chr(code) for code in [*range(256), 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF, 0xD7FF, 0xE000]]
    made = [("u" + one, [one, "cold" + one], [1.25, -0.000001]) for one in characters]

    found = written(twin(write_lists), made)

    for one, pair in zip(made, found, strict=True):
        assert_same(pair, plain(one))


def test_scores_are_rounded_as_python_rounds_them(twin):
    rng = np.random.default_rng(0)
    values = [
        *rng.standard_normal(200),
        *(rng.standard_normal(200) * 10.0 ** rng.integers(-8, 12, 200)),
        *(np.arange(1, 60) + 0.5) / 1e6,
        *(rng.integers(0, 10**6, 100) + 0.5) * 2.0**-20,
        *[-0.5, 0.25, 9.0, 10.0, 99.9999999, 123456.789, -1e6],
    ]
    made = [("u", [f"i{number}" for number in range(len(values))], [float(np.float32(value)) for value in values])]

    ((_, value),) = written(twin(write_lists), made)

    decoded = msgspec.json.decode(value, type=Recommendations)
    assert [item.score for item in decoded.items] == [round(score, 6) for score in made[0][2]]
    for score in (item["score"] for item in msgspec.json.decode(value)["items"]):
        assert math.isfinite(score)
        assert isinstance(score, float), "a whole number has its point, too"


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000])
def test_the_digest_is_that_of_hashlib(twin, length):
    text = bytes(np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8))
    room = np.frombuffer(text + bytes(72), dtype=np.uint8).copy()
    out = np.empty(32, dtype=np.uint8)

    twin(sha256_32)(room, length, out)

    assert out.tobytes().decode() == hashlib.sha256(text).hexdigest()[:32]


def test_it_stops_before_the_buffer_overflows_and_goes_on_from_there():
    lists = [(f'"{number}"' * 9, ['"\x01"' * 20] * 3, [-8.5e12] * 3) for number in range(30)]
    whole = written(write_lists, lists)

    pairs, guard = [], 0
    while len(pairs) < len(lists):
        pairs += written(write_lists, lists, room=5000, first=len(pairs))
        guard += 1

    assert pairs == whole
    assert guard > 5
    assert written(write_lists, lists, room=1000) == [], "where not one fits, none is written"


def test_no_lists_are_nothing(twin):
    assert written(twin(write_lists), []) == []


def random_lists(rng, users, k):
    lengths_U = rng.integers(0, k + 1, users).astype(np.int32)
    return rng.integers(-5, 5, (users, k)).astype(np.int32), lengths_U


def test_lists_are_compared_up_to_their_length_and_take_the_place_of_the_old_ones(twin):
    rng = np.random.default_rng(0)
    last_RK, last_length_R = np.zeros((40, 3), dtype=np.int32), np.full(40, -1, dtype=np.int32)
    last = {}
    for _ in range(60):
        users_U = rng.permutation(40)[:10]
        codes_UK, lengths_U = random_lists(rng, 10, int(rng.integers(1, 4)))
        if rng.random() < 0.5:
            codes_UK, lengths_U = codes_UK % 2, lengths_U % 2
        changed_U = np.empty(10, dtype=np.bool_)

        twin(replace_lists)(users_U, codes_UK, lengths_U, last_RK, last_length_R, changed_U)

        lists = [codes[:length].tolist() for codes, length in zip(codes_UK, lengths_U, strict=True)]
        pairs = list(zip(users_U.tolist(), lists, strict=True))
        assert changed_U.tolist() == [last.get(user) != one for user, one in pairs]
        assert len(pairs) > 0
        last.update(pairs)


def test_lists_with_a_marked_code_below_0_are_found(twin):
    last_RK = np.array([[3, -1, -2], [-3, 1, -2], [-2, 0, 0], [5, 6, 7], [-9, 1, 2]], dtype=np.int32)
    lengths_R, names_R = np.array([3, 2, -1, 3, 3], dtype=np.int32), np.zeros(5, dtype=np.bool_)

    twin(find_coded)(last_RK, lengths_R, np.array([False, True, True]), names_R)

    assert names_R.tolist() == [True, True, False, False, False]


def test_packed_lists_come_back(twin):
    rng = np.random.default_rng(0)
    last_RK, lengths_U = random_lists(rng, 30, 4)
    lengths_U[rng.random(30) < 0.3] = -1
    packed = np.concatenate([codes[:length] for codes, length in zip(last_RK, lengths_U.clip(0), strict=True)])

    restored_RK = np.zeros_like(last_RK)
    twin(unpack_lists)(packed, restored_RK, lengths_U)

    for codes, restored, length in zip(last_RK, restored_RK, lengths_U.clip(0), strict=True):
        assert restored.tolist() == [*codes[:length], *[0] * (4 - length)]
