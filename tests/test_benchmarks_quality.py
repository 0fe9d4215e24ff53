"""The quality benchmark: its protocol beside the learner's own, its figures beside model.evaluation, its page."""

import json
import math
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benchmarks import ours, page, quality, workloads
from benchmarks.figures import figures_of, hit_ratio, ndcg, prior_events
from benchmarks.generated import music, shop
from benchmarks.peers.isgd import Isgd
from benchmarks.peers.knn import ItemKnn
from benchmarks.peers.popularity import Popularity
from benchmarks.peers.river_ratings import BiasedMf, RankedBiasedMf
from benchmarks.plan import FULL, PEERS, WITH_CATALOGUE, encoders, runs_for
from benchmarks.prequential import Outcome, predict_then_learn, rank_of, rank_then_learn
from benchmarks.workloads import Rows, Workload, rows_of
from consumer.commands.evaluate import Evaluation
from consumer.config import load
from model import evaluation
from model.interactions import Interaction
from producer.events import Click, Rating
from producer.simulate import catalogue, simulate


def simulated(events: int, seed: int = 0) -> list[Click | Rating]:
    return [event for event in simulate(events=events, seed=seed) if isinstance(event, Click | Rating)]


def clicks(*pairs: str) -> Rows:
    """Clicks such as "a1": user a, item 1; a second apart."""
    return rows_of([Click(user_id=pair[0], item_id=pair[1:], timestamp=1000 * n) for n, pair in enumerate(pairs)])


@pytest.mark.parametrize("name", ["shop", "music"])
def test_a_generated_stream_is_in_time_order_and_the_same_for_the_same_seed(name: str) -> None:
    make = {"shop": shop, "music": music}[name]

    events = make(events=1500, seed=3)

    times = [event.timestamp for event in events]
    assert len(events) == 1500
    assert times == sorted(times)
    assert events == make(events=1500, seed=3)
    assert events != make(events=1500, seed=4)


def test_the_music_is_mostly_repeats_and_the_shop_has_some() -> None:
    def repeats(events: list[Click]) -> float:
        return 1 - len({(event.user_id, event.item_id) for event in events}) / len(events)

    assert repeats(music(events=10_000)) > 0.5
    assert 0.15 < repeats(shop(events=10_000)) < 0.5


def test_users_and_items_are_numbered_as_they_come() -> None:
    rows = clicks("b7", "a7", "b9")

    assert rows.users_E.tolist() == [0, 1, 0]
    assert rows.items_E.tolist() == [0, 0, 1]
    assert (rows.users, rows.items) == (2, 2)


@pytest.mark.parametrize(
    ("scores", "item", "candidates", "rank"),
    [
        ([3.0, 2.0, 1.0], 1, None, 1),
        ([2.0, 2.0, 2.0, 2.0], 0, None, 1),  # three ties: half of them, the whole part
        ([3.0, 2.0, 1.0], 1, [False, True, True], 0),
        ([3.0, 2.0, 1.0], 1, [True, False, True], 1),  # the item itself always counts
        ([math.nan, 0.5, math.nan, math.nan], 0, None, 2),  # NaN last: behind the number, in the middle of its like
        ([math.nan, 0.5], 1, None, 0),
    ],
)
def test_a_rank_is_better_ones_plus_half_the_ties(
    scores: list[float], item: int, candidates: list[bool] | None, rank: int
) -> None:
    candidates_I = None if candidates is None else np.array(candidates)

    assert rank_of(np.array(scores), item, candidates_I) == rank


def test_an_item_without_an_earlier_event_is_a_miss_and_seen_items_are_no_candidates() -> None:
    rows = clicks("a1", "a2", "b1", "b1", "c2")

    outcome = rank_then_learn(rows, Popularity(rows.items), allow_repeats=False)

    # b's second click on 1: 2 stays the only other candidate; c: item 1 has more clicks than 2
    assert outcome.ranks_E[2:].tolist() == [0, 0, 1]
    assert np.isnan(outcome.ranks_E[:2]).all()


def test_popularity_is_ranked_as_the_learner_ranks_it() -> None:
    events = simulated(1500)
    rows = rows_of(events)
    learner = Evaluation(load({"batch_size": 64}, environment={}), allow_repeats=False, strictly_before=False).learner
    interactions = [
        Interaction(event.user_id, event.item_id, event.timestamp, 1.0, getattr(event, "rating", None))
        for event in events
    ]

    outcome = rank_then_learn(rows, Popularity(rows.items), allow_repeats=False)

    steps = [learner.test_then_learn(interactions[start : start + 64]) for start in range(0, 1500, 64)]
    np.testing.assert_array_equal(outcome.ranks_E, np.concatenate([step.popularity_ranks_B for step in steps]))


