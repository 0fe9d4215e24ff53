"""Who goes: users who are forgotten or idle, and items that leave, out of everything that has a row of theirs.

Who is chosen, and when, is decided in `model.idle` and `model.leaving`; here all parts of the model hear of it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.cohorts import UserMeans
from model.idle import IdleRows
from model.ids import Ids
from model.interactions import Interactions
from model.leaving import LeavingItems, NamesItems
from model.live import LiveState
from model.ranking import RankingHead
from model.rating_model import RatingModel
from model.said_of_users import SaidOfUsers
from model.state import under
from model.step import Step
from model.vocabulary import Vocabulary

IDLE_USERS = "idle users."
LEAVING_ITEMS = "leaving items."
"""Begin the names of what a state holds of who is idle, and of items on their way out, where there is any."""


class LettingGo:
    """Empties rows and gives them back to the vocabularies; who comes back is a stranger."""

    def __init__(
        self,
        users: Vocabulary,
        items: Vocabulary,
        live: LiveState,
        ranking: RankingHead,
        ratings: RatingModel,
        means: UserMeans,
        said: SaidOfUsers,
        *,
        max_users: int,
        max_items: int,
    ) -> None:
        """0 users or items: all are kept."""
        self.users = users
        self.items = items
        self.live = live
        self.ranking = ranking
        self.ratings = ratings
        self.means = means
        self.said = said
        self.idle_users = IdleRows(max_users) if max_users else None
        self.leaving_items = LeavingItems(max_items) if max_items else None

    def forget(self, user_ids: Ids) -> NDArray[np.int64]:
        """Erase these users' histories, seen sets, rating states, rows, and what is said of them. The row that each had
        comes back, -1 where nobody had events; an id may come twice.
        """
        rows_N = self.users.find(user_ids)
        self.said.forget(user_ids, rows_N)
        rows_U = np.unique(rows_N[rows_N >= 0])
        if len(rows_U):
            self.users.remove_rows(rows_U)
            self.live.clear_users(rows_U)
            self.ratings.clear_users(rows_U)
            self.means.clear_users(rows_U)
            if self.idle_users is not None:
                self.idle_users.clear(rows_U)
        return rows_N

    def evict(self, step: Step) -> Step:
        """Give back the rows of idle users where there are too many, after this step."""
        if self.idle_users is None:
            return step
        rows_U = self.idle_users.choose(step.touched_users(), self.users)
        if len(rows_U):
            self.said.let_go(rows_U)
            self.users.remove_rows(rows_U)
            self.live.clear_users(rows_U)
            self.ratings.let_go(rows_U)
            self.means.clear_users(rows_U)
        return replace(step, evicted_U=rows_U)

    def let_items_leave(self, step: Step, batch: Interactions) -> Step:
        """Go on with the round of items that leave, after a step that learned this batch; those that nothing names any
        more give back their rows.
        """
        if self.leaving_items is None:
            return step
        used_B = self.items.find(batch.items[~batch.forgets_B])
        departures = self.leaving_items.after(used_B, self.items, self.names_items())
        gone_I = departures.gone_I
        self.ranking.moved.add(departures.hidden_I)
        self.ranking.parameters.changed.add(departures.changed_I)
        if len(gone_I):
            total = self.live.counts.total
            self.ranking.let_go(gone_I, self.live.counts.let_go(gone_I), total, step.version)
            self.ratings.renew_items(gone_I, step.version)
            if self.ranking.content is not None:
                self.ranking.content.let_go(gone_I)
            self.items.remove_rows(gone_I)
        return replace(step, evicted_I=gone_I, cleaned_U=departures.changed_U, swept=departures.swept)

    def names_items(self) -> list[NamesItems]:
        """What holds rows of items, users' histories first; pairs come behind what they are made of."""
        places: list[NamesItems] = [self.live.history, self.live.seen, *self.ratings.names_items()]
        return places if self.ranking.cooccurrence is None else [*places, self.ranking.cooccurrence]

    def leaving(self, items: int) -> NDArray[np.bool_]:
        """Which of so many items are on their way out. Empty: none are."""
        return np.zeros(0, dtype=np.bool_) if self.leaving_items is None else self.leaving_items.hidden_I(items)

    def state(self) -> dict[str, NDArray[np.generic]]:
        state: dict[str, NDArray[np.generic]] = {}
        if self.idle_users is not None:
            idle = self.idle_users.state(len(self.users))
            state.update({f"{IDLE_USERS}{name}": array for name, array in idle.items()})
        if self.leaving_items is not None:
            leaving = self.leaving_items.state(len(self.items))
            state.update({f"{LEAVING_ITEMS}{name}": array for name, array in leaving.items()})
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what stands of it in a whole state; where nothing does, nobody was ever seen."""
        if self.idle_users is not None:
            self.idle_users.load({name: value.numpy() for name, value in under(state, IDLE_USERS).items()})
        if self.leaving_items is not None:
            self.leaving_items.load({name: value.numpy() for name, value in under(state, LEAVING_ITEMS).items()})
