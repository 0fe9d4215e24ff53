"""`headrace evaluate`: its figures from its ranks by other code, its options, its errors, and the line to hold.

The code that checks is plain Python and reads the CSV and the events by itself.
"""

import csv
import json
import math
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from worker_process import ROOT, START_SECONDS, surroundings

from consumer.cli import app
from consumer.commands import evaluate
from consumer.commands.evaluate import UsageError
from consumer.config import ACTION_WEIGHTS, Settings, load
from consumer.environment import SettingsError
from consumer.invocation import Invocation, invoke
from producer import datasets
from producer.datasets import Dataset, DatasetUnavailable, EventsFileError
from producer.events import encode
from producer.simulate import catalogue, simulate

KEYS = {
    *("events", "left_out", "ranked", "hr@10", "ndcg@10", "mrr", "mae", "rmse", "mae_median"),
    *("seconds", "events_per_second", "batch_size", "encoder", "rating_model", "settings", "baselines"),
}
DEFAULT_WEIGHT = 0.5


def settings(**flags: object) -> Settings:
    return load({"device": "cpu", "embedding_dim": 8, "rating_dim": 4, "batch_size": 64, **flags}, environment={})


def lines_of(dataset: str, limit: int) -> list[dict[str, Any]]:
    """The beginning of a data set as it would stand in a file."""
    return [json.loads(encode(event)) for event in datasets.load(dataset).events[:limit]]


def mixed_lines(count: int = 600, seed: int = 0) -> list[dict[str, Any]]:
    """Clicks with repeats, other actions, ratings, impressions and forgets of a few people; some share a time."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        line = {"user_id": f"u{draw.randrange(15)}", "timestamp": 1_000 * (number // 3)}
        kind = draw.random()
        if kind < 0.05:
            line |= {"type": "impression", "recommendation_id": "r", "items": ["i1", "never seen elsewhere"]}
        elif kind < 0.07:
            line |= {"type": "forget"}
        else:
            line["item_id"] = f"i{int(60 * draw.random() ** 2)}"
            if kind < 0.4:
                line |= {"type": "rating", "rating": draw.randint(1, 10) / 2}
            else:
                line |= {"type": "click", "action": draw.choice(["click", "click", "view", "skip", "dislike", "wave"])}
        lines.append(line)
    return lines


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def read_ranks(path: Path) -> list[tuple[int | None, float | None]]:
    """(rank, prediction) of each event."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "rank", "prediction"]
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    return [
        (int(row["rank"]) if row["rank"] else None, float(row["prediction"]) if row["prediction"] else None)
        for row in rows
    ]


def weight_of(line: Mapping[str, Any]) -> float:
    if line["type"] == "rating":
        return 1.0
    return ACTION_WEIGHTS.get(line.get("action", "click"), DEFAULT_WEIGHT) if line["type"] == "click" else 0.0


def is_ranked(line: Mapping[str, Any]) -> bool:
    return weight_of(line) > 0


