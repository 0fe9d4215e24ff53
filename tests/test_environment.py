"""HEADRACE_* and KAFKA_* variables, the files they name, and the variables of others."""

import ctypes
import re

import pytest
from confluent_kafka import cimpl

from consumer.environment import (
    SettingsError,
    _property,
    is_secret,
    property_name,
    read_environment,
    read_variable,
    unknown_variables,
)

NAMES = ("batch_size", "bootstrap_servers", "group_id", "seed")


def problems(environment):
    with pytest.raises(SettingsError) as caught:
        read_environment(NAMES, environment)
    return caught.value.problems


def test_one_problem_may_be_given_as_a_text():
    error = SettingsError("HEADRACE_DEVICE: cuda is not here")

    assert error.problems == ("HEADRACE_DEVICE: cuda is not here",)
    assert str(error) == "HEADRACE_DEVICE: cuda is not here"


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("KAFKA_SASL_USERNAME", "sasl.username"),
        ("KAFKA_LINGER_MS", "linger.ms"),
        ("KAFKA_A__B", "a_b"),
        ("KAFKA_A___B", "a-b"),
        ("KAFKA_A____B", "a-.b"),
        ("KAFKA_MIX_ED__CASE___RULE", "mix.ed_case-rule"),
    ],
)
def test_a_kafka_variable_names_a_property_by_the_rule_of_the_image(variable, name):
    assert property_name(variable) == name
    assert read_environment(NAMES, {variable: "x"}).librdkafka == {name: "x"}


def test_settings_are_found_by_name_and_others_left_alone():
    found = read_environment(NAMES, {"HEADRACE_BATCH_SIZE": "3", "HEADRACE_ODD": "1", "PATH": "/bin", "KAFKA_": "x"})

    assert found.settings == {"batch_size": "3"}
    assert found.librdkafka == {}
    assert found.from_files == frozenset()


def test_a_file_holds_the_value_without_its_last_line_end(tmp_path):
    password, key = tmp_path / "password", tmp_path / "key"
    password.write_bytes(b" pass word \r\n")
    key.write_text("-----BEGIN\nabc\n-----END\n")

    found = read_environment(
        NAMES,
        {
            "HEADRACE_SEED_FILE": str(password),
            "KAFKA_SASL_PASSWORD_FILE": str(password),
            "KAFKA_SSL_KEY_PEM_FILE": str(key),
        },
    )

    assert found.settings == {"seed": " pass word "}
    assert found.librdkafka == {"sasl.password": " pass word ", "ssl.key.pem": "-----BEGIN\nabc\n-----END"}
    assert found.from_files == {"seed", "sasl.password", "ssl.key.pem"}


@pytest.mark.parametrize("prefix", ["HEADRACE_SEED", "KAFKA_SASL_PASSWORD"])
def test_a_file_that_cannot_be_read_is_an_error(prefix, tmp_path):
    missing, binary = tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    assert problems({f"{prefix}_FILE": str(missing)}) == (
        f"{prefix}_FILE: expected the path of a readable file, got '{missing}' (No such file or directory)",
    )
    assert "not UTF-8 text" in problems({f"{prefix}_FILE": str(binary)})[0]


def test_a_value_given_twice_is_an_error(tmp_path):
    file = tmp_path / "seed"
    file.write_text("1")

    found = problems({"HEADRACE_SEED": "1", "HEADRACE_SEED_FILE": str(file), "KAFKA_A": "1", "KAFKA_A_FILE": str(file)})

    assert found == (
        "HEADRACE_SEED: given twice, also as HEADRACE_SEED_FILE; leave one of them out",
        "KAFKA_A: given twice, also as KAFKA_A_FILE; leave one of them out",
    )


def test_a_property_whose_own_name_ends_in_file_is_not_read():
    found = read_environment(NAMES, {"KAFKA_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE": "/no/such/key.pem"})

    assert found.librdkafka == {"sasl.oauthbearer.assertion.private.key.file": "/no/such/key.pem"}


def test_properties_that_are_settings_of_ours_become_those_unless_they_are_set():
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "KAFKA_GROUP_ID": "theirs", "HEADRACE_GROUP_ID": "ours"}

    found = read_environment(NAMES, environment)

    assert found.settings == {"bootstrap_servers": "kafka:9092", "group_id": "ours"}
    assert found.librdkafka == {}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_ENABLE_AUTO_COMMIT", "true"),
        ("KAFKA_ENABLE_AUTO_OFFSET_STORE", "True"),
        ("KAFKA_ENABLE_IDEMPOTENCE", "false"),
        ("KAFKA_ACKS", "1"),
        ("KAFKA_PARTITIONER", "random"),
    ],
)
def test_a_property_that_would_break_a_promise_is_refused(variable, value):
    (line,) = problems({variable: value})

    assert line.startswith(f"{variable}: expected ")
    assert f"got '{value}'" in line


@pytest.mark.parametrize("variable", ["KAFKA_ACKS", "KAFKA_LOGGER"])
def test_what_a_file_holds_is_not_shown_where_it_is_refused(variable, tmp_path):
    (tmp_path / "password").write_text("hunter2-hunter2")

    (line,) = problems({f"{variable}_FILE": str(tmp_path / "password")})

    assert "got ********" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "variable",
    [
        "KAFKA_DELIVERY_REPORT_ONLY_ERROR",
        "KAFKA_DEFAULT_TOPIC_CONFIG",
        "KAFKA_LOGGER",
        "KAFKA_TRANSACTIONAL_ID",
        "KAFKA_ENABLE_GAPLESS_GUARANTEE",
    ],
)
def test_a_property_that_is_nobodys_to_set_is_refused(variable):
    assert problems({variable: "true"}) == (
        f"{variable}: expected nothing, since Headrace decides it itself, got 'true'; leave it out",
    )


