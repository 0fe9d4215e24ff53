"""Data sets as streams of events: MovieLens-100K, a synthetic one, and files of JSON lines.

Every data set is in time order and says what its items are called. This file knows nothing of Kafka.
"""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from producer.checking import checked
from producer.events import Event, Item, Rating, User
from producer.fetch import Archive, DatasetUnavailable, default_cache_dir, fetch_members
from producer.simulate import catalogue, simulate

__all__ = ["NAMES", "Dataset", "DatasetUnavailable", "EventsFileError", "load", "load_events_file", "numbered_lines"]

_FOLDER = "recbole/dataset_example/ml-100k"
_RATINGS = f"{_FOLDER}/ml-100k.inter"
_MOVIES = f"{_FOLDER}/ml-100k.item"
_PEOPLE = f"{_FOLDER}/ml-100k.user"
MOVIELENS_100K = Archive(
    package="recbole",
    version="1.2.1",
    members={
        _RATINGS: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        _MOVIES: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        _PEOPLE: "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    },
)
"""MovieLens-100K by GroupLens, in RecBole's wheel. Its licence forbids passing it on: fetched, never kept here."""

_SYNTHETIC_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """Events in time order, the catalogue of the items in them, and what is known of the users."""

    name: str
    events: Sequence[Event]
    titles: Mapping[str, str]
    """item_id -> what a person would call the item."""
    items: list[Item]
    users: list[User] = field(default_factory=list)


class EventsFileError(ValueError):
    """A line of an events file is not an event. The message names the file, the line and the JSON path."""


def load(name: str, cache_dir: Path | None = None, seed: int = 0) -> Dataset:
    """The data set of that name. `cache_dir` is for those that are fetched, `seed` for those that are generated.

    Raises ValueError for an unknown name and DatasetUnavailable, with the ways out, where fetching fails.
    """
    loader = _LOADERS.get(name)
    if loader is None:
        raise ValueError(f"there is no data set {name!r}; there are: {', '.join(NAMES)}")
    return loader(cache_dir or default_cache_dir(), seed)


def load_events_file(path: Path) -> Iterator[Event]:
    """The events of a file of JSON lines, one at a time and in file order; empty lines are passed over.

    EventsFileError for a line that is no event, or one that the worker would accept under no settings.
    """
    decoder = msgspec.json.Decoder(Event)
    for number, line in numbered_lines(path):
        try:
            event = decoder.decode(line)
            checked(event)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, a wrong encoding's too
            # msgspec's message ends with the JSON path: "... - at `$.rating`"
            raise EventsFileError(f"{path}, line {number}: {error}") from error
        yield event


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not empty, numbered from 1; without the mark (BOM) that UTF-8 may begin with."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield number, text


def _load_movielens(cache_dir: Path, seed: int) -> Dataset:  # noqa: ARG001 - one signature for all loaders
    contents = fetch_members(MOVIELENS_100K, cache_dir)
    events = _parse_ratings(contents[_RATINGS].decode())
    items = [_parse_movie(row, timestamp=events[0].timestamp) for row in _rows(contents[_MOVIES].decode())]
    users = [_parse_person(row, timestamp=events[0].timestamp) for row in _rows(contents[_PEOPLE].decode())]
    return Dataset(name="movielens-100k", events=events, titles=_titles(items), items=items, users=users)


def _load_synthetic(cache_dir: Path, seed: int) -> Dataset:  # noqa: ARG001 - one signature for all loaders
    items = catalogue(events=_SYNTHETIC_EVENTS, seed=seed)
    return Dataset(
        name="synthetic",
        events=list(simulate(events=_SYNTHETIC_EVENTS, seed=seed)),
        titles=_titles(items),
        items=items,
    )


def _titles(items: list[Item]) -> dict[str, str]:
    return {item.item_id: item.title or item.item_id for item in items}


def _rows(table: str) -> Iterator[list[str]]:
    """The cells of a TSV, without its header line."""
    # split("\n"), not splitlines(): that one also breaks at characters that a title may hold
    return (line.split("\t") for line in table.split("\n")[1:] if line)


def _parse_ratings(table: str) -> list[Rating]:
    ratings = [
        Rating(user_id=user_id, item_id=item_id, rating=float(rating), timestamp=int(seconds) * 1000)
        for user_id, item_id, rating, seconds in _rows(table)
    ]
    ratings.sort(key=lambda rating: rating.timestamp)  # stable: what shares a second stays in file order
    return ratings


def _parse_movie(row: list[str], timestamp: int) -> Item:
    item_id, name, year, genres = row
    known_year = year.isdecimal()
    return Item(
        item_id=item_id,
        timestamp=timestamp,
        title=f"{name} ({year})" if known_year else name,
        categories=genres.split(" "),
        features={"year": float(year)} if known_year else None,
    )


def _parse_person(row: list[str], timestamp: int) -> User:
    user_id, age, gender, occupation, _zip_code = row
    decade = f"age {10 * (int(age) // 10)}"
    categories = [f"gender {gender}", f"occupation {occupation}", decade]
    return User(user_id=user_id, timestamp=timestamp, categories=categories, features={"age": float(age)})


_LOADERS: Mapping[str, Callable[[Path, int], Dataset]] = {
    "movielens-100k": _load_movielens,
    "synthetic": _load_synthetic,
}
NAMES = tuple(_LOADERS)
