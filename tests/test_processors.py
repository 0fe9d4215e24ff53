"""How many processors may be used: by affinity, and by the quotas of the control groups around the process."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from consumer.processors import processors

Groups = Callable[..., int]


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """A function that counts for a process of the group `own`, where eight are allowed and groups have these quotas."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)

    def counted(quotas: Mapping[str, str], own: str = "0::/\n") -> int:
        for group, quota in quotas.items():
            (tmp_path / group).mkdir(parents=True, exist_ok=True)
            (tmp_path / group / "cpu.max").write_text(f"{quota}\n")
        (tmp_path / "own").write_text(own)
        return processors(tmp_path, tmp_path / "own")

    return counted


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_a_containers_quota_counts_rounded_down(count: Groups, quota: str, expected: int) -> None:
    assert count({".": quota}) == expected


def test_the_narrowest_of_the_groups_around_the_process_counts(count: Groups) -> None:
    quotas = {"a.slice": "300000 100000", "a.slice/b.service": "max 100000", "c.slice": "100000 100000"}

    assert count(quotas, "1:cpu:/c.slice\n0::/a.slice/b.service\n") == 3


def test_where_there_are_no_groups_the_affinity_counts(count: Groups, tmp_path: Path) -> None:
    assert count({}) == count({}, "") == processors(tmp_path, tmp_path / "missing") == 8
