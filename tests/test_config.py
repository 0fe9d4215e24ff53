"""The settings: where they come from, what is refused and how that is said, what is never shown."""

import re

import pytest
from pydantic import ValidationError

from consumer.config import ACTION_WEIGHTS, MASK, Settings, as_variable, load, setting_names
from consumer.environment import SettingsError
from model.encoders.choice import ENCODERS

CONTRACT = {
    "BOOTSTRAP_SERVERS": "localhost:9092",
    "GROUP_ID": "headrace",
    "PARTITIONS": "8",
    "DEVICE": "auto",
    "METRICS_PORT": "9464",
    "METRICS_HOST": "127.0.0.1",
    "K": "20",
    "BATCH_SIZE": "512",
    "BATCH_WAIT_SECONDS": "0.005",
    "MAX_STALENESS_SECONDS": "5.0",
    "CHECKPOINT_DIR": "headrace-state",
    "CHECKPOINT_SECONDS": "30.0",
    "CHECKPOINTS_KEPT": "3",
    "QUALITY_SHARE": "auto",
    "RATING_MIN": "0.5",
    "RATING_MAX": "5.0",
    "MAX_FUTURE_SECONDS": "600.0",
    "EVENTS_TOPIC": "recs.events.v1",
    "ITEMS_TOPIC": "recs.items.v1",
    "USERS_TOPIC": "recs.users.v1",
    "RECOMMENDATIONS_TOPIC": "recs.recommendations.v1",
    "DEAD_LETTER_TOPIC": "dlq.recs.events.v1",
}


def problem(environment=None, flags=None):
    """The one line about what is wrong."""
    with pytest.raises(SettingsError) as caught:
        load(flags, environment or {})
    (line,) = caught.value.problems
    return line


def test_the_defaults_are_those_of_the_contract():
    settings = load({}, {})

    assert {name: as_variable(getattr(settings, name.lower())) for name in CONTRACT} == CONTRACT


def test_every_setting_says_what_it_is_for():
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_the_encoder_says_which_there_are():
    assert set(re.findall(r"\w+", Settings.model_fields["encoder"].description)) >= set(ENCODERS)


@pytest.mark.parametrize("name", setting_names())
def test_a_default_given_as_a_variable_is_the_default(name):
    default = getattr(load({}, {}), name)

    settings = load({}, {f"HEADRACE_{name.upper()}": as_variable(default)})

    assert getattr(settings, name) == default


def test_a_flag_comes_before_the_environment_and_that_before_the_default():
    environment = {"HEADRACE_K": "7", "HEADRACE_BATCH_SIZE": "64"}

    settings = load({"k": "9", "batch_size": None}, environment)

    assert (settings.k, settings.batch_size, settings.partitions) == (9, 64, 8)


def test_an_empty_variable_counts_as_not_set():
    assert load({}, {"HEADRACE_K": ""}).k == 20


def test_settings_cannot_be_changed():
    settings = load({}, {})

    with pytest.raises(ValidationError, match="frozen"):
        settings.k = 3


