"""Data sets: MovieLens-100K as it really is, the synthetic one, and files of JSON lines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from producer import datasets
from producer.datasets import Dataset, DatasetUnavailable, EventsFileError, load, load_events_file
from producer.events import Click, Event, Rating, encode
from producer.fetch import Archive

RATINGS = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "196\t242\t3\t881250949\n"
    "186\t302\t4.5\t881250900\n"
    "22\t377\t1\t881250949\n"
    "7\t242\t2\t881250900\n"
)
MOVIES = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "242\tKolya\t1996\tComedy\n"
    "302\tCérémonie, La\t1995\tDrama Film-Noir\n"
    "377\tunkonwn\tunkonwn\tunknown\n"
)

PEOPLE = (
    "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "196\t49\tM\twriter\t55105\n"
    "22\t7\tF\tstudent\t40206\n"
)


@pytest.fixture
def small_movielens(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    def fetch_members(archive: Archive, cache_dir: Path) -> dict[str, bytes]:
        del cache_dir
        ratings, movies, people = archive.members
        return {ratings: RATINGS.encode(), movies: MOVIES.encode(), people: PEOPLE.encode()}

    monkeypatch.setattr(datasets, "fetch_members", fetch_members)
    return load("movielens-100k")


@pytest.fixture(scope="module")
def movielens() -> Dataset:
    try:
        return load("movielens-100k")
    except DatasetUnavailable as error:
        pytest.skip(f"no MovieLens-100K here: {error}")


def test_ratings_come_in_time_order_and_in_file_order_within_a_second(small_movielens: Dataset) -> None:
    assert [event.user_id for event in small_movielens.events] == ["186", "7", "196", "22"]
    assert small_movielens.events[0] == Rating(user_id="186", item_id="302", rating=4.5, timestamp=881_250_900_000)


def test_people_have_gender_occupation_and_age_and_no_address(small_movielens: Dataset) -> None:
    writer, student = small_movielens.users

    assert (writer.user_id, writer.features) == ("196", {"age": 49.0})
    assert writer.categories == ["gender M", "occupation writer", "age 40"]
    assert student.categories == ["gender F", "occupation student", "age 0"]
    assert "55105" not in str(writer)


def test_movies_have_title_year_and_genres(small_movielens: Dataset) -> None:
    kolya, la_ceremonie, unknown = small_movielens.items

    assert small_movielens.titles == {"242": "Kolya (1996)", "302": "Cérémonie, La (1995)", "377": "unkonwn"}
    assert la_ceremonie.categories == ["Drama", "Film-Noir"]
    assert kolya.features == {"year": 1996.0}
    assert unknown.features is None
    assert kolya.timestamp == small_movielens.events[0].timestamp


def test_the_real_movielens_is_whole(movielens: Dataset) -> None:
    events = movielens.events
    times = [event.timestamp for event in events]

    assert len(events) == 100_000
    assert len({event.user_id for event in events}) == 943
    assert len({event.item_id for event in events if isinstance(event, Rating)}) == len(movielens.items) == 1_682
    assert times == sorted(times)
    assert events[0] == Rating(user_id="259", item_id="255", rating=4.0, timestamp=874_724_710_000)
    assert sum(event.rating for event in events if isinstance(event, Rating)) == 352_986
    assert movielens.titles["1"] == "Toy Story (1995)"


def test_the_synthetic_data_set_is_the_same_for_the_same_seed_only() -> None:
    first, same, other = (load("synthetic", seed=seed) for seed in (1, 1, 2))

    assert first == same
    assert first.events != other.events


def test_the_synthetic_data_set_has_ratings_clicks_and_titles() -> None:
    synthetic = load("synthetic")

    kinds = [type(event) for event in synthetic.events]
    times = [event.timestamp for event in synthetic.events]
    assert len(kinds) == 100_000
    assert kinds.count(Rating) + kinds.count(Click) == 100_000
    assert 0.45 < kinds.count(Rating) / 100_000 < 0.55
    assert times == sorted(times)
    assert {event.item_id for event in synthetic.events if isinstance(event, Click)} <= set(synthetic.titles)
    assert synthetic.titles["i42"].startswith("Item 42 (")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no data set 'netflix'; there are: movielens-100k, synthetic"):
        load("netflix")


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


def test_a_file_gives_its_events_in_file_order_without_the_empty_lines(tmp_path: Path) -> None:
    events = [
        Click(user_id="u2", item_id="i1", timestamp=9),
        Rating(user_id="u1", item_id="i1", rating=4.0, timestamp=3),
    ]
    path = write(tmp_path / "events.jsonl", encode(events[0]), b"", b"  ", encode(events[1]), b"")

    assert list(load_events_file(path)) == events


@pytest.mark.parametrize("lines", [(), (b"\xef\xbb\xbf",), (b"\xef\xbb\xbf\r", b"")])
def test_an_empty_file_has_no_events(tmp_path: Path, lines: tuple[bytes, ...]) -> None:
    assert list(load_events_file(write(tmp_path / "events.jsonl", *lines))) == []


def test_the_mark_before_utf_8_is_passed_over_at_the_beginning_of_a_file_and_nowhere_else(tmp_path: Path) -> None:
    good = Click(user_id="u1", item_id="i1", timestamp=1)
    marked = b"\xef\xbb\xbf" + encode(good)

    assert list(load_events_file(write(tmp_path / "events.jsonl", marked, encode(good)))) == [good, good]
    with pytest.raises(EventsFileError, match="line 2: JSON is malformed"):
        list(load_events_file(write(tmp_path / "events.jsonl", marked, marked)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type":"rating","user_id":"u","item_id":"i","rating":"good","timestamp":1}', r"`\$\.rating`"),
        (b'{"type":"click","user_id":"u","item_id":"i"}', "`timestamp`"),
        (b'{"type":"dance","user_id":"u"}', r"`\$\.type`"),
        (b'{"type":"rating","user_id":"u","item_id":"i","rating":NaN,"timestamp":1}', "malformed"),
        (b'{"type":"click","user_id":"\xff","item_id":"i","timestamp":1}', "utf-8"),
        (b'{"type":"click","user_id":"u","item_id":"i","timestamp":1,"x":' + b"[" * 100_000, "recursion"),
        (b'{"type":"click","user_id":"u"', "truncated"),
        (b"[1]", "array"),
        (
            b'{"type":"click","user_id":"u","item_id":"i","timestamp":253402300800000}',
            r"click: \$\.timestamp: expected at most 253402300799999",
        ),
    ],
)
def test_a_line_that_is_no_event_is_named_with_its_number_and_path(tmp_path: Path, line: bytes, reason: str) -> None:
    good = Click(user_id="u1", item_id="i1", timestamp=1)
    path = write(tmp_path / "events.jsonl", encode(good), b"", line, encode(good))
    events: Iterator[Event] = load_events_file(path)
    before = next(events)

    with pytest.raises(EventsFileError, match=rf"events\.jsonl, line 3: .*{reason}"):
        next(events)

    assert before == good


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(load_events_file(tmp_path / "nothing.jsonl"))
