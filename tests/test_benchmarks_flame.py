"""The flame graph: what a stack is called, how wide a box is, and that the worker's own loop is what it shows."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `python -m benchmarks.profiled` finds them from the root, pytest alone does not

from benchmarks import flame  # noqa: E402  # after the path

HERE = "tests/test_benchmarks_flame.py"
SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> dict[str, float]:
    """Width of each box by what hovering over it tells."""
    found = {}
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        title, rectangle = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert rectangle is not None
        found[str(title.text)] = float(rectangle.attrib["width"])
    return found


class Watched:
    """Calls back from native code, so that a stack can be looked at while that runs."""

    def __init__(self) -> None:
        self.stacks: list[flame.Stack] = []

    def look(self, _: Any) -> int:
        self.stacks.append(flame.stack_of(sys._getframe(1)))
        return 0

    def by_a_call(self) -> None:
        sorted([1], key=self.look)

    def by_an_operator(self) -> None:
        Operand(self) + 1  # what it gives is not asked for


class Operand:
    def __init__(self, watched: Watched) -> None:
        self.watched = watched

    def __add__(self, other: int) -> int:
        self.watched.stacks.append(flame.stack_of(sys._getframe(1)))
        return other


def test_a_stack_has_functions_by_file_and_then_the_call_as_the_source_has_it() -> None:
    watched = Watched()

    watched.by_a_call()

    assert watched.stacks[0][-2:] == (f"{HERE}:Watched.by_a_call", f"{flame.NATIVE}sorted()")
    assert f"{HERE}:test_a_stack_has_functions_by_file_and_then_the_call_as_the_source_has_it" in watched.stacks[0]


def test_an_operator_is_told_as_its_expression() -> None:
    watched = Watched()

    watched.by_an_operator()

    assert watched.stacks[0][-1] == f"{flame.NATIVE}Operand(self) + 1"


def test_only_what_runs_below_the_named_function_is_counted() -> None:
    def inner() -> None:
        np.sort(np.arange(200_000)[::-1])

    def outer(sampler: flame.Sampler) -> None:
        while sampler.stacks.total() < 3:
            inner()

    below = f"{HERE}:test_only_what_runs_below_the_named_function_is_counted.outer"
    with flame.Sampler(below) as sampler:
        outer(sampler)
        inside = sampler.stacks.total()
        inner()

    assert {stack[0] for stack in sampler.stacks} == {below}
    assert inside >= 3


def test_sampling_leaves_the_interpreter_as_it_was() -> None:
    before = sys.getswitchinterval()

    with flame.Sampler("nowhere") as sampler:
        pass

    assert sys.getswitchinterval() == before
    assert sampler.stacks.total() == 0


def test_folded_stacks_are_a_line_each_with_their_count() -> None:
    lines = flame.folded(Counter({("a", "b;c"): 3, ("a",): 1}))

    assert lines == "a;b,c 3\na 1\n"


def test_a_box_is_as_wide_as_its_share_and_inner_boxes_fit_into_it() -> None:
    found = boxes(flame.svg(Counter({("model/a.py:f", "model/b.py:g"): 3, ("model/a.py:f",): 1}), "title"))

    assert set(found) == {"model/a.py:f: 100.0%", "model/b.py:g: 75.0%"}
    assert found["model/b.py:g: 75.0%"] == pytest.approx(0.75 * found["model/a.py:f: 100.0%"], abs=1)


def test_boxes_too_narrow_to_be_seen_are_left_out_with_what_is_below_them() -> None:
    found = boxes(flame.svg(Counter({("f", "wide"): 10_000, ("f", "narrow", "below"): 1}), "title"))

    assert set(found) == {"f: 100.0%", "wide: 100.0%"}


def test_names_and_titles_may_have_any_characters() -> None:
    picture = flame.svg(Counter({("f", f"{flame.NATIVE}a < b & c"): 1}), "<&>")

    assert f"{flame.NATIVE}a < b & c: 100.0%" in boxes(picture)
    assert "<&>" in {text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")}


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        flame.svg(Counter(), "title")


def test_the_workers_loop_is_drawn_with_its_stages_and_kernels(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "flame.svg"
    folded = tmp_path / "flame.folded"
    command = [sys.executable, "-m", "benchmarks.profiled", "--items", "60", "--events", "16000", "--seconds", "10"]

    done = subprocess.run(
        [*command, "--encoder", "recency", "--flame", str(path), "--folded", str(folded)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    found = " ".join(boxes(path.read_text()))
    for name in ("consumer/loop.py:run: 100.0%", "model/learner.py:Learner.test_then_learn", "model/topk.py:TopK."):
        assert name in found
    assert "save_progress" not in found
    lines = folded.read_text().splitlines()
    assert {line.rpartition(" ")[0].split(";")[0] for line in lines} == {"consumer/loop.py:run"}  # itself or below it