def test_a_property_that_keeps_the_promise_is_let_through():
    assert read_environment(NAMES, {"KAFKA_ACKS": "ALL"}).librdkafka == {"acks": "ALL"}


@pytest.mark.parametrize(
    "variable",
    [
        "KAFKA_SERVICE_HOST",
        "KAFKA_SERVICE_PORT",
        "KAFKA_SERVICE_PORT_TCP_CLIENT",
        "KAFKA_PORT",
        "KAFKA_PORT_9092_TCP_ADDR",
        "KAFKA_UI_SERVICE_HOST",
        "KAFKA_UI_SERVICE_PORT",
        "KAFKA_UI_SERVICE_PORT_HTTP",
        "KAFKA_UI_PORT",
        "KAFKA_EXPORTER_PORT_9308_TCP",
        "KAFKA_EXPORTER_PORT_9308_TCP_PROTO",
        "KAFKA_BROKER_0_EXTERNAL_SERVICE_PORT_TCP_9094",
        "KAFKA_HOME",
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_JMX_PORT",
    ],
)
def test_variables_of_kubernetes_and_of_kafkas_scripts_are_passed_over(variable):
    assert read_environment(NAMES, {variable: "tcp://10.0.0.1:9092"}).librdkafka == {}


def test_a_setting_of_the_name_of_a_kubernetes_service_is_not_its_address():
    names = ("metrics_port", "metrics_host")
    environment = {
        "HEADRACE_METRICS_SERVICE_HOST": "10.0.0.1",
        "HEADRACE_METRICS_SERVICE_PORT_METRICS": "9464",
        "HEADRACE_METRICS_PORT": "tcp://10.0.0.1:9464",
        "HEADRACE_METRICS_PORT_9464_TCP_ADDR": "10.0.0.1",
    }

    assert read_environment(names, environment).settings == {}
    assert read_environment(names, {**environment, "HEADRACE_METRICS_PORT": "9999"}).settings == {
        "metrics_port": "9999"
    }
    assert unknown_variables(names, environment) == []


def test_no_property_of_librdkafka_is_taken_for_a_variable_of_others():
    library = ctypes.CDLL(cimpl.__file__)
    written = ctypes.create_string_buffer(1 << 20)
    library.fmemopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(library.fmemopen(written, ctypes.c_size_t(len(written)), b"w"))
    library.rd_kafka_conf_properties_show(file)
    library.fclose(file)
    properties = set(re.findall(r"^([a-z][a-z0-9._-]*) +\|", written.value.decode(), re.MULTILINE))
    assert {"acks", "sasl.kerberos.service.name", "client.id"} <= properties

    for name in properties:
        variable = "KAFKA_" + re.sub("[._-]", lambda mark: {".": "_", "_": "__", "-": "___"}[mark[0]], name).upper()
        assert property_name(variable) == name
        assert _property(variable) == name


def test_an_unknown_variable_is_told_with_the_nearest_name():
    lines = unknown_variables(NAMES, {"HEADRACE_BATCHSIZE": "1", "HEADRACE_SED_FILE": "x", "HEADRACE_SEE_PORT": "9500"})

    assert lines == [
        "HEADRACE_BATCHSIZE is not a setting and has no effect; did you mean HEADRACE_BATCH_SIZE?",
        "HEADRACE_SED_FILE is not a setting and has no effect; did you mean HEADRACE_SEED?",
        "HEADRACE_SEE_PORT is not a setting and has no effect; did you mean HEADRACE_SEED?",
    ]


@pytest.mark.parametrize(
    "variable",
    [
        "HEADRACE_SEED",
        "HEADRACE_SEED_FILE",
        "HEADRACE_REQUIRE_KAFKA",
        "HEADRACE_SERVICE_HOST",
        "HEADRACE_PORT",
        "HEADRACE_PORT_9464_TCP",
        "PATH",
    ],
)
def test_known_variables_and_those_of_others_are_not_told(variable):
    assert unknown_variables(NAMES, {variable: "1"}) == []


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.jaas.config",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "SASL.PASSWORD",
    ],
)
def test_what_is_secret_by_its_name(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["sasl.username", "linger.ms", "security.protocol", "ssl.ca.location", "debug"])
def test_what_may_be_shown(name):
    assert not is_secret(name)


def test_one_setting_can_be_had_alone_whatever_is_wrong_with_others(tmp_path):
    (tmp_path / "seed").write_text("7\n")
    broken = {"KAFKA_ACKS": "1", "HEADRACE_GROUP_ID_FILE": "/nowhere", "HEADRACE_BATCH_SIZE": ""}

    assert read_variable("seed", {**broken, "HEADRACE_SEED": "3"}) == "3"
    assert read_variable("seed", {**broken, "HEADRACE_SEED_FILE": str(tmp_path / "seed")}) == "7"
    assert [read_variable(name, broken) for name in ("seed", "group_id", "batch_size")] == [None, None, None]
