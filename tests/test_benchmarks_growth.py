"""Growth curves: every point of every curve, its rate beside that of the curve's first point, and the picture."""

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `python -m benchmarks.growth` finds them from the root, pytest alone does not

from benchmarks import growth  # noqa: E402  # after the path
from benchmarks.report import Result  # noqa: E402
from benchmarks.sending import preload  # noqa: E402
from benchmarks.stream import EVENTS_TOPIC, Stream  # noqa: E402
from consumer.broker import InProcessBroker  # noqa: E402

SMALL = growth.Plan(
    {"items": (40,), "batch_size": (16, 64)},
    reading_events=256,
    readings=2,
    base=Stream(users=50, items=20, partitions=4),
    bare=Stream(events=2000, users=50, items=20, partitions=4),
    bare_readings=1,
)


def test_each_point_is_told_with_its_settings_and_the_last_line_sums_up() -> None:
    told: list[Result] = []

    summed = growth.measure(SMALL, told.append)

    assert [(line["curve"], line["value"]) for line in told] == [("items", 40), ("batch_size", 16), ("batch_size", 64)]
    for line in told:
        assert line["settings"]["stream"]["items"] == (40 if line["curve"] == "items" else 20)
        assert line["settings"]["worker"]["encoder"] == "recency"
        assert line["service"]["lists"] > 0
        assert line["learn"]["lists"] == 0
        for kind in growth.KINDS:
            assert line[kind]["events_per_second"] == max(line[kind]["readings"])
            assert len(line[kind]["readings"]) == 2
    assert told[1]["service"]["events_per_step"] == 16
    assert told[2]["service"]["events_per_step"] == 64
    first, second = summed["curves"]["batch_size"]["service"]
    assert first["of_first"] == 1
    assert second["of_first"] == told[2]["service"]["of_first"]
    assert second["of_first"] == pytest.approx(second["events_per_second"] / first["events_per_second"], abs=1e-4)
    assert second["of_bare"] == pytest.approx(second["events_per_second"] / summed["bare_events_per_second"], abs=1e-5)


@pytest.mark.parametrize("plan", [growth.FULL, growth.QUICK])
def test_the_plans_vary_all_four_numbers_upwards(plan: growth.Plan) -> None:
    assert set(plan.curves) == {"users", "items", "partitions", "batch_size"}
    for values in plan.curves.values():
        assert all(before < after for before, after in pairwise(values))


def test_the_fewest_partitions_hold_all_that_is_read_at_a_point() -> None:
    fewest = replace(growth.BASE, partitions=min(growth.FULL.curves["partitions"]))
    stream = growth.topic_of(growth.Point(fewest), growth.FULL)

    with InProcessBroker({EVENTS_TOPIC: stream.partitions}) as broker:
        sent = preload(broker.bootstrap_servers, stream)  # refuses where the broker dropped any

    assert sent["events"] == stream.events


@pytest.mark.parametrize("clock", growth.RATES)
def test_the_picture_has_a_panel_a_curve(clock: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs the extra `peers`")
    line = [
        {"users": users, growth.RATES[clock]: 3e4, "of_first": of_first, "of_bare": 0.03}
        for users, of_first in ((1000, 1.0), (100_000, 0.8))
    ]
    summed = {
        "curves": {"users": dict.fromkeys(growth.KINDS, line)},
        "settings": {"plan": {"base": vars(growth.BASE), "clock": clock}, "batch_size": 512},
    }

    growth.draw(summed, tmp_path / "made" / growth.PICTURE)

    assert (tmp_path / "made" / growth.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_by_the_cpus_clock_the_best_reading_is_the_one_that_took_least_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_bare", lambda _plan: [{"events_per_second": 1.0}])  # not what this is about
    told: list[Result] = []

    summed = growth.measure(replace(SMALL, curves={"items": (40,)}, clock="cpu"), told.append)

    (line,), (point,) = told, summed["curves"]["items"]["service"]
    assert line["service"]["events_per_cpu_second"] == max(line["service"]["readings"])
    assert point["events_per_cpu_second"] == line["service"]["events_per_cpu_second"]


def test_without_matplotlib_there_are_lines_and_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(growth, "measure", lambda _plan, _tell: {"benchmark": "growth"})

    status = growth.main(["--out", str(tmp_path)])

    out, err = capsys.readouterr()
    assert status == 0
    assert '"picture": null' in out.splitlines()[-1]
    assert "pip install '.[worker,peers]'" in err
    assert list(tmp_path.iterdir()) == []