@pytest.mark.parametrize(
    ("name", "came", "expected"),
    [
        ("BATCH_SIZE", "0", "expected at least 1"),
        ("BATCH_SIZE", "many", "expected a whole number"),
        ("BATCH_SIZE", "1.5", "expected a whole number"),
        ("K", "-1", "expected at least 1"),
        ("PARTITIONS", "0", "expected at least 1"),
        ("METRICS_PORT", "65536", "expected at most 65535"),
        ("CHECKPOINT_SECONDS", "0", "expected more than 0"),
        ("CHECKPOINT_SECONDS", "inf", "expected a finite number"),
        ("BATCH_WAIT_SECONDS", "nan", "expected a finite number"),
        ("RATING_MAX", "nan", "expected a finite number"),
        ("RATING_MAX", "high", "expected a number"),
        ("RATING_MAX", "1e308", "expected at most 1000000000"),
        ("RATING_MIN", "-1e308", "expected at least -1000000000"),
        ("LEARNING_RATE", "1e30", "expected at most 1000"),
        ("RATING_LEARNING_RATE", "0", "expected more than 0"),
        ("RATING_LEARNING_RATE", "1e6", "expected at most 1000"),
        ("DEFAULT_WEIGHT", "1e39", "expected at most 1000"),
        ("RATING_WEIGHT", "0", "expected more than 0"),
        ("ACTION_WEIGHTS", "view=-1e39", "expected at least -1000 for view"),
        ("QUALITY_SHARE", "1.1", "expected at most 1"),
        ("QUALITY_SHARE", "most", "expected a number"),
        ("QUALITY_WINDOW", "100001", "expected at most 100000"),
        ("DEVICE", "gpu", "expected auto, cpu, cuda or cuda:1"),
        ("DEVICE", "cuda:x", "expected auto, cpu, cuda or cuda:1"),
        ("OPTIMIZER", "lion", "expected 'sgd', 'adagrad' or 'adam'"),
        ("LOG_LEVEL", "loud", "expected 'debug', 'info', 'warning' or 'error'"),
        ("ENCODER", "../x", "expected the name of an encoder"),
        ("BOOTSTRAP_SERVERS", "a b", "expected host:port, several separated by commas"),
        ("BOOTSTRAP_SERVERS", "a:1,", "expected host:port, several separated by commas"),
        ("GROUP_ID", "  ", "expected some text"),
        ("EVENTS_TOPIC", "my topic", "expected 1 to 249 letters, digits, dots, dashes and underscores"),
        ("EVENTS_TOPIC", "x" * 250, "expected 1 to 249 letters, digits, dots, dashes and underscores"),
        ("ACTION_WEIGHTS", "view", "expected pairs such as view=0.3,purchase=3"),
        ("ACTION_WEIGHTS", "view=much", "expected a number for view"),
        ("ACTION_WEIGHTS", "view=nan", "expected a finite number for view"),
        ("FRESHNESS_BUCKETS", "1,0.5", "expected rising seconds above 0, such as 0.01,0.1,1"),
        ("FRESHNESS_BUCKETS", "0,1", "expected rising seconds above 0, such as 0.01,0.1,1"),
        ("FRESHNESS_BUCKETS", "soon", "expected a number"),
        ("SEED", "-1", "expected at least 0"),
        ("MAX_ITEMS", "-1", "expected at least 0"),
        ("MAX_ITEMS", "all", "expected a whole number"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right_and_what_came(name, came, expected):
    line = problem({f"HEADRACE_{name}": came})

    assert line.startswith(f"HEADRACE_{name}: {expected}, got ")
    assert came[:70] in line
    assert "Default: " in line


def test_a_wrong_flag_is_named_as_the_flag():
    line = problem(flags={"batch_size": "x"})

    about = "Most events in a step; in `demo` 32 if left out. Default: 512"
    assert line == f"--batch-size: expected a whole number, got 'x'. {about}"


def test_every_wrong_setting_is_told_at_once():
    with pytest.raises(SettingsError) as caught:
        load({}, {"HEADRACE_K": "x", "HEADRACE_SEED": "y"})

    assert [line.split(":")[0] for line in caught.value.problems] == ["HEADRACE_K", "HEADRACE_SEED"]
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", [name for name in setting_names() if name != "checkpoint_dir"])
def test_a_wrong_setting_is_one_line(name):
    with pytest.raises(SettingsError) as caught:
        load({}, {f"HEADRACE_{name.upper()}": "a wrong\nvalue"})

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "servers",
    ["kafka", "kafka:9092,other:9092", "[::1]:9092", "SASL_SSL://kafka:9093", "plaintext://kafka:9092,other"],
)
def test_brokers_may_be_named_as_the_client_takes_them(servers):
    assert load({"bootstrap_servers": servers}, {}).bootstrap_servers == servers


@pytest.mark.parametrize("servers", ["http://kafka:9092", "kafka:9092/topic", "kafka:9092, other:9092", "kafka,"])
def test_what_is_no_address_of_a_broker_is_told_before_it_is_waited_for(servers):
    assert "expected host:port, several separated by commas" in problem({"HEADRACE_BOOTSTRAP_SERVERS": servers})


def test_a_long_wrong_value_is_shortened():
    assert len(problem({"HEADRACE_K": "9" * 5000 + "x"})) < 250


def test_a_flag_that_is_no_setting_is_refused():
    assert problem(flags={"bach_size": 3}) == "--bach-size: there is no such setting"


def test_a_scale_without_length_is_refused():
    assert problem({"HEADRACE_RATING_MIN": "5"}) == (
        "HEADRACE_RATING_MIN: expected less than HEADRACE_RATING_MAX (5), got 5"
    )


def test_two_topics_of_one_name_are_refused():
    line = problem({"HEADRACE_DEAD_LETTER_TOPIC": "recs.events.v1"})

    assert line == (
        "HEADRACE_DEAD_LETTER_TOPIC: expected another topic than HEADRACE_EVENTS_TOPIC, got 'recs.events.v1' for both"
    )


@pytest.mark.parametrize("text", ["view=0.2, buy=5", "buy=5,view=0.2,", " view = .2 ,buy=5"])
def test_action_weights_come_on_top_of_the_defaults(text):
    settings = load({}, {"HEADRACE_ACTION_WEIGHTS": text})

    assert settings.action_weights == {**ACTION_WEIGHTS, "view": 0.2, "buy": 5.0}


def test_action_weights_may_be_a_mapping_and_negative():
    settings = load({"action_weights": {"skip": -2}}, {})

    assert settings.action_weights == {**ACTION_WEIGHTS, "skip": -2.0}


@pytest.mark.parametrize(
    ("given", "taken"),
    [("0.01,0.1", (0.01, 0.1, 1)), ("0.5,7", (0.5, 1, 7)), ("0.1,1", (0.1, 1)), ("2.5,5", (1, 2.5, 5))],
)
def test_the_edge_that_the_alert_of_freshness_judges_by_is_always_there(given, taken):
    assert load({"freshness_buckets": given}, environment={}).freshness_buckets == taken


def test_words_are_taken_in_any_case():
    settings = load({}, {"HEADRACE_DEVICE": "CUDA:1", "HEADRACE_LOG_LEVEL": "Debug", "HEADRACE_OPTIMIZER": "Adam"})

    assert (settings.device, settings.log_level, settings.optimizer) == ("cuda:1", "debug", "adam")


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")

    assert str(load({}, {"HEADRACE_CHECKPOINT_DIR": "~/state"}).checkpoint_dir) == "/somewhere/state"


def test_a_home_folder_of_nobody_is_a_wrong_setting():
    line = problem({"HEADRACE_CHECKPOINT_DIR": "~nosuchuser/x"})

    assert line.startswith("HEADRACE_CHECKPOINT_DIR: expected the path of a folder, with a user that exists behind ~, ")
    assert "got '~nosuchuser/x'" in line


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("HEADRACE_K", "3")

    assert load().k == 3


def test_secrets_and_what_came_from_files_are_never_shown(tmp_path):
    secret, seed = tmp_path / "password", tmp_path / "seed"
    secret.write_text("hunter2\n")
    seed.write_text("4711\n")

    settings = load(
        {},
        {
            "KAFKA_SASL_USERNAME": "headrace",
            "KAFKA_SASL_PASSWORD_FILE": str(secret),
            "KAFKA_SSL_KEY_PASSWORD": "hunter3",
            "HEADRACE_SEED_FILE": str(seed),
        },
    )

    assert settings.seed == 4711
    assert settings.librdkafka["sasl.password"] == "hunter2"
    shown = settings.shown()
    assert shown["seed"] == MASK
    assert shown["librdkafka"] == {"sasl.password": MASK, "sasl.username": "headrace", "ssl.key.password": MASK}
    assert "hunter" not in repr(settings) + str(settings)
    assert settings.secrets() == {"hunter2", "hunter3", "4711"}


def test_a_wrong_secret_from_a_file_is_not_shown_either(tmp_path):
    file = tmp_path / "k"
    file.write_text("hunter2")

    line = problem({"HEADRACE_K_FILE": str(file)})

    assert line == f"HEADRACE_K: expected a whole number, got {MASK}. Length of a recommendation list. Default: 20"


def test_a_flag_over_a_file_is_shown(tmp_path):
    file = tmp_path / "k"
    file.write_text("7")

    assert load({"k": 9}, {"HEADRACE_K_FILE": str(file)}).shown()["k"] == 9


def test_what_is_shown_has_every_setting_and_is_plain():
    shown = load({}, {}).shown()

    assert set(shown) == {*setting_names(), "librdkafka"}
    assert shown["checkpoint_dir"] == "headrace-state"
    assert shown["freshness_buckets"][0] == 0.001
