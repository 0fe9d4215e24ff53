"""What is taken ahead is what would have been taken, and counts only once it is handed out."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from faulty_disk import without_waiting
from stream_fakes import FakeSource, Topic, click, places
from worker_fakes import FakeWorker, Held, InTurn

from consumer.ahead import ReadAhead
from consumer.decode import Decoder
from consumer.source import ReadFailed

EIGHT = [click(f"u{number}", "i") for number in range(7)] + [b"not JSON"]


def source_of(*payloads):
    topic = Topic()
    topic.append(0, *payloads)
    source = FakeSource(topic)
    source.seek(None)
    return source


class Decoding:
    """A decoder that remembers what it was given."""

    def __init__(self):
        self.given = []
        self._decode = Decoder()

    def __call__(self, taken):
        self.given.append(places(taken))
        return self._decode(taken)


@pytest.fixture
def decode():
    return Decoding()


def test_the_next_records_are_taken_and_decoded_ahead_after_a_full_take(decode):
    ahead = ReadAhead(source_of(*EIGHT), decode, InTurn())

    first = ahead.take(4, 0)
    assert decode.given == [[(0, 4), (0, 5), (0, 6), (0, 7)]]
    assert places(first) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert ahead.next_offsets() == {0: 4}

    second = ahead.take(4, 0)
    events, rejects = ahead.decode(second)
    assert len(decode.given) == 2, "it was decoded once, and nothing is left to be decoded ahead"
    assert places(second) == [(0, 4), (0, 5), (0, 6), (0, 7)]
    assert (events.users.names(), [reject.record.offset() for reject in rejects]) == (["u4", "u5", "u6"], [7])
    assert ahead.next_offsets() == {0: 8}
    assert len(ahead.take(4, 0)) == 0


def test_events_that_come_one_by_one_are_not_taken_ahead(decode):
    """They would wait for the next step without those that come meanwhile."""
    source = source_of(*EIGHT[:3])
    ahead = ReadAhead(source, decode, InTurn())

    assert len(ahead.take(4, 0)) == 3
    source.topic.append(0, *EIGHT[3:5])

    assert places(ahead.take(4, 0)) == [(0, 3), (0, 4)]
    assert decode.given == []


def test_nothing_is_taken_ahead_without_a_thread_for_it(decode):
    source = source_of(*EIGHT)

    ReadAhead(source, decode).take(4, 0)

    assert source.next_offsets() == {0: 4}


def test_other_records_than_those_handed_out_last_are_decoded_when_asked(decode):
    ahead = ReadAhead(source_of(*EIGHT), decode, InTurn())
    first, second = ahead.take(4, 0), ahead.take(4, 0)

    assert ahead.decode(first)[0].users.names() == ["u0", "u1", "u2", "u3"]
    assert ahead.decode(second)[0].users.names() == ["u4", "u5", "u6"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_what_was_taken_ahead_for_a_larger_step_is_handed_out_in_smaller_ones(decode, at_once):
    ahead = ReadAhead(source_of(*EIGHT), decode, InTurn())
    handed_out = places(ahead.take(4, 0))

    while len(taken := ahead.take(at_once, 0)):
        assert len(taken) <= at_once
        handed_out += places(taken)
        assert ahead.next_offsets() == {0: handed_out[-1][1] + 1}
        assert sum(map(len, ahead.decode(taken))) == len(taken)

    assert handed_out == [(0, offset) for offset in range(8)]


def test_records_before_an_error_are_handed_out_and_then_it_is_raised(decode):
    source = source_of(*EIGHT)
    ahead = ReadAhead(source, decode, held := Held())
    ahead.take(4, 0)

    def broken(*_given):
        raise ReadFailed("no more")

    source.take = broken
    held.do_next()

    assert ahead.next_offsets() == {0: 4}
    with pytest.raises(ReadFailed, match="no more"):
        ahead.take(4, 0)


def test_closing_waits_for_a_take_under_way(decode):
    source = source_of(*EIGHT)
    ahead = ReadAhead(source, decode, ThreadPoolExecutor(1))
    ahead.take(4, 0)

    ahead.close()
    ahead.close()

    assert len(decode.given) == 1


@pytest.mark.parametrize("crash_after", [1, 3])
def test_a_worker_that_takes_ahead_learns_and_publishes_the_same(tmp_path, monkeypatch, crash_after):
    without_waiting(monkeypatch)
    topic = Topic(2)
    for number in range(30):
        topic.append(number % 2, click(f"u{number % 5}", f"i{number % 7}"))
    messages, digests = [], []
    for name, reader in (("plain", None), ("ahead", InTurn())):
        before = FakeWorker(tmp_path / name, topic, reader=reader)
        before.run_steps(crash_after)  # what it took ahead is lost with it
        before.close()
        worker = FakeWorker(tmp_path / name, topic, reader=reader)
        worker.run(batch_size=4)
        messages.append(worker.messages())
        digests.append(worker.progress.saved.state_sha256)
        assert worker.progress.counts.learned == 30
        worker.close()

    assert digests[0] == digests[1]
    assert messages[0] == messages[1] != []
