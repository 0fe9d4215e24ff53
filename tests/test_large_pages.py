"""The thread that has small pages collapsed, and where there is none."""

from threading import Event, active_count

import pytest

from consumer import large_pages
from consumer.large_pages import LargePages


@pytest.fixture
def setting(tmp_path):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


def test_it_goes_on_until_there_is_nothing_left_and_looks_again_later(monkeypatch, setting):
    monkeypatch.setattr(large_pages, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(large_pages, "IDLE_SECONDS", 0.001)
    answers, again = [True, True, False], Event()

    def collapse_next():
        if answers:
            return answers.pop(0)
        again.set()
        return False

    pages = LargePages(collapse_next, setting)
    try:
        assert again.wait(10)
    finally:
        pages.close()


def test_after_close_no_thread_is_left(setting):
    threads = active_count()
    pages = LargePages(lambda: False, setting)
    assert active_count() == threads + 1

    pages.close()
    pages.close()

    assert active_count() == threads


@pytest.mark.parametrize("text", ["always madvise [never]\n", None])
def test_nothing_starts_where_nobody_wants_large_pages_or_there_are_none(setting, text):
    if text is None:
        setting.unlink()
    else:
        setting.write_text(text)
    calls = []

    LargePages(lambda: calls.append(1) or False, setting).close()

    assert calls == []
