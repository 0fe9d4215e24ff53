"""Why a payload was refused; the reasons themselves are tested through decode."""

import pytest

from consumer.reasons import Reason, explain, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("good", '"good"'),
        (None, "null"),
        (1.5, "1.5"),
        (float("nan"), "NaN"),
        ({"a": 1, "b": 2}, "an object of 2"),
        ([], "a list of 0"),
        ("é\n\x1b[31m", '"\\u00e9\\n\\u001b[31m"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 80, '"' + "x" * 56 + "..."),
    ],
)
def test_a_value_is_shown_as_short_ascii(value, text):
    assert shown(value) == text


def test_the_reasons_are_those_of_the_contract():
    assert {str(reason) for reason in Reason} == {
        "not-json",
        "invalid",
        "unknown-type",
        "too-large",
        "id-too-long",
        "out-of-range",
        "from-the-future",
    }


@pytest.mark.parametrize("payload", [b"{}", b'{"type":"click"}', b"[]", b"", b"\xff", b'{"type":"click","user_id":7}'])
def test_words_of_msgspec_that_are_not_known_still_give_a_reason(payload):
    explanation = explain(payload, ValueError("something msgspec may say one day"))

    assert explanation.reason in (Reason.NOT_JSON, Reason.INVALID)
    assert explanation.detail.startswith("$")


def test_the_type_is_told_although_the_rest_is_wrong():
    payload = b'{"type":"rating","rating":NaN}'

    assert explain(payload, ValueError("JSON is malformed")).event_type == "rating"
