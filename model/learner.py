"""Test, then learn: one pass over a batch of interactions, then one gradient step.

Each event is first ranked (and its rating predicted) from everything earlier in the stream, also in its own batch,
and only then learned. Live state moves event by event (`model.live`, `model.ratings`); shared parameters move once a
batch (`model.ranking`). No Kafka, no clock: the only time is the events' own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.cohorts import UserMeans
from model.content import Content, ContentSettings, cold_code
from model.cooccurrence import Cooccurrence, CooccurrenceSettings
from model.drift import Drift, DriftSettings, popularity_losses
from model.encoders.choice import ENCODERS, make_encoder
from model.entries import ItemContent
from model.factors import FactorRates
from model.grouped import Parts
from model.idle import IdleRows
from model.interactions import Forget, Interaction, Interactions
from model.kernels.live import kinds_of
from model.leaving import LeavingItems, NamesItems
from model.live import LiveState
from model.ranking import RankingHead, RankingRates, ScoreParts
from model.rating_choice import make_rating_model
from model.ratings import RatingRates
from model.scores import all_scores, cold_scores, parts_on_device
from model.state import refuse_other_settings, settings_as_bytes, under
from model.step import Piece, Step, joined
from model.user_content import Note, Said, UserContent, UserContentSettings
from model.vocabulary import Vocabulary

CONTENT = "content."
USER_CONTENT = "user content."
IDLE_USERS = "idle users."
LEAVING_ITEMS = "leaving items."
"""Begin the names of what a state holds of the catalogue, of what is said of users, of who is idle, and of items on
their way out, where there is any."""

NO_ROW = -1
RANKED_ITEMS = 32
"""Items that ranking may go through for an event, on average, where it is not free: about a twentieth of the time in
which an event is learned (docs/speed.md)."""

PIECES = 10
"""No more than a tenth of what was learned before is learned by one gradient step."""

Ranks = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class LearnerSettings:
    """What makes two learners different; equal settings, seed and stream give equal states."""

    encoder: str = "blend"
    width: int = 0
    """Width of an item embedding; where 0 is given it becomes the encoder's own (`model.encoders.choice`)."""
    rating_model: str = "neighbours"
    """Which model predicts ratings (`model.rating_choice`)."""
    rating_width: int = 16
    window: int = 50
    """Last items that the encoder reads."""
    hidden: int = 64
    """Units of a network's hidden layer."""
    depth: int = 64
    """Last interactions kept a user."""
    most_seen: int = 4096
    rating_min: float = 0.5
    rating_max: float = 5.0
    ranked_share: float | None = 1.0
    """Share of the users whose events are ranked before they are learned. None: all of them where the full softmax
    ranks them anyway, and in larger catalogues as many as add little to the cost of an event (`RANKED_ITEMS`)."""
    allow_repeats: bool = False
    """Items the user has seen stay candidates."""
    strictly_before: bool = False
    """Rank from history before the event's own millisecond only: for honest tests on coarse clocks."""
    smallest_piece: int = 16
    """A young model learns larger batches in pieces: of so many interactions, or a share (`PIECES`) of those before."""
    max_users: int = 0
    """Users that are kept; of more the idle ones are given back (`model.idle`). 0: everybody."""
    max_items: int = 0
    """Items that are kept; of more the idle ones leave (`model.leaving`). 0: all of them."""
    seed: int = 0
    ranking: RankingRates = field(default_factory=RankingRates)
    cooccurrence: CooccurrenceSettings = field(default_factory=CooccurrenceSettings)
    ratings: RatingRates = field(default_factory=RatingRates)
    factors: FactorRates = field(default_factory=FactorRates)
    content: ContentSettings = field(default_factory=ContentSettings)
    user_content: UserContentSettings = field(default_factory=UserContentSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)

    def __post_init__(self) -> None:
        if self.width == 0 and self.encoder in ENCODERS:
            object.__setattr__(self, "width", ENCODERS[self.encoder].width)  # frozen, but not before it is whole