def test_the_figures_agree_with_those_that_the_model_reports() -> None:
    rng = np.random.default_rng(0)
    ranks_E = np.where(rng.random(500) < 0.1, np.nan, rng.integers(0, 40, 500).astype(float))
    ratings_E = np.where(rng.random(500) < 0.5, np.nan, rng.integers(1, 6, 500).astype(float))
    predictions_E = rng.uniform(1, 5, 500)
    rows = Rows(rng.integers(0, 20, 500), rng.integers(0, 30, 500), np.arange(500), ratings_E)

    figures = figures_of(rows, Outcome(ranks_E, predictions_E, predictions_E + 0.1, 2.0, {}))

    rated = ~np.isnan(ratings_E)
    assert figures["hr@10"] == pytest.approx(evaluation.hit_rate(ranks_E))
    assert figures["ndcg@10"] == pytest.approx(evaluation.ndcg(ranks_E))
    assert figures["ndcg@10_second_half"] == pytest.approx(evaluation.ndcg(ranks_E[250:]))
    assert figures["mrr"] == pytest.approx(evaluation.mrr(ranks_E))
    assert figures["mae"] == pytest.approx(evaluation.mean_absolute_error(predictions_E[rated], ratings_E[rated]))
    assert figures["rmse"] == pytest.approx(evaluation.root_mean_squared_error(predictions_E[rated], ratings_E[rated]))
    assert figures["events_per_second"] == 250.0


def test_nothing_is_not_a_number() -> None:
    assert math.isnan(hit_ratio(np.zeros(0)))
    assert math.isnan(ndcg(np.zeros(0)))


def test_cold_is_who_has_had_few_events_before() -> None:
    assert prior_events(np.array([4, 4, 1, 4, 1])).tolist() == [0, 1, 0, 2, 1]


def test_knn_scores_are_cosines_of_user_sets() -> None:
    rows = clicks("a1", "a2", "b1", "b2", "c1", "a1")  # 1 has three users, 2 has two of them
    knn = ItemKnn(rows.users, rows.items)
    for user, item in zip(rows.users_E.tolist(), rows.items_E.tolist(), strict=True):
        knn.learn(user, item, math.nan)

    scores_I = knn.scores(2, [0], 2)

    np.testing.assert_allclose(scores_I, [1.0, 2 / math.sqrt(6)], rtol=1e-6)


def test_a_fading_popularity_prefers_what_is_new() -> None:
    popularity = Popularity(2, half_life=2.0)

    for item in (0, 0, 1, 1):
        popularity.learn(0, item, math.nan)

    assert popularity.scores(0, [], 2)[1] == pytest.approx(2 * popularity.scores(0, [], 2)[0])


def test_a_fading_popularity_survives_a_stream_longer_than_a_number() -> None:
    popularity = Popularity(2, half_life=1.0)

    for event in range(3000):
        popularity.learn(0, event % 2, math.nan)

    scores_I = popularity.scores(0, [], 2)
    assert np.isfinite(scores_I).all()
    assert scores_I[1] > scores_I[0]


def test_isgd_learns_which_of_two_worlds_a_user_belongs_to() -> None:
    rng = np.random.default_rng(0)
    isgd = Isgd(20, 20, factors=8, rate=0.1, negatives=2)
    for _ in range(3000):
        user = int(rng.integers(20))
        isgd.learn(user, int(rng.integers(10)) * 2 + user % 2, math.nan)

    scores_UI = np.array([isgd.scores(user, [], 20) for user in range(20)])

    own = scores_UI[np.arange(20)[:, None] % 2 == np.arange(20) % 2].mean()
    other = scores_UI[np.arange(20)[:, None] % 2 != np.arange(20) % 2].mean()
    assert own > other + 0.2


def test_a_ranker_by_river_orders_items_as_river_rates_them() -> None:
    rows = rows_of([event for event in simulated(800) if isinstance(event, Rating)])
    ranker, river = RankedBiasedMf(rows.items), BiasedMf()
    for user, item, rating in zip(rows.users_E.tolist(), rows.items_E.tolist(), rows.ratings_E.tolist(), strict=True):
        ranker.learn(user, item, rating)
        river.learn(user, item, rating)

    scores_I = ranker.scores(0, [], rows.items)

    rated = [river.predict(0, item) for item in range(rows.items)]
    assert np.argsort(scores_I).tolist() == np.argsort(rated).tolist()


def test_predictions_are_made_before_the_rating_is_learned_and_clipped_to_the_scale() -> None:
    class Echo:
        """Predicts ten times the last rating it has learned."""

        settings: ClassVar[dict[str, object]] = {}
        last = 0.0

        def predict(self, user: int, item: int) -> float:
            del user, item
            return 10 * self.last

        def learn(self, user: int, item: int, rating: float) -> None:
            del user, item
            self.last = rating

    events = [
        Rating(user_id="a", item_id="1", rating=2.0, timestamp=0),
        Click(user_id="a", item_id="2", timestamp=1),
        Rating(user_id="a", item_id="3", rating=0.3, timestamp=2),
        Rating(user_id="a", item_id="4", rating=1.0, timestamp=3),
    ]

    outcome = predict_then_learn(rows_of(events), Echo(), lowest=0.5, highest=5.0)

    np.testing.assert_array_equal(outcome.predictions_E, [0.5, np.nan, 5.0, 3.0])


