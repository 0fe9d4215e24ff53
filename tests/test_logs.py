"""What is logged: one format for all, nothing secret."""

import io
import json
import logging
import warnings

import pytest
import structlog

from consumer import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def configured(level="info", log_format="auto", secrets=(), stream=None):
    stream = io.StringIO() if stream is None else stream
    logs.configure(level, log_format, secrets=secrets, stream=stream)
    return stream


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_entry_is_a_json_line_with_time_level_and_what_it_is_about():
    stream = configured()

    structlog.get_logger().info("dead letter", topic="recs.events.v1", partition=3, offset=1207, model_version=12)

    (entry,) = lines(stream)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "dead letter",
        "level": "info",
        "topic": "recs.events.v1",
        "partition": 3,
        "offset": 1207,
        "model_version": 12,
    }


def test_the_standard_librarys_loggers_come_out_the_same_way():
    stream = configured()

    logging.getLogger("consumer.source").warning("broker %s is away", "b1", extra={"partition": 2})

    (entry,) = lines(stream)
    assert (entry["event"], entry["level"], entry["partition"]) == ("broker b1 is away", "warning", 2)


def test_a_logger_made_before_is_configured_too():
    log = structlog.get_logger()
    first, second = configured(), configured()

    log.info("hello")

    assert first.getvalue() == ""
    assert lines(second)[0]["event"] == "hello"


def test_what_is_below_the_level_is_left_out():
    stream = configured("warning")

    structlog.get_logger().info("chatter")
    logging.getLogger("consumer.source").info("chatter")
    structlog.get_logger().error("trouble")

    assert [entry["event"] for entry in lines(stream)] == ["trouble"]


def test_a_terminal_gets_text_and_json_when_asked():
    text, asked_for_json, asked_for_text = Terminal(), Terminal(), io.StringIO()

    for stream, log_format in ((text, "auto"), (asked_for_json, "json"), (asked_for_text, "console")):
        configured(log_format=log_format, stream=stream)
        structlog.get_logger().info("hello", offset=3)

    assert not text.getvalue().startswith("{")
    assert "hello" in text.getvalue()
    assert lines(asked_for_json)[0]["offset"] == 3
    assert "offset=3" in asked_for_text.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_never_written_whatever_it_stands_in(log_format):
    stream = configured(log_format=log_format, secrets=["hunter2-hunter2"])
    log = structlog.get_logger()

    log.info("using hunter2-hunter2", settings={"sasl.password": "other", "list": ["hunter2-hunter2"]})
    log.info("refused", error=ValueError("bad login hunter2-hunter2"))
    logging.getLogger("x").error("login %s", "hunter2-hunter2")
    try:
        raise RuntimeError("hunter2-hunter2 was wrong")
    except RuntimeError:
        log.exception("failed")

    assert "hunter2" not in stream.getvalue()
    assert "other" not in stream.getvalue()
    assert logs.MASK in stream.getvalue()


def test_the_rest_of_a_secret_from_a_word_on_is_one_too():
    secrets = ["principal=ada secret=hunter2 scope=x"]

    assert logs.masked("stopped at: secret=hunter2 scope=x, in principal=ada", secrets) == (
        f"stopped at: {logs.MASK}, in principal=ada"
    )
    assert logs.masked("nothing here", secrets) == "nothing here"
    assert logs.masked("nothing known", []) == "nothing known"


@pytest.mark.parametrize(
    "name", ["password", "sasl.password", "api_key", "ssl.key.pem", "access_token", "client_secret"]
)
def test_a_value_under_a_secret_name_is_masked(name):
    stream = configured()

    structlog.get_logger().info("connecting", **{name: "abc"})

    assert lines(stream)[0][name] == logs.MASK


def test_ordinary_names_and_short_secrets_leave_the_log_readable():
    stream = configured(secrets=["a", ""])

    structlog.get_logger().info("a banana", key_count=3, offsets={0: 12})

    (entry,) = lines(stream)
    assert (entry["event"], entry["key_count"], entry["offsets"]) == ("a banana", 3, {"0": 12})


def test_a_secret_of_four_characters_is_masked():
    stream = configured(secrets=["abc", "wxyz"])

    structlog.get_logger().info("abc and wxyz")

    assert lines(stream)[0]["event"] == "abc and ********"


def test_a_traceback_is_in_the_entry():
    stream = configured()

    try:
        raise KeyError("gone")
    except KeyError:
        structlog.get_logger().exception("step failed")

    assert "KeyError: 'gone'" in lines(stream)[0]["exception"]


def test_warnings_of_libraries_are_logged():
    stream = configured()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("this is old", stacklevel=1)

    assert "this is old" in lines(stream)[0]["event"]
