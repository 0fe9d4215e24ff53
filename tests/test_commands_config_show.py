"""`config show`: every setting as it would be used, secrets masked."""

from consumer.commands import config_show
from consumer.config import MASK, load


def test_settings_are_shown_as_they_would_be_used_and_secrets_masked():
    settings = load({"k": "7"}, {"HEADRACE_SEED": "3", "KAFKA_SASL_PASSWORD": "hunter2", "KAFKA_SASL_USERNAME": "u"})

    shown = config_show.run(settings)

    assert (shown["k"], shown["seed"], shown["batch_size"]) == (7, 3, 512)
    assert shown["librdkafka"] == {"sasl.password": MASK, "sasl.username": "u"}
