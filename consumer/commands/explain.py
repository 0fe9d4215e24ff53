"""`headrace explain USER`: why the user's list is as it is, from the newest checkpoint. Only reads; needs no Kafka.

The model is put together as its worker had it: what it is made of comes from the checkpoint, not from the environment.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from consumer.checkpoint import MODEL_PREFIX, Manifest
from consumer.commands.checkpoint import newest
from consumer.config import MASK, Settings
from consumer.modelling import compiling, make_learner, make_top_k
from consumer.refusals import SET_BY, other_settings
from model.content import cold_code
from model.explanations import Exclusion, Explanation, explain
from model.learner import Learner
from model.state import OtherSettings, under

AS_SAVED: Final = frozenset(
    {name for names in SET_BY.values() for name in names}
    | {"k", "cold_items", "seen_per_user", "max_users", "max_items"}
)
"""Settings that lists depend on."""
SHOWN: Final = 3
"""Items of the history that people are told of, for and against each."""
WORDS: Final[Mapping[Exclusion, str]] = {
    "not described": "it had no event yet, and the catalogue says nothing of it",
    "not available": "the catalogue says that it is not available, or withdrew it",
    "leaving": "it is on its way out: there are more items than HEADRACE_MAX_ITEMS",
    "seen": "the user had it",
}
UNKNOWN: Final = "neither an event nor the catalogue named it by then"
NO_COLD: Final = "it had no event yet, and HEADRACE_COLD_ITEMS is off"


class UnknownUser(RuntimeError):
    """The checkpoint knows nothing of a user."""


def run(settings: Settings, *, user_id: str, item_ids: Sequence[str] = ()) -> dict[str, Any]:
    """What the scores of a user's list are made of, or those of some items, in it or not.

    UnknownUser for who has no event in the checkpoint; CheckpointError where there is none, or not of this version.
    """
    manifest, tensors = newest(settings)
    settings = _as_saved(settings, manifest)
    with compiling(lambda: None):
        learner = make_learner(settings)
        try:
            learner.load(under(tensors, MODEL_PREFIX))
        except OtherSettings as error:
            raise other_settings(error, manifest.settings, settings.shown(), settings.checkpoint_dir) from error
        row = learner.users.row(user_id)
        if row is None:
            raise UnknownUser(
                f"the checkpoint of step {manifest.step} knows nothing of user {user_id!r}: it has no event of theirs, "
                "or they were forgotten, or dropped for being idle (HEADRACE_MAX_USERS)"
            )
        users_1 = np.array([row])
        lists = make_top_k(settings, learner, mode="exact")(users_1)
        codes_K = lists.codes_UK[0, : lists.lengths_U[0]].astype(np.int64)
        rows_K = learner.rows_of_list(codes_K)
        in_list = np.where(rows_K < 0, codes_K, rows_K).tolist()  # as `_code` has them
        wanted = {item_id: _code(learner, item_id) for item_id in item_ids} or {
            _name(learner, code): code for code in in_list
        }
        explained = {one.code: one for one in explain(learner, row, [c for c in wanted.values() if c is not None])}
        scores_C = _scores(learner, users_1, cold_items=settings.cold_items)
    return {
        "user_id": user_id,
        "step": manifest.step,
        "model_version": manifest.model_version,
        "events": int(learner.live.history.pushed_U[row]),
        "candidates": int((scores_C > -np.inf).sum()),
        "items": [
            {"item_id": item_id, "rank": None, "excluded": UNKNOWN}
            if code is None
            else _told(learner, item_id, explained[code], in_list, scores_C, cold_items=settings.cold_items)
            for item_id, code in wanted.items()
        ],
    }


def as_text(result: Mapping[str, Any], titles: Mapping[str, str] = MappingProxyType({})) -> str:
    """For people: an item a paragraph, by its title where it has one."""
    lines = [
        f"{result['user_id']}: {result['events']:,} events, {result['candidates']:,} items to choose from, "
        f"after step {result['step']:,}"
    ]
    for item in result["items"]:
        place = "-" if item["rank"] is None else f"{item['rank']:,}"
        name, why_not = titles.get(item["item_id"], item["item_id"]), item["excluded"]
        lines.append(f"\n{place:>4}  {name}" + (f": {why_not}" if why_not else ""))
        if "score" in item:
            parts = ", ".join(f"{part} {value:+.3f}" for part, value in item["parts"].items() if value)
            lines.append(f"      score {item['score']:.3f}: {parts}")
            changes = [(titles.get(one["item_id"], one["item_id"]), one["lower"]) for one in item["because"]]
            for word, told in (
                ("lower", [change for change in changes if change[1] > 0][:SHOWN]),
                ("higher", [change for change in reversed(changes) if change[1] < 0][:SHOWN]),
            ):
                if told:
                    without = ", ".join(f"{of_history} ({abs(value):.3f})" for of_history, value in told)
                    lines.append(f"      {word} without {without}")
    return "\n".join(lines)


def _as_saved(settings: Settings, manifest: Manifest) -> Settings:
    saved = {name: manifest.settings[name] for name in AS_SAVED if manifest.settings.get(name, MASK) != MASK}
    return settings.model_copy(update={**saved, "device": "cpu"})


def _code(learner: Learner, item_id: str) -> int | None:
    """The item's row, or `cold_code` of the catalogue's; None where nothing is known of it."""
    row, content = learner.items.row(item_id), learner.ranking.content
    if row is not None:
        return row
    catalogue_row = None if content is None else content.ids.row(item_id)
    return None if catalogue_row is None else cold_code(catalogue_row)


def _name(learner: Learner, code: int) -> str:
    catalogue_ids = learner.catalogue_ids()
    return learner.items.name(code) if catalogue_ids is None or code >= 0 else catalogue_ids.name(cold_code(code))


def _scores(learner: Learner, users_1: NDArray[np.int64], *, cold_items: bool) -> NDArray[np.floating]:
    """The scores of all items for a user, behind them those of all rows of the catalogue; -inf where not to be had."""
    scores_I, content = learner.scores(users_1)[0].numpy(), learner.ranking.content
    if content is None:
        return scores_I
    scores_X = np.full(len(content.ids), -np.inf, dtype=scores_I.dtype)
    if cold_items:
        rows_X = content.cold_rows()
        scores_X[rows_X] = learner.cold_scores(users_1, rows_X)[0].numpy()
    return np.concatenate((scores_I, scores_X))


def _told(
    learner: Learner,
    item_id: str,
    why: Explanation,
    in_list: Sequence[int],
    scores_C: NDArray[np.floating],
    *,
    cold_items: bool,
) -> dict[str, Any]:
    excluded = WORDS[why.excluded] if why.excluded else NO_COLD if why.code < 0 and not cold_items else None
    if why.code in in_list:
        rank = in_list.index(why.code) + 1  # equal scores have their order there
    else:
        own = scores_C[why.code if why.code >= 0 else len(learner.items) + cold_code(why.code)]
        rank = int((scores_C > own).sum()) + 1
    return {
        "item_id": item_id,
        "rank": None if excluded else rank,
        "excluded": excluded,
        "score": round(sum(why.score), 6),
        "parts": {name: round(value, 6) for name, value in why.score._asdict().items()},
        "because": [{"item_id": learner.items.name(item), "lower": round(lower, 6)} for item, lower in why.because],
    }