def test_history_strictly_before_hides_what_has_the_same_timestamp() -> None:
    class Listener:
        settings: ClassVar[dict[str, object]] = {}

        def __init__(self) -> None:
            self.histories: list[list[int]] = []

        def scores(self, user: int, history: list[int], items: int) -> np.ndarray:
            del user
            self.histories.append(list(history))
            return np.zeros(items)

        def learn(self, user: int, item: int, rating: float) -> None:
            pass

    events = [Click(user_id="a", item_id=item, timestamp=time) for item, time in (("1", 0), ("2", 5), ("1", 5))]
    live, strict = Listener(), Listener()

    rank_then_learn(rows_of(events), live, allow_repeats=True)
    rank_then_learn(rows_of(events), strict, allow_repeats=True, strictly_before=True)

    assert live.histories == [[0, 1]]
    assert strict.histories == [[0]]


def test_the_learner_is_measured_as_evaluate_reports_it() -> None:
    workload = Workload("made", "simulated", simulated(600), allow_repeats=False)
    settings = load({"encoder": "recency", "batch_size": 128}, environment={})
    reference = Evaluation(settings, allow_repeats=False, strictly_before=False)
    for start in range(0, 600, 128):
        reference.learn(
            [
                Interaction(event.user_id, event.item_id, event.timestamp, 1.0, getattr(event, "rating", None))
                for event in workload.events[start : start + 128]
            ]
        )

    outcome = ours.measure(workload, encoder="recency", batch_size=128, seed=0)

    figures = figures_of(rows_of(workload.events), outcome)
    total = reference.quality.total()
    assert figures["hr@10"] == pytest.approx(total.hit_ratio)
    assert figures["mrr"] == pytest.approx(total.mrr)
    assert figures["mae"] == pytest.approx(total.mae)
    assert figures["mae_median"] == pytest.approx(total.mae_median)


def test_the_plan_has_every_encoder_and_every_peer_on_the_stream_of_ratings() -> None:
    events = [event for event in simulated(12_000) if isinstance(event, Rating)]
    workload = Workload(FULL, "simulated", events, allow_repeats=False, items=catalogue(items=10))

    runs = list(runs_for(workload, rows_of(events), seeds=3, quick=False))

    assert {run.row for run in runs} == {*ours.ENCODER_NAMES, *PEERS, WITH_CATALOGUE}
    assert len({run.key for run in runs}) == len(runs)
    assert {run.seed for run in runs if run.row == ours.DEFAULT} == {0, 1, 2}
    assert {run.batch for run in runs if run.row == ours.DEFAULT} >= {1, 32, 512, 4096}


def test_a_ranker_that_needs_ratings_is_left_out_where_there_are_clicks() -> None:
    workload = Workload("shop", "clicks", shop(events=50), allow_repeats=True)

    rows = {run.row for run in runs_for(workload, rows_of(workload.events), seeds=1, quick=True)}

    assert {"popularity", *encoders()[:1]} <= rows
    assert not any(row.startswith("River") for row in rows)


