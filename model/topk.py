"""Top-k lists for the touched users: the best of all known items, less the seen and the unavailable ones.

With `cold_items` also available items of the catalogue that had no event yet, where their content says so.

On the CPU a scan skips what bounds say cannot get in (`model.item_index`): `exact` skips nothing else, `fast` takes
looser bounds and measures what that costs (`model.recall`). On a GPU with Triton groups of items are bounded first
(`model.grouped`). Elsewhere plain torch makes the same lists.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.cold_index import ColdIndex
from model.content import Content, cold_code
from model.grouped import Kernels, best_by_groups, kernels_for
from model.item_index import Best, ItemIndex, Items, of_users
from model.kernels.groups import available
from model.kernels.merge import code_rows, merge_lists
from model.kernels.scan import Askers
from model.learner import Learner
from model.ranking import ScoreParts
from model.recall import LEAST_LISTS, Recall
from model.side_by_side import SideBySide

SCORES_AT_ONCE = 1 << 24
USERS_AT_ONCE = 4096
BITS_AT_ONCE = 1 << 31
"""On a GPU: a bit for each user and item says who has seen what, 256 MiB of them."""
MEASURED_OF = 64
"""One list in so many is made both ways."""

Mode = Literal["exact", "fast"]
Ints = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]


class Lists(NamedTuple):
    """Lists of users, best first; shorter than k where there are fewer candidates. A NaN score makes no candidate."""

    users_U: Ints
    """User rows."""
    codes_UK: NDArray[np.int32]
    """Item rows; `model.content.cold_code`, below 0, of the catalogue's row for items that the catalogue knew before
    their first event. Unspecified from `lengths_U` on, as are the scores."""
    lengths_U: NDArray[np.int32]
    scores_UK: NDArray[np.float32]


class UserList(NamedTuple):
    """One of them with names."""

    user_id: str
    item_rows: list[int]
    """Codes of `Lists`."""
    item_ids: list[str]
    scores: list[float]


class TopK:
    """Makes the lists of a learner as it stands now."""

    def __init__(
        self,
        learner: Learner,
        k: int,
        *,
        cold_items: bool = False,
        mode: Mode = "exact",
        least_recall: float = 0.99,
        threads: int = 1,
    ) -> None:
        """ValueError for a mode that there is none of. `least_recall`: below it `fast` makes exact lists.

        `threads` at most make lists at the same time, on the CPU; the lists do not depend on how many there are.
        """
        if mode not in ("exact", "fast"):
            raise ValueError(f"mode of top-k: expected exact or fast, got {mode!r}")
        self.learner = learner
        self.k = k
        self.cold_items = cold_items
        self.mode = mode
        self.threads = threads
        self.recall = Recall(least_recall)
        """`recall.value` is measured in mode `fast`; other lists are exact, and it stays 1."""
        side_by_side = SideBySide(threads)
        self._index = ItemIndex(side_by_side)
        self._cold_index = ColdIndex(side_by_side)
        self._updated = -1

    def __call__(self, users_U: Ints) -> Lists:
        """One list for each of these user rows, in their order; ValueError where a row is no user's."""
        users_U, users = np.asarray(users_U, dtype=np.int64), self.learner.live.history.users
        if len(users_U) and not 0 <= users_U.min() <= users_U.max() < users:
            raise ValueError(f"user rows: expected 0 to {users - 1}, got {users_U.min()} to {users_U.max()}")
        if self.learner.device.type != "cpu":
            return on_device(self.learner, users_U, self.k, cold_items=self.cold_items)
        parts = [
            self._lists(users_U[start : start + USERS_AT_ONCE])
            for start in range(0, max(len(users_U), 1), USERS_AT_ONCE)
        ]
        return parts[0] if len(parts) == 1 else Lists(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def lists_of(self, user_ids: Sequence[str]) -> list[UserList]:
        """The lists of users by their ids, with names; users that are not known are left out."""
        rows = [row for user_id in user_ids if (row := self.learner.users.row(user_id)) is not None]
        return self.named(self(np.array(rows, dtype=np.int64)))

    def named(self, lists: Lists) -> list[UserList]:
        """The same with names, for people and tests; scores with 6 decimals."""
        users, items, content = self.learner.users, self.learner.items, self.learner.ranking.content
        named = []
        for user, codes, length, scores in zip(*(column.tolist() for column in lists), strict=True):
            codes, scores = codes[:length], scores[:length]
            ids = [items.name(code) if code >= 0 else _cold_name(content, code) for code in codes]
            named.append(UserList(users.name(user), codes, ids, [round(score, 6) for score in scores]))
        return named

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What lists depend on beside the learner: in mode `fast` measurements and the order of items, else nothing."""
        if self.mode != "fast" or self.learner.device.type != "cpu":
            return {}
        self._update(self.learner.score_parts(np.zeros(0, dtype=np.int64)))
        return {**self.recall.state(), "order": self._index.order()}

    def load(self, state: Arrays) -> None:
        """Go on from a state, after the learner was loaded; ValueError where it does not fit. Empty: begin anew.

        On a GPU nothing is looked at: one that was saved on a CPU is of no use there.
        """
        self.recall = Recall(self.recall.least)
        self._updated = -1
        if self.mode == "fast" and state and self.learner.device.type == "cpu":
            parts = self.learner.score_parts(np.zeros(0, dtype=np.int64))
            self._index.set_order(state["order"].astype(np.int64), self._items(parts))
            self._updated = self.learner.ranking.moved.end
            self.recall.load(state)

    # --- the scan ---

    def _lists(self, users_U: Ints) -> Lists:
        learner = self.learner
        parts = learner.score_parts(users_U)
        self._update(parts)
        seen = learner.live.seen
        askers = Askers(
            np.ascontiguousarray(parts.users_UD.numpy()),
            parts.popularity_U,
            parts.starts_U,
            parts.items_E,
            parts.values_E,
            parts.weights_U,
            not learner.settings.allow_repeats,
            seen.pool,
            seen.start_U[users_U],
            seen.length_U[users_U],
            parts.together,
        )
        found = self._fast(askers, users_U) if self.mode == "fast" else self._index.best(askers, self.k)
        content = learner.ranking.content
        if content is None:
            return Lists(users_U, found.rows_UK, found.lengths_U, found.scores_UK)
        first = found._replace(rows_UK=_codes(content, found))
        cold = self._cold_index.best(content, askers, found) if self.cold_items else None
        if cold is None:
            return Lists(users_U, first.rows_UK, first.lengths_U, first.scores_UK)
        return _merged(users_U, first, cold._replace(rows_UK=cold_code(cold.rows_UK)))

    def _fast(self, askers: Askers, users_U: Ints) -> Best:
        """Loose bounds for most; exact lists for those that are measured, and for all while recall is low."""
        recall, slack = self.recall, self.recall.slack
        found = self._index.best(askers, self.k, slack=1.0 if recall.is_low else slack)
        is_measured_U = _is_measured(users_U, self.learner.version) if recall.is_measured else None
        measured = np.arange(min(len(users_U), LEAST_LISTS)) if is_measured_U is None else np.flatnonzero(is_measured_U)
        if not len(measured):
            return found
        some = of_users(askers, measured)
        exact = self._index.best(some, self.k, tells_needed=True)
        if recall.is_measured:
            fast = self._index.best(some, self.k, slack=slack)
            recall.measure(exact.rows_UK, exact.lengths_U, fast.rows_UK, fast.lengths_U)
        recall.learn(exact.needed_UK, exact.lengths_U)
        found.rows_UK[measured] = exact.rows_UK
        found.scores_UK[measured] = exact.scores_UK
        found.lengths_U[measured] = exact.lengths_U
        return found

    def _update(self, parts: ScoreParts) -> None:
        moved = self.learner.ranking.moved
        self._index.update(self._items(parts), moved.since(self._updated))
        self._updated = moved.end

    def _items(self, parts: ScoreParts) -> Items:
        counts = self.learner.live.counts
        return Items(
            parts.vectors_ID,
            parts.biases_I,
            counts.count_I[: counts.items],
            counts.known_I[: counts.items],
            self.learner.hidden_items(),
        )


def _is_measured(users_U: Ints, version: int) -> NDArray[np.bool_]:
    """One user in MEASURED_OF, others in each step: by a hash (splitmix64), so that a step made again is the same."""
    step = np.uint64(version * 0x9E3779B97F4A7C15 % 2**64)
    mixed_U = users_U.astype(np.uint64) + step
    mixed_U = (mixed_U ^ (mixed_U >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed_U = (mixed_U ^ (mixed_U >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    is_measured_U: NDArray[np.bool_] = (mixed_U >> np.uint64(32)) % np.uint64(MEASURED_OF) == 0
    return is_measured_U


def _codes(content: Content, found: Best) -> NDArray[np.int32]:
    """A number for each item that it also had in lists made before its first event; nothing behind a list's end."""
    codes_UK = np.empty_like(found.rows_UK)
    code_rows(found.rows_UK, found.lengths_U, content.row_I, content.born_cold_X, codes_UK)
    return codes_UK


def _merged(users_U: Ints, first: Best, second: Best) -> Lists:
    """The best of two lists of each user, of equal scores those of the first."""
    merged = Lists(
        users_U, np.empty_like(first.rows_UK), np.empty_like(first.lengths_U), np.empty_like(first.scores_UK)
    )
    merge_lists(
        first.rows_UK,
        first.scores_UK,
        first.lengths_U,
        second.rows_UK,
        second.scores_UK,
        second.lengths_U,
        merged.codes_UK,
        merged.scores_UK,
        merged.lengths_U,
    )
    return merged


def _cold_name(content: Content | None, code: int) -> str:
    assert content is not None, "codes below 0 come from a catalogue"
    return content.ids.name(cold_code(code))


# --- on a GPU ---


def on_device(
    learner: Learner, users_U: Ints, k: int, *, cold_items: bool = False, kernels: Kernels | None = None
) -> Lists:
    """The lists by bounds on groups of items (`model.grouped`), where `kernels` are given or the device has some.

    By all scores: users of whom a list was not proven to be whole; items without an event; everybody where parameters
    are not float32, or wider than the kernels take.
    """
    content, width = learner.ranking.content, learner.settings.width
    if kernels is None and available(learner.device, width) and learner.ranking.items.values.dtype == torch.float32:
        kernels = kernels_for(learner.device, width)
    if kernels is None or k == 0:
        return by_torch(learner, users_U, k, cold_items=cold_items)
    cold_X = content.cold_rows() if content is not None and cold_items else np.zeros(0, dtype=np.int64)
    size = min(BITS_AT_ONCE // max(len(learner.items), 1), SCORES_AT_ONCE // max(len(cold_X), 1), USERS_AT_ONCE)
    size = max(size, 1)
    parts = []
    for start in range(0, max(len(users_U), 1), size):
        lists = _by_groups(learner, users_U[start : start + size], k, content, kernels)
        parts.append(lists if content is None or not len(cold_X) else _with_colds(learner, lists, content, cold_X))
    return Lists(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _by_groups(learner: Learner, rows_U: Ints, k: int, content: Content | None, kernels: Kernels) -> Lists:
    found = best_by_groups(learner.parts_on_device(rows_U), k, kernels)
    no_colds = np.zeros(0, dtype=np.int64)
    lists = _padded(rows_U, found.scores_UK, found.rows_UK, k, content, no_colds, len(learner.items))
    rest = np.flatnonzero(~found.is_proven_U)
    if len(rest):
        whole = by_torch(learner, rows_U[rest], k)
        lists.codes_UK[rest], lists.lengths_U[rest] = whole.codes_UK, whole.lengths_U
        lists.scores_UK[rest] = whole.scores_UK
    return lists


def _with_colds(learner: Learner, lists: Lists, content: Content, cold_X: Ints) -> Lists:
    """The lists with items without an event among them, where these are better."""
    k = lists.codes_UK.shape[1]
    values_UK, columns_UK = (part_UK.numpy() for part_UK in best(learner.cold_scores(lists.users_U, cold_X), k))
    cold = _padded(lists.users_U, values_UK, columns_UK, k, content, cold_X, 0)
    first, second = (Best(one.codes_UK, one.scores_UK, one.lengths_U, one.scores_UK) for one in (lists, cold))
    return _merged(lists.users_U, first, second)


def by_torch(learner: Learner, users_U: Ints, k: int, *, cold_items: bool = False) -> Lists:
    """The lists by a matrix of all scores."""
    content = learner.ranking.content
    cold_X = content.cold_rows() if content is not None and cold_items else np.zeros(0, dtype=np.int64)
    size = max(1, SCORES_AT_ONCE // max(len(learner.items) + len(cold_X), 1))
    parts = []
    for start in range(0, max(len(users_U), 1), size):
        rows_U = users_U[start : start + size]
        scores_UI = learner.scores(rows_U)
        if len(cold_X):
            scores_UI = torch.cat((scores_UI, learner.cold_scores(rows_U, cold_X)), 1)
        values_UK, items_UK = (part_UK.numpy() for part_UK in best(scores_UI, k))
        parts.append(_padded(rows_U, values_UK, items_UK, k, content, cold_X, len(learner.items)))
    return Lists(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _padded(
    users_U: Ints,
    values_UK: NDArray[np.floating],
    columns_UK: Ints,
    k: int,
    content: Content | None,
    cold_X: Ints,
    items: int,
) -> Lists:
    lengths_U = (values_UK != -np.inf).sum(1).astype(np.int32)
    codes_UK, scores_UK = np.zeros((len(users_U), k), np.int32), np.zeros((len(users_U), k), np.float32)
    scores_UK[:, : values_UK.shape[1]] = values_UK
    found = columns_UK
    if content is not None:
        is_cold_UK = columns_UK >= items
        known = Best(np.where(is_cold_UK, 0, columns_UK).astype(np.int32), scores_UK, lengths_U, scores_UK)
        cold_UK = cold_code(cold_X[(columns_UK - items).clip(0)]) if len(cold_X) else columns_UK
        found = np.where(is_cold_UK, cold_UK, _codes(content, known))
    codes_UK[:, : found.shape[1]] = found
    return Lists(users_U, codes_UK, lengths_U, scores_UK)


def best(scores_UI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores of each row and their columns, best first, ties to the lower column; both (U, min(k, I)).

    NaN counts as -inf.

    `torch.topk` alone leaves open which of several equal scores it takes, and lists must not depend on that.
    """
    k = min(k, scores_UI.shape[1])
    if k == 0:
        return scores_UI[:, :0].cpu(), torch.zeros((len(scores_UI), 0), dtype=torch.int64)
    values_UK, columns_UK = torch.topk(scores_UI, k, dim=1)
    if values_UK.isnan().any():  # CPU-GPU sync point; torch.topk puts NaN first, so it is here if it is anywhere
        scores_UI = scores_UI.masked_fill(scores_UI.isnan(), -torch.inf)
        values_UK, columns_UK = torch.topk(scores_UI, k, dim=1)
    tied_U = (scores_UI >= values_UK[:, -1:]).float().sum(1) > k  # summing booleans is many times slower
    if tied_U.any():  # CPU-GPU sync point; ties at the end of the list are settled by a stable sort of the whole row
        values, columns = torch.sort(scores_UI[tied_U], dim=1, descending=True, stable=True)
        values_UK[tied_U], columns_UK[tied_U] = values[:, :k], columns[:, :k]
    columns_UK, by_column = torch.sort(columns_UK, dim=1)
    values_UK, by_value = torch.sort(values_UK.gather(1, by_column), dim=1, descending=True, stable=True)
    return values_UK.cpu(), columns_UK.gather(1, by_value).cpu()