def popularity_ranks(lines: Sequence[Mapping[str, Any]], *, allow_repeats: bool) -> list[tuple[int | None, int]]:
    """For each ranked event, by counting: its rank among the candidates (None: a miss) and how many there are."""
    count: Counter[str] = Counter()
    known: set[str] = set()
    seen: defaultdict[str, set[str]] = defaultdict(set)
    ranks: list[tuple[int | None, int]] = []
    for line in lines:
        if line["type"] == "forget":
            seen.pop(line["user_id"], None)
        if "item_id" not in line:
            continue
        user, item = line["user_id"], line["item_id"]
        if is_ranked(line):
            candidates = (known if allow_repeats else known - seen[user]) | ({item} & known)
            better = sum(count[other] > count[item] for other in candidates)
            tied = sum(count[other] == count[item] for other in candidates if other != item)
            ranks.append((better + tied // 2 if item in known else None, len(candidates)))
            count[item] += 1
            seen[user].add(item)
        known.add(item)
    return ranks


def hit_ratio(ranks: Sequence[int | None]) -> float:
    return sum(rank is not None and rank < 10 for rank in ranks) / len(ranks)


def ndcg(ranks: Sequence[int | None]) -> float:
    return sum(1 / math.log2(rank + 2) for rank in ranks if rank is not None and rank < 10) / len(ranks)


def assert_figures(
    answer: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], ranks_file: Path, *, allow_repeats: bool = False
) -> None:
    """Every figure of the answer that ranks and events can tell, worked out anew."""
    rows = read_ranks(ranks_file)
    assert len(rows) == len(lines) == answer["events"]
    ranks = [rank for (rank, _), line in zip(rows, lines, strict=True) if is_ranked(line)]
    assert answer["ranked"] == len(ranks)
    assert answer["hr@10"] == pytest.approx(hit_ratio(ranks), abs=1e-6)
    assert answer["ndcg@10"] == pytest.approx(ndcg(ranks), abs=1e-6)
    reciprocal = sum(1 / (rank + 1) for rank in ranks if rank is not None) / len(ranks)
    assert answer["mrr"] == pytest.approx(reciprocal, abs=1e-6)

    errors = []
    for (rank, prediction), line in zip(rows, lines, strict=True):
        assert rank is None or is_ranked(line)
        assert (prediction is not None) == (line["type"] == "rating")
        if prediction is not None:
            assert 0.5 <= prediction <= 5
            errors.append(abs(prediction - line["rating"]))
    if errors:
        assert answer["mae"] == pytest.approx(sum(errors) / len(errors), abs=1e-6)
        assert answer["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / len(errors)), abs=1e-6)
        assert answer["mae_median"] == pytest.approx(answer["mae"], rel=0.2)
    else:
        assert (answer["mae"], answer["rmse"], answer["mae_median"]) == (None, None, None)

    popular = popularity_ranks(lines, allow_repeats=allow_repeats)
    for rank, (popular_rank, candidates) in zip(ranks, popular, strict=True):
        assert (rank is None) == (popular_rank is None)  # an item that no earlier event had
        assert rank is None or 0 <= rank < candidates
    baseline = answer["baselines"]["popularity"]
    assert baseline["hr@10"] == pytest.approx(hit_ratio([rank for rank, _ in popular]), abs=1e-6)
    assert baseline["ndcg@10"] == pytest.approx(ndcg([rank for rank, _ in popular]), abs=1e-6)


# --- figures ---


def test_the_figures_of_a_data_set_follow_from_its_ranks(tmp_path: Path) -> None:
    answer = evaluate.run(settings(), dataset="synthetic", limit=2_000, ranks=tmp_path / "ranks.csv")

    assert_figures(answer, lines_of("synthetic", 2_000), tmp_path / "ranks.csv")
    assert answer["ranked"] == 2_000


@pytest.mark.parametrize("allow_repeats", [False, True])
def test_the_figures_of_a_file_follow_from_its_ranks(tmp_path: Path, allow_repeats: bool) -> None:
    lines = mixed_lines()
    file = write(tmp_path / "events.jsonl", lines)

    answer = evaluate.run(settings(), events=file, ranks=tmp_path / "ranks.csv", allow_repeats=allow_repeats)

    assert_figures(answer, lines, tmp_path / "ranks.csv", allow_repeats=allow_repeats)
    assert answer["settings"]["allow_repeats"] is allow_repeats
    assert answer["ranked"] < answer["events"]


def test_without_ratings_there_are_no_errors_to_tell(tmp_path: Path) -> None:
    lines = [line for line in mixed_lines() if line["type"] == "click"]
    file = write(tmp_path / "events.jsonl", lines)

    answer = evaluate.run(settings(), events=file, ranks=tmp_path / "ranks.csv")

    assert_figures(answer, lines, tmp_path / "ranks.csv")


def test_ranks_know_nothing_of_what_comes_later(tmp_path: Path) -> None:
    lines = mixed_lines()
    evaluate.run(settings(), events=write(tmp_path / "all.jsonl", lines), ranks=tmp_path / "all.csv")

    # Cut inside a batch of 64: neither its later events nor later batches may matter.
    evaluate.run(settings(), events=write(tmp_path / "some.jsonl", lines[:333]), ranks=tmp_path / "some.csv")

    assert read_ranks(tmp_path / "some.csv") == read_ranks(tmp_path / "all.csv")[:333]


def test_the_limit_is_the_beginning_of_the_stream(tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", mixed_lines())
    evaluate.run(settings(), events=file, ranks=tmp_path / "all.csv")

    answer = evaluate.run(settings(), events=file, limit=100, ranks=tmp_path / "some.csv")

    assert answer["events"] == 100
    assert read_ranks(tmp_path / "some.csv") == read_ranks(tmp_path / "all.csv")[:100]


def test_the_same_seed_gives_the_same_ranks_and_another_seed_others(tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", mixed_lines())
    written = []
    for number, seed in enumerate((7, 7, 8)):
        evaluate.run(settings(seed=seed), events=file, ranks=tmp_path / f"{number}.csv")
        written.append((tmp_path / f"{number}.csv").read_bytes())

    assert written[0] == written[1]
    assert written[0] != written[2]


def test_a_data_set_that_is_made_up_is_that_of_the_seed_and_so_is_its_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []

    def noted(name: str, seed: int) -> Dataset:
        seeds.append(seed)
        events = list(simulate(users=5, items=9, events=20, seed=seed))
        return Dataset(name, events, {}, catalogue(items=9, seed=seed))

    monkeypatch.setattr(evaluate.datasets, "load", noted)

    evaluate.run(settings(seed=7), dataset="synthetic", content=True)

    assert seeds == [7, 7]


def test_history_strictly_before_makes_a_difference_only_where_times_are_shared(tmp_path: Path) -> None:
    shared = [line | {"user_id": "u1"} if line["timestamp"] % 2_000 else line for line in mixed_lines()]
    distinct = [line | {"timestamp": number} for number, line in enumerate(shared)]
    ranks = {}
    for name, lines in (("shared", shared), ("distinct", distinct)):
        file = write(tmp_path / f"{name}.jsonl", lines)
        for strictly_before in (False, True):
            csv_file = tmp_path / f"{name}-{strictly_before}.csv"
            answer = evaluate.run(settings(), events=file, strictly_before=strictly_before, ranks=csv_file)
            assert_figures(answer, lines, csv_file)
            assert answer["settings"]["strictly_before"] is strictly_before
            ranks[name, strictly_before] = read_ranks(csv_file)

    assert ranks["distinct", True] == ranks["distinct", False]
    assert ranks["shared", True] != ranks["shared", False]


def test_an_empty_file_has_no_figures(tmp_path: Path) -> None:
    answer = evaluate.run(settings(), events=write(tmp_path / "events.jsonl", []), ranks=tmp_path / "ranks.csv")

    assert (answer["events"], answer["ranked"], answer["events_per_second"]) == (0, 0, 0)
    assert [answer[name] for name in ("hr@10", "ndcg@10", "mrr", "mae", "rmse", "mae_median")] == [None] * 6
    assert (tmp_path / "ranks.csv").read_text() == "index,rank,prediction\n"


def test_what_the_worker_would_not_learn_is_left_out_and_changes_no_other_rank(tmp_path: Path) -> None:
    lines = mixed_lines(300)
    rating = {"type": "rating", "user_id": "u1", "item_id": "i1", "rating": 4.0, "timestamp": 5}
    bad = [{**rating, "rating": 99}, {**rating, "timestamp": 10**30}, {**rating, "event_id": "a"}]
    with_id = {**lines[0], "event_id": "a"}
    together = settings(batch_size=1_000)  # so that a step holds the same in both
    evaluate.run(together, events=write(tmp_path / "good.jsonl", lines), ranks=tmp_path / "good.csv")

    mixed = write(tmp_path / "mixed.jsonl", [with_id, *lines[1:100], *bad, *lines[100:]])
    answer = evaluate.run(together, events=mixed, ranks=tmp_path / "mixed.csv")

    ranks, good = read_ranks(tmp_path / "mixed.csv"), read_ranks(tmp_path / "good.csv")
    assert answer["left_out"] == {"out-of-range": 1, "from-the-future": 1, "duplicate": 1}
    assert answer["events"] == len(ranks) == 303
    assert ranks[100:103] == [(None, None)] * 3
    assert ranks[:100] + ranks[103:] == good
    assert answer["ranked"] == sum(map(is_ranked, lines))


def test_every_event_is_ranked_whatever_share_is_ranked_live(tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", mixed_lines())

    few = evaluate.run(settings(quality_share=0.1), events=file)

    assert few["ranked"] == evaluate.run(settings(), events=file)["ranked"]


# --- wrong usage ---


def test_either_a_data_set_or_a_file_has_to_be_named(tmp_path: Path) -> None:
    for both in ({}, {"dataset": "synthetic", "events": tmp_path / "events.jsonl"}):
        with pytest.raises(UsageError, match=r"--dataset.*--events"):
            evaluate.run(settings(), **both)  # type: ignore[arg-type]


def test_ranks_do_not_overwrite_the_events(tmp_path: Path) -> None:
    events, other = tmp_path / "events.jsonl", tmp_path / "ranks.csv"
    events.write_text('{"type":"forget","user_id":"u","timestamp":1}\n')
    other.symlink_to(events)

    for ranks in (events, other):
        with pytest.raises(UsageError, match=rf"--ranks: expected another file than --events, got '{ranks}'"):
            evaluate.run(settings(), events=events, ranks=ranks)

    assert events.read_text().startswith("{")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"type":"forget","user_id":"u","timestamp":1}\n')

    with pytest.raises(OSError, match=r"^--ranks: /dev/full: No space left on device$"):
        evaluate.run(settings(), events=events, ranks=Path("/dev/full"))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int) -> None:
    with pytest.raises(UsageError, match=f"--limit: expected at least 1, got {limit}"):
        evaluate.run(settings(), dataset="synthetic", limit=limit)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--events: .*missing\.jsonl"):
        evaluate.run(settings(), events=tmp_path / "missing.jsonl")


def test_a_file_for_ranks_that_cannot_be_written_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--ranks: expected a file that can be written, got .*missing/ranks\.csv"):
        evaluate.run(settings(), events=tmp_path / "events.jsonl", ranks=tmp_path / "missing" / "ranks.csv")


def test_a_line_that_is_no_event_is_named_with_its_number_and_nothing_is_written(tmp_path: Path) -> None:
    file = write(tmp_path / "events.jsonl", [*mixed_lines(5), {"type": "rating", "user_id": "u", "timestamp": 1}])

    with pytest.raises(EventsFileError, match=r"events\.jsonl, line 6: .*item_id"):
        evaluate.run(settings(), events=file, ranks=tmp_path / "ranks.csv")

    assert not (tmp_path / "ranks.csv").exists()


def test_an_encoder_that_there_is_none_of_is_named_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_ENCODER: expected one of blend, .*, got 'magic'"):
        evaluate.run(settings(encoder="magic"), dataset="synthetic", limit=10)


# --- the command line ---


def test_the_command_writes_ranks_and_its_last_line_has_every_key(tmp_path: Path) -> None:
    lines = mixed_lines(1_000)
    file, ranks_file = write(tmp_path / "events.jsonl", lines), tmp_path / "ranks.csv"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "consumer", "evaluate", "--events", str(file), "--ranks", str(ranks_file)),
            *("--batch-size=32", "--allow-repeats", "--history=strictly-before", "--device=cpu", "--json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
        cwd=ROOT,
        env=surroundings(),
    )

    answer = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, done.stderr) == (0, "")
    assert set(answer) == KEYS | {"cold"}
    assert set(answer["baselines"]["popularity"]) == {"hr@10", "ndcg@10"}
    assert (answer["batch_size"], answer["settings"]["batch_size"]) == (32, 32)
    assert answer["settings"]["strictly_before"] is True
    assert 0 < answer["events"] / answer["events_per_second"] < answer["seconds"]
    assert_figures(answer, lines, ranks_file, allow_repeats=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [("no JSON\n", "events.jsonl, line 1: "), (None, "--events: expected a file that can be read, got ")],
)
def test_a_file_that_cannot_be_evaluated_is_one_line_and_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    said: str,
) -> None:
    monkeypatch.setattr("consumer.logs.configure", lambda *_, **__: None)
    file = tmp_path / "events.jsonl"
    if content is not None:
        file.write_text(content)

    left = invoke(Invocation("evaluate", "evaluate", {"events": file}), {"device": "cpu"}, as_json=True, debug=False)

    printed = capsys.readouterr()
    assert left == 2
    assert said in json.loads(printed.out.splitlines()[-1])["error"]
    [line] = [line for line in printed.err.splitlines() if "warning" not in line]
    assert line.startswith("headrace evaluate: ")
    assert said in line


@pytest.mark.parametrize("sources", [[], ["--dataset=synthetic", "--events=events.jsonl"]])
def test_the_command_wants_one_source(sources: list[str]) -> None:
    result = CliRunner().invoke(app, ["evaluate", *sources])

    assert result.exit_code == 2
    assert "--dataset or --events" in result.output


# --- the line to hold ---


def test_movielens_is_learned_no_worse_than_the_line() -> None:
    try:
        datasets.load("movielens-100k")
    except DatasetUnavailable as error:
        pytest.skip(f"no MovieLens for the tests: {str(error).splitlines()[0][:200]}")

    answer = evaluate.run(load({"device": "cpu", "batch_size": 512}, environment={}), dataset="movielens-100k")

    assert answer["events"] == answer["ranked"] == 100_000
    assert answer["baselines"]["popularity"]["hr@10"] == pytest.approx(0.077, abs=0.001)
    assert answer["hr@10"] >= 0.17
    assert answer["mae"] <= 0.755