def test_a_quick_run_writes_the_page_with_its_plot_and_keeps_what_people_wrote(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the extra `peers`")
    out = tmp_path / "docs" / "quality.md"
    out.parent.mkdir()
    out.write_text(f"# Ours\n\nby hand\n\n{page.BEGIN}\nfigures of last year\n{page.END}\n\nafter\n")
    wanted = ["--rows", "recency", "--rows", "popularity", "--rows", "item-kNN, cosine"]
    arguments = ["--quick", "--limit", "400", "--dataset", "shop", *wanted, "--out", str(out)]

    status = quality.main(arguments)

    text = out.read_text()
    assert status == 0
    assert text.startswith("# Ours\n\nby hand\n")
    assert text.endswith("\n\nafter\n")
    assert "figures of last year" not in text
    for row in ("popularity | 1", "item-kNN, cosine | 1", "recency"):
        assert row in text
    assert (out.parent / "img" / "quality-shop.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_run_and_what_to_install_is_that_of_this_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    status = quality.main([])

    assert status == 2
    assert "pip install '.[worker,peers]'" in capsys.readouterr().err


def test_a_row_whose_library_is_missing_is_left_out_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise ImportError("no module named 'implicit'")

    monkeypatch.setattr("importlib.util.find_spec", lambda _name: True)
    monkeypatch.setattr(quality, "execute", missing)
    arguments = ["--limit", "50", "--dataset", "shop", "--rows", "popularity", "--out", str(tmp_path / "page.md")]

    status = quality.main(arguments)

    assert status == 2
    assert "popularity is left out: no module named 'implicit'. Install it with: pip install '.[worker,peers]'" in (
        capsys.readouterr().err
    )


def test_what_is_kept_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the extra `peers`")
    keep, out = tmp_path / "runs.jsonl", tmp_path / "quality.md"
    arguments = ["--quick", "--limit", "300", "--dataset", "shop", "--rows", "popularity"]
    arguments += ["--keep", str(keep), "--out", str(out)]
    quality.main(arguments)
    first = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    quality.main(arguments)

    second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("run") for line in first] == ["shop/300/popularity/0/0/live", None]
    assert [line.get("run") for line in second] == [None]
    assert second[-1]["runs"] == 1


@pytest.mark.parametrize(
    ("is_ours", "changed", "is_other"),
    [
        (True, "model/kernels/rank.py", True),
        (True, "benchmarks/peers/knn.py", False),
        (True, "benchmarks/page.py", False),
        (False, "benchmarks/peers/knn.py", True),
        (False, "model/kernels/rank.py", False),
        (False, "producer/simulate.py", True),
    ],
)
def test_other_code_makes_other_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool, changed: str, is_other: bool
) -> None:
    for folder in ("model", "benchmarks", "producer", "consumer"):
        shutil.copytree(quality.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(quality, "ROOT", tmp_path)
    before = quality.made_by.__wrapped__(is_ours)

    (tmp_path / changed).write_text("# another one\n")

    assert (quality.made_by.__wrapped__(is_ours) != before) is is_other


def test_other_settings_make_other_results_of_ours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [quality.made_by.__wrapped__(is_ours) for is_ours in (True, False)]

    monkeypatch.setattr(quality, "load", lambda *_, **__: load({"learning_rate": "0.2"}, environment={}))

    after = [quality.made_by.__wrapped__(is_ours) for is_ours in (True, False)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


def test_what_other_code_made_is_run_again_and_kept_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the extra `peers`")
    keep, out = tmp_path / "runs.jsonl", tmp_path / "quality.md"
    arguments = ["--quick", "--limit", "300", "--dataset", "shop", "--rows", "popularity"]
    arguments += ["--keep", str(keep), "--out", str(out)]
    quality.main(arguments)

    monkeypatch.setattr(quality, "made_by", lambda _: "other")
    statuses = quality.main([*arguments, "--no-runs"]), quality.main(arguments), quality.main([*arguments, "--no-runs"])

    assert statuses == (2, 0, 0)
    assert capsys.readouterr().err.count("shop/300/popularity/0/0/live is kept of other code or settings only") == 2
    assert [json.loads(line)["key"] for line in keep.read_text().splitlines()] == ["shop/300/popularity/0/0/live"] * 2


@pytest.fixture
def whole_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of a whole run, in the place of the one that is written by default."""
    out = tmp_path / "quality.md"
    out.write_text("figures of days\n")
    monkeypatch.setattr(quality, "OUT", out)
    return out


@pytest.mark.parametrize("partial", [["--quick"], ["--limit", "9"], ["--dataset", "shop"], ["--rows", "recency"]])
def test_a_run_of_a_part_does_not_overwrite_the_page_of_all(
    partial: list[str], whole_page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        quality.main([*partial, "--no-runs"])

    assert refused.value.code == 2
    assert f"{partial[0]} leaves out what {whole_page} holds: name another page with --out" in capsys.readouterr().err
    assert whole_page.read_text() == "figures of days\n"


def test_a_row_that_does_not_exist_is_refused_by_name(whole_page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        quality.main(["--rows", "recencey", "--out", str(whole_page)])

    error = capsys.readouterr().err
    assert refused.value.code == 2
    assert "invalid choice: 'recencey'" in error
    assert all(f"{row!r}" in error for row in ("peers", "ours", "recency", "item-kNN, cosine", WITH_CATALOGUE))
    assert whole_page.read_text() == "figures of days\n"


def test_where_nothing_was_run_the_page_stays_as_it_is(whole_page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the extra `peers`")
    arguments = ["--limit", "50", "--dataset", "shop", "--rows", "River BiasedMF", "--out", str(whole_page)]

    status = quality.main(arguments)

    assert status == 2
    assert f"nothing was run, so {whole_page} stays as it is" in capsys.readouterr().err
    assert whole_page.read_text() == "figures of days\n"


def test_a_stream_that_does_not_exist_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no stream 'books'; there are: movielens-100k"):
        workloads.load("books")
    with pytest.raises(SystemExit) as refused:
        quality.main(["--limit", "0"])
    assert refused.value.code == 2
    assert "expected at least 1, got 0" in capsys.readouterr().err
