"""The digest of a state, and the refusal of one that was saved under other settings."""

import pytest
import torch

from model.state import as_bytes, refuse_other_settings, settings_as_bytes, state_digest

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int32)}


def test_equal_states_have_equal_digests_in_whatever_order_and_layout():
    same = {"b": STATE["b"].clone(), "a": STATE["a"].T.contiguous().T}

    assert state_digest(same) == state_digest(STATE)


@pytest.mark.parametrize(
    "other",
    [
        {**STATE, "a": STATE["a"] + torch.tensor(1e-6)},
        {**STATE, "a": STATE["a"].reshape(3, 2)},
        {**STATE, "a": STATE["a"].view(torch.int32)},
        {"a": STATE["a"], "c": STATE["b"]},
        {"a": STATE["a"]},
        {**STATE, "empty": torch.zeros(0)},
    ],
    ids=["value", "shape", "type", "name", "missing", "more"],
)
def test_any_difference_shows(other):
    assert state_digest(other) != state_digest(STATE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4)])
def test_the_bytes_of_a_tensor_are_those_of_its_rows(dtype, shape):
    value = torch.ones(shape, dtype=dtype)

    assert bytes(as_bytes(value)) == bytes(value.flatten().view(torch.uint8).tolist() if value.numel() else b"")


def test_the_bytes_of_a_tensor_that_is_not_contiguous_are_those_of_its_copy():
    assert bytes(as_bytes(STATE["a"].T)) == STATE["a"].T.contiguous().numpy().tobytes()


def test_settings_come_back_and_are_accepted_where_they_are_the_same():
    saved = torch.from_numpy(settings_as_bytes({"width": 64, "encoder": "recency"}).copy())

    refuse_other_settings(saved, {"encoder": "recency", "width": 64})


def test_each_differing_setting_is_named_with_both_values():
    saved = torch.from_numpy(settings_as_bytes({"width": 64, "encoder": "recency", "old": 1}).copy())

    with pytest.raises(ValueError, match=r"other settings: old \(saved 1, now None\), width \(saved 64, now 32\)$"):
        refuse_other_settings(saved, {"encoder": "recency", "width": 32})


def test_a_state_from_before_a_setting_was_saved_had_its_first_value():
    saved = torch.from_numpy(settings_as_bytes({"width": 64}).copy())

    refuse_other_settings(saved, {"width": 64, "rating_model": "neighbours"})
    with pytest.raises(ValueError, match=r"other settings: rating_model \(saved neighbours, now factors\)$"):
        refuse_other_settings(saved, {"width": 64, "rating_model": "factors"})
