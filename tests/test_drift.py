"""The watch over drift, judged beside River's ADWIN on the same errors, and what the learner does about an alarm."""

import math

import numpy as np
import pytest
from river.drift import ADWIN

from model.drift import BLOCK, LARGEST_ERROR, Alarm, Drift, DriftSettings, Watch, popularity_losses
from model.interactions import Interaction
from model.kernels.drift import MEMORY
from model.learner import Learner
from model.settings import LearnerSettings
from model.state import state_digest

TURN = 30_000


def errors(seed, *, rise=0.0, size=60_000, turn=TURN, visit=20):
    """Errors as those of a recommender are: noisy, and alike within a user's visit; they rise at `turn`."""
    generator = np.random.default_rng(seed)
    of_visit = np.repeat(generator.normal(0, 0.8, size // visit + 1), visit)[:size]
    return generator.gamma(2.0, 1.0, size) - 4.0 + of_visit + rise * (np.arange(size) >= turn)


def alarms_of_watch(sequence):
    """Events seen at each alarm."""
    watch = Watch()
    return [
        start + BLOCK for start in range(0, len(sequence), BLOCK) for _ in watch.update(sequence[start : start + BLOCK])
    ]


def alarms_of_adwin(sequence, *, block=1, **options):
    """The same of ADWIN, for changes to the worse, over means of `block` errors."""
    adwin, found = ADWIN(**options), []
    means = sequence[: len(sequence) // block * block].reshape(-1, block).mean(1)
    for seen, error in enumerate(means.tolist(), 1):
        before = adwin.estimation
        adwin.update(error)
        if adwin.drift_detected and adwin.estimation > before:
            found.append(seen * block)
    return found


@pytest.mark.parametrize("rise", [0.5, 1.0, 2.0])
def test_a_rise_is_seen_sooner_than_by_adwin_on_the_same_means(rise):
    def delay(alarms):
        return min(at for at in alarms if at > TURN) - TURN

    sequences = [errors(seed, rise=rise) for seed in range(4)]

    ours = [delay(alarms_of_watch(sequence)) for sequence in sequences]
    theirs = [delay(alarms_of_adwin(sequence, block=BLOCK, clock=1)) for sequence in sequences]

    assert np.mean(ours) < np.mean(theirs)
    assert max(ours) < 2_000


def test_without_a_rise_there_are_hardly_any_alarms_where_adwin_on_single_events_has_hundreds():
    calm = [errors(seed, size=100_000) for seed in range(3)]

    ours, theirs = (sum(len(find(sequence)) for sequence in calm) for find in (alarms_of_watch, alarms_of_adwin))

    assert ours <= 1
    assert theirs > 100


def test_getting_better_is_no_alarm():
    assert alarms_of_watch(errors(1, rise=-1.5)) == []


def test_a_burst_is_no_alarm():
    sequence = errors(2)
    sequence[40_000:40_064] = LARGEST_ERROR

    assert alarms_of_watch(sequence) == []


@pytest.mark.parametrize("size", [1, 7, 31, 33, 512])
def test_alarms_do_not_depend_on_where_the_errors_were_cut(size):
    sequence = errors(4, rise=1.0, size=8_000, turn=5_000)
    whole, cut = Watch(), Watch()

    expected = whole.update(sequence)
    found = [rise for start in range(0, len(sequence), size) for rise in cut.update(sequence[start : start + size])]

    assert found == expected != []
    assert all(np.array_equal(cut.state()[name], part) for name, part in whole.state().items())


def test_a_watch_that_was_saved_goes_on_as_if_never_stopped():
    sequence = errors(5, rise=1.0, size=8_000, turn=5_000)
    one, other = Watch(), Watch()
    one.update(sequence[:5_100])

    other.load({name: array.copy() for name, array in one.state().items()})

    assert other.update(sequence[5_100:]) == one.update(sequence[5_100:])


# --- the answer ---


def feed(drift, sequence, *, earlier=50):
    """Alarms and the product of what evidence kept, in steps of 100 events."""
    alarms, kept = [], 1.0
    for start in range(0, len(sequence), 100):
        part = sequence[start : start + 100]
        found, keep = drift.update(part, np.full(len(part), earlier))
        alarms += found
        kept *= keep
    return alarms, kept


def test_an_alarm_fades_the_old_and_hurries_for_a_bounded_number_of_events():
    drift = Drift(DriftSettings(boost=3, lasting=2_000))

    alarms, kept = feed(drift, errors(6, rise=2.0, size=6_000, turn=5_000))
    hurried = drift.pace
    feed(drift, errors(7, size=2_000) + 2.0)

    assert {alarm.cohort for alarm in alarms} == {"warm"}
    assert 0 < kept < 0.3
    assert 1.5 < hurried <= 3
    assert drift.pace == 1


def test_alarms_that_follow_each_other_add_up_to_one_answer_and_each_cohort_weighs_its_share():
    drift = Drift(DriftSettings(boost=4, lasting=3_000, ignored_rise=0.3, fade_power=1.5))
    generator = np.random.default_rng(3)
    sequence = errors(3, size=9_000) + 1.5 * np.searchsorted([5_000, 6_500], np.arange(9_000), side="right")
    strength, left, cold_share, seen = 0.0, 0, 0.5, 0

    for part in np.split(sequence, 90):
        is_cold = generator.random(100) < 0.3
        alarms, kept = drift.update(part, np.where(is_cold, 0, 5))

        cold_share += (1 - math.exp(-100 / (MEMORY * BLOCK))) * (is_cold.mean() - cold_share)
        share = {"cold": cold_share, "warm": 1 - cold_share}
        rise = sum(max(alarm.rise - 0.3, 0) * share[alarm.cohort] for alarm in alarms)
        left = max(left - 100, 0)
        if alarms:
            seen += left > 0
            strength, left = 1 - (1 - strength * left / 3_000) * math.exp(-rise), 3_000
        assert kept == pytest.approx(math.exp(-1.5 * rise))
        assert drift.pace == pytest.approx(1 + 3 * strength * left / 3_000)

    assert seen > 1, "alarms while the answer to another lasts"


def test_a_larger_rise_lets_less_of_the_old_stand():
    kept = [feed(Drift(DriftSettings()), errors(8, rise=rise, size=9_000, turn=5_000))[1] for rise in (0.8, 1.5, 3.0)]

    assert 1 > kept[0] > kept[1] > kept[2] > 0


def test_with_a_boost_of_one_there_are_alarms_and_nothing_is_changed():
    drift = Drift(DriftSettings(boost=1))

    alarms, kept = feed(drift, errors(6, rise=2.0, size=9_000, turn=5_000))

    assert alarms
    assert kept == drift.pace == 1


def test_cold_users_are_watched_apart_and_weigh_as_much_as_there_are_of_them():
    generator = np.random.default_rng(9)
    size, turn = 60_000, 30_000
    is_cold = generator.random(size) < 0.1
    sequence = errors(9, size=size) + 2.0 * (is_cold & (np.arange(size) >= turn))
    drift = Drift(DriftSettings())
    alarms, kept = [], 1.0

    for start in range(0, size, 500):
        here = slice(start, start + 500)
        found, keep = drift.update(sequence[here], np.where(is_cold[here], 0, 5))
        alarms += found
        kept *= keep

    assert {alarm.cohort for alarm in alarms} == {"cold"}
    assert 0.4 < kept < 1


def test_events_without_an_error_count_for_nothing():
    with_gaps, without = Drift(DriftSettings()), Drift(DriftSettings())
    sequence = errors(10, rise=2.0, size=6_000, turn=5_000)
    gaps = np.repeat(sequence, 2)
    gaps[1::2] = [math.nan, math.inf] * (len(sequence) // 2)

    found, kept = with_gaps.update(gaps, np.full(len(gaps), 50))

    assert (found, kept) == without.update(sequence, np.full(len(sequence), 50))
    assert with_gaps.update(np.array([math.nan]), np.array([0])) == ([], 1.0)


def test_a_saved_answer_goes_on_as_if_never_stopped():
    one, other = Drift(DriftSettings()), Drift(DriftSettings())
    feed(one, errors(6, rise=2.0, size=5_500, turn=5_000))

    other.load({name: array.copy() for name, array in one.state().items()})

    assert other.pace == one.pace > 1
    assert feed(other, errors(11, size=3_000)) == feed(one, errors(11, size=3_000))
    assert other.pace == one.pace


def test_popularity_is_as_surprised_as_the_counts_up_to_the_event_say():
    losses = popularity_losses(np.array([True, False, True]), np.array([3, 0, 4]), total=4, items=2)

    assert losses == pytest.approx([-math.log(3.5 / 5), -math.log(0.5 / 6), -math.log(4.5 / 6)])


# --- in the learner ---


def two_worlds(events, turn, seed=0):
    """Eight groups of ten items; people stay in a group for a while. From `turn` on the groups are dealt out anew."""
    generator = np.random.default_rng(seed)
    dealt = generator.permutation(80)
    groups = generator.integers(0, 8, 40)
    stream = []
    for number in range(events):
        user = int(generator.integers(0, 40))
        if generator.random() < 0.1:
            groups[user] = generator.integers(0, 8)
        item = int(groups[user]) * 10 + int(generator.integers(0, 10))
        stream.append(Interaction(f"u{user}", f"i{dealt[item] if number >= turn else item}", number, 1.0, None))
    return stream


def learner(**drift):
    settings = LearnerSettings(
        encoder="blend", width=8, rating_width=2, allow_repeats=True, drift=DriftSettings(**drift)
    )
    return Learner(settings)


def learn(one, stream, size=128):
    return [one.test_then_learn(stream[start : start + size]) for start in range(0, len(stream), size)]


def test_the_learner_answers_a_turn_over_and_recovers_sooner_than_without():
    stream = two_worlds(9_000, 6_000)

    steady, answering = learn(learner(boost=1), stream), learn(learner(), stream)

    def hit_ratio(steps, first, last):
        return float((np.concatenate([step.ranks_B for step in steps])[first:last] < 10).mean())

    alarms = [alarm for step in answering for alarm in step.alarms]
    assert alarms
    assert all(isinstance(alarm, Alarm) for alarm in alarms)
    assert max(step.pace for step in answering) > 1
    assert max(step.pace for step in steady) == 1
    assert hit_ratio(answering, 0, 6_000) == hit_ratio(steady, 0, 6_000)
    assert hit_ratio(answering, 6_500, 9_000) > hit_ratio(steady, 6_500, 9_000)


def test_a_step_made_again_from_a_checkpoint_raises_the_same_alarms_and_gives_the_same_state():
    stream = two_worlds(7_000, 5_100)
    one, again = learner(), learner()
    learn(one, stream[:5_120])
    again.load(one.state())

    expected, found = learn(one, stream[5_120:]), learn(again, stream[5_120:])

    assert [step.alarms for step in found] == [step.alarms for step in expected]
    assert any(step.alarms for step in found)
    assert state_digest(again.state()) == state_digest(one.state())
