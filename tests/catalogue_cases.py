"""The topics of items and users as tests fill them, and catalogues that have read them."""

from stream_fakes import TIME_MS, FakeSource, Record, Topic

from consumer.catalogue import ROWS, Catalogue
from consumer.offsets import Reset
from producer.events import Item, User, encode


class Row(Record):
    """A record of the items topic: keyed by the item."""

    def key(self):
        return self.item

    item: bytes | None = None


class Items(Topic):
    """The items topic; `put` adds a record, `compact` leaves the newest of each key."""

    def __init__(self, partitions=1) -> None:
        super().__init__(partitions, "items")

    def put(self, item_id, value=b"{}", *, partition=0, time_ms=TIME_MS, **fields):
        if fields or value == b"{}":
            value = encode(Item(item_id=item_id, timestamp=0, **fields))
        self.append(partition, value)
        row = self.records[partition].pop()
        keyed = Row(row.number, row.place, row.payload, row.name, time_ms)
        object.__setattr__(keyed, "item", item_id if isinstance(item_id, bytes) else item_id.encode())
        self.records[partition].append(keyed)

    def compact(self):
        newest = {row.key(): row for row in self.records[0]}
        self.records[0] = list(newest.values())


class Users(Items):
    """The users topic."""

    def put(self, user_id, value=b"{}", *, partition=0, time_ms=TIME_MS, **fields):
        value = encode(User(user_id=user_id, timestamp=0, **fields)) if value == b"{}" else value
        super().put(user_id, value, partition=partition, time_ms=time_ms)


class Told(list):
    """Remembers what `describe` was told."""

    def __call__(self, contents):
        self.append(dict(contents))


def reading(items, told=None, **named):
    """A catalogue that has read the topic."""
    made = Catalogue(Told() if told is None else told, **named)
    read_anew(made, items)
    return made


def reading_users(users, told=None, state=None, **named):
    made = Catalogue(Told() if told is None else told, rows=ROWS["users"], **named)
    if state is not None:
        made.load(state)
    read_anew(made, users)
    return made


def read_anew(catalogue, items):
    source = FakeSource(items)
    source.seek(None, Reset.EARLIEST)
    catalogue.read(source)


def restarted(catalogue, items):
    """One that goes on from the state of another, and has read the topic."""
    made = Catalogue(Told())
    made.load(catalogue.state())
    read_anew(made, items)
    return made


def ids(changes):
    return [(change.name, change.value is not None) for change in changes]