class Learner:
    """The whole model: vocabularies, live state, ranking head, rating head."""

    def __init__(
        self,
        settings: LearnerSettings,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if settings.encoder not in ENCODERS:
            raise ValueError(f"encoder: expected one of {', '.join(ENCODERS)}, got {settings.encoder!r}")
        self.settings = settings
        self.device = torch.device(device)
        self.version = 0
        self.users = Vocabulary()
        self.items = Vocabulary()
        self.live = LiveState(depth=settings.depth, most_seen=settings.most_seen)
        self.ranking = RankingHead(
            settings.width,
            make_encoder(settings, self.device, dtype),
            Cooccurrence(settings.cooccurrence) if ENCODERS[settings.encoder].counts_pairs else None,
            settings.ranking,
            seed=settings.seed,
            device=self.device,
            dtype=dtype,
        )
        self.ratings = make_rating_model(
            settings.rating_model,
            settings.rating_width,
            settings.rating_min,
            settings.rating_max,
            seed=settings.seed,
            rates=settings.ratings,
            factor_rates=settings.factors,
        )
        self.means = UserMeans()
        self.drift = Drift(settings.drift)
        self.user_content: UserContent | None = None
        """What is said of users; None as long as nothing is."""
        self.idle_users = IdleRows(settings.max_users) if settings.max_users else None
        self.leaving_items = LeavingItems(settings.max_items) if settings.max_items else None

    def test_then_learn(self, batch: Interactions | Sequence[Interaction | Forget], step: int | None = None) -> Step:
        """Rank and predict each interaction, then learn the batch as step number `step`, by default the next one.

        An empty batch changes nothing.

        A forget takes effect where it stands: what comes before it is learned first, what comes after meets a
        stranger. Where a gradient step is not finite it is left out (`Step.refused`): shared parameters stay as they
        were, live state and counts move on, and the next batch is learned as ever.
        """
        batch = batch if isinstance(batch, Interactions) else Interactions.of(batch)
        if not len(batch):
            return joined([], self.version, [])
        self.version = self.version + 1 if step is None else step
        parts: list[Piece] = []
        forgotten: list[tuple[str, int]] = []
        start = 0
        for stop in [*np.flatnonzero(batch.forgets_B).tolist(), len(batch)]:
            while start < stop:
                piece = min(start + self._piece(), stop)
                whole = start == 0 and piece == len(batch)
                parts.append(self._learn_interactions(batch if whole else batch[start:piece]))
                start = piece
            if stop < len(batch):
                user_id = batch.users.name(stop)
                row = self.users.row(user_id)
                self.forget(user_id)
                for part in parts:
                    part.users_B[part.users_B == row] = NO_ROW
                forgotten.append((user_id, NO_ROW if row is None else row))
            start = stop + 1
        learned = joined(parts, self.version, forgotten)
        if self.idle_users is not None:
            learned = replace(learned, evicted_U=self._evict(learned, self.idle_users))
        if self.leaving_items is not None:
            used_B = self.items.find(batch.items[~batch.forgets_B])
            learned = self._let_items_leave(learned, used_B, self.leaving_items)
        return learned

    def describe(self, changes: Mapping[str, ItemContent | None]) -> None:
        """Take in what the catalogue says of items now; None: nothing any more, and the item leaves the lists.

        Items of the catalogue are not known by it: they are ranked from their first event on, as without a catalogue.
        """
        if not changes:
            return
        parameters = self.ranking.parameters
        if parameters.content is None:
            parameters.content = self._new_content()
        parameters.content.describe(changes, self.items)

    def describe_users(self, changes: Mapping[str, ItemContent | None]) -> None:
        """Take in what is said of users now: categories and features; None: nothing any more, the user stays."""
        if not changes:
            return
        if self.user_content is None:
            self.user_content = self._new_user_content()
        self.user_content.describe(changes, self.users)

    def forget(self, user_id: str) -> bool:
        """Erase the user's history, seen set, rating state, row, and what is said; False where nobody had events."""
        if self.user_content is not None:
            self.user_content.forget(user_id, self.users.row(user_id))
        if self.users.row(user_id) is None:
            return False
        row = self.users.remove(user_id)
        self.live.clear_user(row)
        self.ratings.clear_user(row)
        self.means.clear_user(row)
        if self.idle_users is not None:
            self.idle_users.clear(row)
        return True

    def _evict(self, step: Step, idle_users: IdleRows) -> NDArray[np.int64]:
        """Give back the rows of idle users where there are too many; who comes back is a stranger."""
        rows_U = idle_users.choose(step.touched_users(), self.users)
        if len(rows_U):
            if self.user_content is not None:
                self.user_content.let_go(rows_U, self.users)
            self.users.remove_rows(rows_U)
            self.live.clear_users(rows_U)
            self.ratings.let_go(rows_U)
            self.means.clear_user(rows_U)
        return rows_U

    def _let_items_leave(self, step: Step, used_B: NDArray[np.int64], leaving_items: LeavingItems) -> Step:
        """Go on with the round of items that leave; those that nothing names any more give back their rows."""
        content, departures = self.ranking.content, leaving_items.after(used_B, self.items, self.names_items())
        gone_I = departures.gone_I
        self.ranking.moved.add(departures.hidden_I)
        if len(gone_I):
            total = self.live.counts.total
            self.ranking.let_go(gone_I, self.live.counts.let_go(gone_I), total, step.version)
            self.ratings.renew_items(gone_I, step.version)
            if content is not None:
                content.let_go(gone_I)
            self.items.remove_rows(gone_I)
        return replace(step, evicted_I=gone_I, cleaned_U=departures.changed_U, swept=departures.swept)

    def names_items(self) -> list[NamesItems]:
        """What holds rows of items, users' histories first; pairs come behind what they are made of."""
        places: list[NamesItems] = [self.live.history, self.live.seen, *self.ratings.names_items()]
        return places if self.ranking.cooccurrence is None else [*places, self.ranking.cooccurrence]

    def hidden_items(self) -> NDArray[np.bool_]:
        """Which item rows are in no list: not available, or on their way out. Empty: there are none of either."""
        items, content = self.live.counts.items, self.ranking.content
        hidden_I = np.zeros(0, dtype=np.bool_) if content is None else content.hidden_I[:items]
        leaving_I = hidden_I[:0] if self.leaving_items is None else self.leaving_items.hidden_I(items)
        return hidden_I | leaving_I if len(hidden_I) and len(leaving_I) else hidden_I if len(hidden_I) else leaving_I

    def scores(self, rows_U: NDArray[np.int64]) -> Tensor:
        """Scores (U, I) of all items for these user rows now; -inf for those the user has seen and for items that are
        unknown or not available.
        """
        live = self.live
        count_I = live.counts.count_I[: live.counts.items]
        windows = live.history.windows(rows_U, self.settings.window)
        parameters, said = self.ranking.parameters, self._said_of(rows_U)
        scores_UI = all_scores(parameters, windows, count_I, allow_repeats=self.settings.allow_repeats, said=said)
        if not self.settings.allow_repeats:
            events, items = live.seen.pairs(live.seen.start_U[rows_U], live.seen.length_U[rows_U])
            at = (torch.from_numpy(events).to(self.device), torch.from_numpy(items.astype(np.int64)).to(self.device))
            scores_UI[at] = -torch.inf
        unknown_I = torch.from_numpy(~live.counts.known_I[: live.counts.items])
        scores_UI.masked_fill_(unknown_I.to(self.device, non_blocking=True), -torch.inf)
        hidden_I = self.hidden_items()
        if len(hidden_I):
            scores_UI[:, torch.from_numpy(np.flatnonzero(hidden_I)).to(self.device)] = -torch.inf
        return scores_UI

    def score_parts(self, rows_U: NDArray[np.int64]) -> ScoreParts:
        """What the scores of `scores` are made of, before anything is left out."""
        windows = self.live.history.windows(rows_U, self.settings.window)
        count_I = self.live.counts.count_I[: self.live.counts.items]
        said = self._said_of(rows_U)
        return self.ranking.score_parts(windows, count_I, allow_repeats=self.settings.allow_repeats, said=said)

    def parts_on_device(self, rows_U: NDArray[np.int64]) -> Parts:
        """What `scores` is made of, on the device, what is no candidate told apart: for lists without all scores."""
        live = self.live
        windows = live.history.windows(rows_U, self.settings.window)
        count_I = live.counts.count_I[: live.counts.items]
        parameters, said = self.ranking.parameters, self._said_of(rows_U)
        parts = parts_on_device(parameters, windows, count_I, allow_repeats=self.settings.allow_repeats, said=said)
        is_candidate_I, hidden_I = live.counts.known_I[: live.counts.items].copy(), self.hidden_items()
        if len(hidden_I):
            is_candidate_I &= ~hidden_I
        seen_users, seen_items = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        if not self.settings.allow_repeats:
            seen_users, seen_items = live.seen.pairs(live.seen.start_U[rows_U], live.seen.length_U[rows_U])
        # pageable memory is copied aside before this returns, so that nothing waits and nothing may be overwritten
        candidate_I, users_S, items_S = (
            torch.from_numpy(array).to(self.device, non_blocking=True)
            for array in (is_candidate_I, seen_users, seen_items)
        )
        return Parts(
            parts.users_UD.float(),
            parts.vectors_ID.float(),
            torch.where(candidate_I, parts.biases_I.float(), -torch.inf),
            parts.log_count_I.float(),
            parts.popularity_U.float(),
            parts.extra_users_E,
            parts.extra_items_E,
            parts.extras_E.float(),
            users_S,
            items_S.to(torch.int64),
            parts.most_extras,
        )

    def rows_of_list(self, codes: NDArray[np.integer] | Sequence[int]) -> NDArray[np.int64]:
        """The item rows behind codes of `model.topk.Lists`, -1 for items without an event; the same shape."""
        rows = np.array(codes, dtype=np.int64)
        if self.ranking.content is not None:
            is_coded = rows < 0
            rows[is_coded] = self.ranking.content.item_X[cold_code(rows[is_coded])]
        return rows

    def catalogue_ids(self) -> Vocabulary | None:
        """The ids behind codes of lists below 0 (`model.content.cold_code`); None where there is no catalogue."""
        return None if self.ranking.content is None else self.ranking.content.ids

    def cold_scores(self, rows_U: NDArray[np.int64], catalogue_rows_X: NDArray[np.int64]) -> Tensor:
        """Scores (U, X) of items that the catalogue knows and no event (`Content.cold_rows`), beside `scores`."""
        content = self.ranking.content
        if content is None:
            raise ValueError("there is no catalogue: nothing was described")
        windows = self.live.history.windows(rows_U, self.settings.window)
        count_I = self.live.counts.count_I[: self.live.counts.items]
        vectors_XD, said = content.vectors(catalogue_rows_X), self._said_of(rows_U)
        return cold_scores(self.ranking.parameters, windows, count_I, vectors_XD, said)

    def _piece(self) -> int:
        """Most interactions to learn by one gradient step: a young model takes small steps, whatever it is given.

        A gradient step moves a parameter about as far from one event as from five hundred, so that large steps early
        would leave a model where it began (measured: docs/quality.md).
        """
        return max(self.settings.smallest_piece, self.live.counts.total // PIECES)

    def _said_of(self, rows_U: NDArray[np.int64]) -> Said | None:
        """What is said of these users now."""
        if self.user_content is None:
            return None
        return self.user_content.read(rows_U, self.live.history.pushed_U[rows_U], self.users)

    def _said_then_noted(
        self,
        users_B: NDArray[np.int64],
        earlier_B: NDArray[np.int64],
        enters_B: Flags,
        notes: Mapping[int, Note],
    ) -> Said | None:
        """What each event finds said of its user; then what the events say themselves is taken in."""
        if self.user_content is None:
            if not notes:
                return None
            self.user_content = self._new_user_content()
        return self.user_content.read_then_write(users_B, earlier_B, enters_B, notes, self.users)

    def _notes(self, batch: Interactions) -> dict[int, Note]:
        """What events say besides the item, by their place in the batch."""
        reads_context = ENCODERS[self.settings.encoder].reads_context
        says_B = batch.texts.length_B > 0
        if reads_context:
            says_B |= batch.contexts.length_B > 0
        return {
            place: Note(
                batch.texts.name(place) if batch.texts.length_B[place] > 0 else None,
                json.loads(batch.contexts.name(place))
                if reads_context and batch.contexts.length_B[place] > 0
                else None,
            )
            for place in np.flatnonzero(says_B).tolist()
        }

    def _learn_interactions(self, batch: Interactions) -> Piece:
        users_B, items_B = self.users.rows(batch.users), self.items.rows(batch.items)
        times_B, weights_B, ratings_B = batch.times_B, batch.weights_B, batch.ratings_B
        self.live.grow(len(self.users), len(self.items))
        self.ranking.parameters.grow(len(self.items))
        if self.ranking.content is not None:
            may_be_again_B = items_B if self.leaving_items is not None else items_B[:0]
            self.ranking.content.follow(self.items, may_be_again_B[~self.live.counts.known_I[may_be_again_B]])
        self.ratings.grow(len(self.users), len(self.items))
        self.means.grow(len(self.users))

        rated_B = ~np.isnan(ratings_B)
        enters_B = (weights_B > 0) | rated_B
        earlier_B, means_B = self.means.find_then_count(users_B, enters_B, ratings_B, self.live.history.pushed_U)
        ranked_B = enters_B & self._is_ranked(users_B)
        found = self.live.pass_over(
            users_B,
            items_B,
            times_B,
            enters_B,
            self._kinds(ratings_B),
            window=self.settings.window,
            strictly_before=self.settings.strictly_before,
            allow_repeats=self.settings.allow_repeats,
            ranked_B=ranked_B,
        )
        said = self._said_then_noted(users_B, earlier_B, enters_B, self._notes(batch))
        ranked = RankedBatch(items_B, enters_B, found, self.live.seen, self.settings.allow_repeats, said)
        features = self.ranking.observe(ranked, self.version, ranks=ranked_B)
        pace = self.drift.pace
        self.ranking.parameters.set_pace(pace)
        turn = self.ranking.rank_then_learn(ranked, features, weights_B, self.version, ranks=ranked_B)
        self.ranking.moved.add(items_B)  # counts moved; not before, the step reads them as they were before it
        self.live.seen.trim(users_B)
        losses_B = _unweighted(turn.losses_B, np.where(found.known_B, weights_B, 0.0))
        popularity_losses_B = popularity_losses(enters_B, found.counts_B, found.total, found.items)
        alarms, keep = self.drift.update(losses_B - popularity_losses_B, earlier_B)
        if keep < 1:
            self.ranking.parameters.fade(keep)

        predictions_B, medians_B = np.full(len(items_B), np.nan), np.full(len(items_B), np.nan)
        refused = turn.refused
        try:
            predictions_B[rated_B], medians_B[rated_B] = self.ratings.predict_then_learn(
                users_B[rated_B], items_B[rated_B], times_B[rated_B], ratings_B[rated_B]
            )
        except FloatingPointError as diverged:  # the head is as it was before the batch
            refused = "; ".join(filter(None, (refused, f"step {self.version}: {diverged}")))
        return Piece(
            users_B=users_B,
            ranked_B=ranked_B,
            ranks_B=np.where(ranked_B, turn.ranks_B, np.nan),
            popularity_ranks_B=np.where(ranked_B & found.known_B, found.popularity_rank_B, np.nan),
            ratings_B=ratings_B,
            predictions_B=predictions_B,
            medians_B=medians_B,
            losses_B=losses_B,
            earlier_events_B=earlier_B,
            user_means_B=means_B,
            alarms=alarms,
            pace=pace,
            loss=turn.loss,
            refused=refused,
            losses=int((found.known_B & (weights_B != 0)).sum()),
        )

    def _kinds(self, ratings_B: Ranks) -> NDArray[np.int8]:
        """0 for an action, 1 to 5 for a rating by its fifth of the scale."""
        settings = self.settings
        kinds_B = np.empty(len(ratings_B), dtype=np.int8)
        kinds_of(ratings_B, settings.rating_min, settings.rating_max, kinds_B)
        return kinds_B

    def _is_ranked(self, users_B: NDArray[np.int64]) -> Flags:
        share = self.settings.ranked_share
        if share is None:
            items = len(self.items)
            share = 1.0 if items <= self.settings.ranking.full_softmax_items else RANKED_ITEMS / items
        if share >= 1:
            return np.ones(len(users_B), dtype=np.bool_)
        # A user is ranked always or never, on every machine alike.
        is_ranked_B: Flags = self.users.hash_R[users_B] < share * 2**32
        return is_ranked_B

    def moved_rows(self, step: Step) -> NDArray[np.int64]:
        """The rows of the users that a step had events of, forgot, gave back, or took items from that leave."""
        gone = [row for _, row in step.forgotten if row >= 0]
        return np.concatenate((step.touched_users(), np.array(gone, dtype=np.int64), step.evicted_U, step.cleaned_U))

    def user_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The large arrays with a row a user, by their names in `state`: views of what is learned, not copies.

        Nothing moves a row but a step that has events of its user, forgets the user, gives the row back or takes out
        of it what leaves (`moved_rows`).
        """
        return {
            **{f"live.history.{name}": array for name, array in self.live.history.state().items()},
            **{f"ratings.user_{name}": array for name, array in self.ratings.users.state().items()},
        }

    def state(self, copied: Mapping[str, NDArray[np.generic]] | None = None) -> dict[str, Tensor]:
        """Everything learned, as tensors by name, on the CPU: weights, optimiser, vocabularies, user state, counts.

        `copied`: arrays of it that need not be copied any more; see `user_arrays`.
        """
        copied = copied or {}
        arrays: dict[str, NDArray[np.generic]] = {
            "settings": settings_as_bytes(self._settings_that_bind()),
            "version": np.array([self.version]),
        }
        for part, holder in (
            ("users", self.users),
            ("items", self.items),
            ("live", self.live),
            ("ratings", self.ratings),
            ("means", self.means),
            ("drift", self.drift),
        ):
            arrays.update({f"{part}.{name}": array for name, array in holder.state().items()})
        state = {
            name: torch.from_numpy(copied[name] if name in copied else np.array(array))
            for name, array in arrays.items()
        }
        ranking = self.ranking.parameters.state()
        state.update({f"ranking.{name}": value.cpu().clone() for name, value in ranking.items()})
        if self.ranking.content is not None:
            state.update({f"{CONTENT}{name}": value for name, value in self.ranking.content.state().items()})
        if self.user_content is not None:
            state.update({f"{USER_CONTENT}{name}": value for name, value in self.user_content.state().items()})
        if self.idle_users is not None:
            idle = self.idle_users.state(len(self.users))
            state.update({f"{IDLE_USERS}{name}": torch.from_numpy(array) for name, array in idle.items()})
        if self.leaving_items is not None:
            leaving = self.leaving_items.state(len(self.items))
            state.update({f"{LEAVING_ITEMS}{name}": torch.from_numpy(array) for name, array in leaving.items()})
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state; ValueError, and nothing loaded, where it does not fit the settings.

        Rates may differ from those it was saved under: they steer only what is learned from now on.
        """
        if "settings" in state:
            refuse_other_settings(state["settings"], self._settings_that_bind())
        described = under(state, CONTENT)
        said = under(state, USER_CONTENT)
        optional = (CONTENT, USER_CONTENT, IDLE_USERS, LEAVING_ITEMS)
        ours = {name for name in self.state() if not name.startswith(optional)}
        if differing := sorted(ours ^ {name for name in state if not name.startswith(optional)}):
            raise ValueError(f"not a whole state of this model: missing or unknown are {', '.join(differing)}")
        self.ranking.load(under(state, "ranking."))
        for part, holder in (
            ("users", self.users),
            ("items", self.items),
            ("live", self.live),
            ("ratings", self.ratings),
            ("means", self.means),
            ("drift", self.drift),
        ):
            holder.load({name: value.numpy() for name, value in under(state, f"{part}.").items()})
        content = self.ranking.parameters.content = self._new_content() if described else None
        if content is not None:
            content.load(described)
        self.user_content = self._new_user_content() if said else None
        if self.user_content is not None:
            self.user_content.load(said)
        if self.idle_users is not None:
            self.idle_users.load({name: value.numpy() for name, value in under(state, IDLE_USERS).items()})
        if self.leaving_items is not None:
            self.leaving_items.load({name: value.numpy() for name, value in under(state, LEAVING_ITEMS).items()})
        self.version = int(state["version"])

    def _new_content(self) -> Content:
        dtype, moved = self.ranking.items.values.dtype, self.ranking.moved
        return Content(self.settings.width, self.settings.content, device=self.device, dtype=dtype, moved=moved)

    def _new_user_content(self) -> UserContent:
        dtype = self.ranking.items.values.dtype
        return UserContent(self.settings.width, self.settings.user_content, device=self.device, dtype=dtype)

    def _settings_that_bind(self) -> dict[str, object]:
        """The settings without which a saved state has no meaning."""
        settings = self.settings
        return {
            "encoder": settings.encoder,
            "width": settings.width,
            "rating_model": settings.rating_model,
            "rating_width": settings.rating_width,
            "depth": settings.depth,
            "window": settings.window,
            "hidden": settings.hidden,
            "rating_min": float(settings.rating_min),
            "rating_max": float(settings.rating_max),
            "seed": settings.seed,
            "optimizer": settings.ranking.optimizer,
            "dtype": str(self.ranking.items.values.dtype),
        }


def _unweighted(losses_B: Ranks | None, weights_B: Ranks) -> Ranks:
    """Losses for a weight of 1; NaN where the weight is not above 0, or nothing was learned."""
    nothing_B = np.full(len(weights_B), np.nan)
    return nothing_B if losses_B is None else np.divide(losses_B, weights_B, out=nothing_B, where=weights_B > 0)
