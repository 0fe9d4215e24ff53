"""Test, then learn: one pass over a batch of interactions, then one gradient step.

Each event is first ranked (and its rating predicted) from everything earlier in the stream, also in its own batch,
and only then learned. Live state moves event by event (`model.live`, `model.ratings`); shared parameters move once a
batch (`model.ranking`). No Kafka, no clock: the only time is the events' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batches import RankedBatch
from model.cohorts import UserMeans
from model.content import Content, cold_code
from model.cooccurrence import Cooccurrence
from model.drift import Drift, popularity_losses
from model.encoders.choice import ENCODERS, make_encoder
from model.entries import ItemContent
from model.grouped import Parts
from model.ids import Ids
from model.interactions import Forget, Interaction, Interactions
from model.kernels.live import kinds_of
from model.letting_go import IDLE_USERS, LEAVING_ITEMS, LettingGo
from model.live import LiveState
from model.ragged import Part, copied
from model.ranking import RankingHead, ScoreParts
from model.rating_choice import make_rating_model
from model.said_of_users import SaidOfUsers
from model.scores import all_scores, cold_scores, parts_on_device
from model.settings import LearnerSettings
from model.state import on_cpu, refuse_other_settings, settings_as_bytes, tensors_of, under
from model.step import NOBODY, Piece, Step, joined
from model.user_content import Said
from model.vocabulary import Vocabulary
from model.windows import Windows

CONTENT = "content."
USER_CONTENT = "user content."
"""Begin the names of what a state holds of the catalogue, and of what is said of users, where there is any."""

NO_ROW = -1
RANKED_ITEMS = 32
"""Items that ranking may go through for an event, on average, where it is not free: about a twentieth of the time in
which an event is learned (docs/speed.md)."""

PIECES = 10
"""No more than a tenth of what was learned before is learned by one gradient step."""

Ranks = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Holder(Protocol):
    """A part of the model whose state is arrays."""

    def state(self) -> dict[str, NDArray[np.generic]]: ...
    def load(self, state: dict[str, NDArray[np.generic]]) -> None: ...


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
        self.said = SaidOfUsers(
            settings.width,
            settings.user_content,
            self.users,
            reads_context=ENCODERS[settings.encoder].reads_context,
            device=self.device,
            dtype=dtype,
        )
        self.letting_go = LettingGo(
            self.users,
            self.items,
            self.live,
            self.ranking,
            self.ratings,
            self.means,
            self.said,
            max_users=settings.max_users,
            max_items=settings.max_items,
        )
        self._given_back_X = NOBODY
        """Rows of the catalogue that no step has told of yet."""

    def test_then_learn(self, batch: Interactions | Sequence[Interaction | Forget], step: int | None = None) -> Step:
        """Rank and predict each interaction, then learn the batch as step number `step`, by default the next one.

        An empty batch changes nothing.

        To its user a forget takes effect where it stands: what comes before it is learned first, what comes after meets
        a stranger. It is carried out before the user's next event, or at the end.

        Where a gradient step is not finite it is left out (`Step.refused`): shared parameters stay as they were, live
        state and counts move on, and the next batch is learned as ever. So is a rating model's pass
        (`Step.ratings_refused`).
        """
        learned = self._test_then_learn(batch if isinstance(batch, Interactions) else Interactions.of(batch), step)
        given_back_X, self._given_back_X = self._given_back_X, NOBODY
        return replace(learned, given_back_X=given_back_X) if len(given_back_X) else learned

    def _test_then_learn(self, batch: Interactions, step: int | None) -> Step:
        if not len(batch):
            return joined([], self.version, [])
        self.version = self.version + 1 if step is None else step
        changed = self.ranking.parameters.changed
        before = changed.end
        parts: list[Piece] = []
        forgotten: list[tuple[str, int]] = []
        past, past_of_row = 0, dict[int, int]()
        for events, leaving in batch.stretches():
            parts += self._learn_in_pieces(events)
            past += len(events)
            if len(leaving):
                rows = self.letting_go.forget(leaving).tolist()
                forgotten += zip(leaving.names(), rows, strict=True)
                past_of_row.update(dict.fromkeys(rows, past))  # the events before: a later user may get the row
        learned = joined(parts, self.version, forgotten, changed.since(before))
        if forgotten:
            is_gone_B = [place < past_of_row.get(row, 0) for place, row in enumerate(learned.users_B.tolist())]
            learned.users_B[is_gone_B] = NO_ROW
        learned = self.letting_go.evict(learned)
        with_leavers = self.letting_go.let_items_leave(learned, batch)
        return with_leavers if with_leavers is learned else replace(with_leavers, moved_I=changed.since(before))

    def describe(self, changes: Mapping[str, ItemContent | None]) -> None:
        """Take in what the catalogue says of items now; None: nothing any more, and the item leaves the lists.

        Items of the catalogue are not known by it: they are ranked from their first event on, as without a catalogue.
        """
        if not changes:
            return
        parameters = self.ranking.parameters
        if parameters.content is None:
            parameters.content = self._new_content()
        given_back_X = parameters.content.describe(changes, self.items)
        self._given_back_X = np.concatenate((self._given_back_X, given_back_X))

    def describe_users(self, changes: Mapping[str, ItemContent | None]) -> None:
        """Take in what is said of users now: categories and features; None: nothing any more, the user stays."""
        self.said.describe(changes)

    def forget(self, user_id: str) -> bool:
        """Erase everything of the user (`LettingGo.forget`); False where nobody had events."""
        return bool(self.letting_go.forget(Ids.of([user_id]))[0] >= 0)

    def hidden_items(self) -> NDArray[np.bool_]:
        """Which item rows are in no list: not available, or on their way out. Empty: there are none of either."""
        items, content = self.live.counts.items, self.ranking.content
        hidden_I = np.zeros(0, dtype=np.bool_) if content is None else content.hidden_I[:items]
        leaving_I = self.letting_go.leaving(items)
        return hidden_I | leaving_I if len(hidden_I) and len(leaving_I) else hidden_I if len(hidden_I) else leaving_I

    def scores(self, rows_U: NDArray[np.int64]) -> Tensor:
        """Scores (U, I) of all items for these user rows now; -inf for those the user has seen and for items that are
        unknown or not available.
        """
        live, allow_repeats = self.live, self.settings.allow_repeats
        windows, count_I, said = self._asked(rows_U)
        scores_UI = all_scores(self.ranking.parameters, windows, count_I, allow_repeats=allow_repeats, said=said)
        if not allow_repeats:
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
        windows, count_I, said = self._asked(rows_U)
        return self.ranking.score_parts(windows, count_I, allow_repeats=self.settings.allow_repeats, said=said)

    def parts_on_device(self, rows_U: NDArray[np.int64]) -> Parts:
        """What `scores` is made of, on the device, what is no candidate told apart: for lists without all scores."""
        live, allow_repeats = self.live, self.settings.allow_repeats
        windows, count_I, said = self._asked(rows_U)
        is_candidate_I, hidden_I = live.counts.known_I[: live.counts.items].copy(), self.hidden_items()
        if len(hidden_I):
            is_candidate_I &= ~hidden_I
        seen = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        if not allow_repeats:
            seen = live.seen.pairs(live.seen.start_U[rows_U], live.seen.length_U[rows_U])
        return parts_on_device(
            self.ranking.parameters,
            windows,
            count_I,
            allow_repeats=allow_repeats,
            said=said,
            is_candidate_I=is_candidate_I,
            seen=seen,
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
        windows, count_I, said = self._asked(rows_U)
        return cold_scores(self.ranking.parameters, windows, count_I, content.vectors(catalogue_rows_X), said)

    def _asked(self, rows_U: NDArray[np.int64]) -> tuple[Windows, NDArray[np.int64], Said | None]:
        """What scores for these users follow from now: their windows, the items' counts, and what is said of them."""
        history, counts = self.live.history, self.live.counts
        windows = history.windows(rows_U, self.settings.window)
        return windows, counts.count_I[: counts.items], self.said.of(rows_U, history.pushed_U[rows_U])

    def _piece(self) -> int:
        """Most interactions to learn by one gradient step: a young model takes small steps, whatever it is given.

        A gradient step moves a parameter about as far from one event as from five hundred, so that large steps early
        would leave a model where it began (measured: docs/quality.md).
        """
        return max(self.settings.smallest_piece, self.live.counts.total // PIECES)

    def _learn_in_pieces(self, batch: Interactions) -> list[Piece]:
        parts: list[Piece] = []
        start = 0
        while start < len(batch):
            stop = min(start + self._piece(), len(batch))
            parts.append(self._learn_interactions(batch[start:stop] if stop - start < len(batch) else batch))
            start = stop
        return parts

    def _learn_interactions(self, batch: Interactions) -> Piece:
        users_B, items_B = self.users.rows(batch.users), self.items.rows(batch.items)
        times_B, weights_B, ratings_B = batch.times_B, batch.weights_B, batch.ratings_B
        self.live.grow(len(self.users), len(self.items))
        self.ranking.parameters.grow(len(self.items))
        if self.ranking.content is not None:
            may_be_again_B = items_B if self.letting_go.leaving_items is not None else items_B[:0]
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
        said = self.said.read_then_note(users_B, earlier_B, enters_B, batch)
        ranked = RankedBatch(items_B, enters_B, found, self.live.seen, self.settings.allow_repeats, said)
        features = self.ranking.observe(ranked, self.version, ranks=ranked_B)
        pace = self.drift.pace
        self.ranking.parameters.set_pace(pace)
        turn = self.ranking.rank_then_learn(ranked, features, weights_B, self.version, ranks=ranked_B)
        self.ranking.parameters.note_changed(items_B)  # not before: the step reads counts as they were before it
        self.live.seen.trim(users_B)
        losses_B = _unweighted(turn.losses_B, np.where(found.known_B, weights_B, 0.0))
        popularity_losses_B = popularity_losses(enters_B, found.counts_B, found.total, found.items)
        alarms, keep = self.drift.update(losses_B - popularity_losses_B, earlier_B)
        if keep < 1:
            self.ranking.parameters.fade(keep)

        predictions_B, medians_B = np.full(len(items_B), np.nan), np.full(len(items_B), np.nan)
        ratings_refused = None
        try:
            predictions_B[rated_B], medians_B[rated_B] = self.ratings.predict_then_learn(
                users_B[rated_B], items_B[rated_B], times_B[rated_B], ratings_B[rated_B]
            )
        except FloatingPointError as diverged:  # the head is as it was before the batch
            ratings_refused = f"step {self.version}: {diverged}"
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
            refused=turn.refused,
            ratings_refused=ratings_refused,
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
        is_ranked_B: Flags = self.users.hashes(users_B) < share * 2**32
        return is_ranked_B

    def moved_rows(self, step: Step) -> dict[str, NDArray[np.int64] | None]:
        """Which rows of `growing_parts` a step moved; None: any of them.

        Those of the users that it had events of, forgot, gave back, or took items from that leave; and of items.
        """
        gone = [row for _, row in step.forgotten if row >= 0]
        users_U = np.concatenate((step.touched_users(), np.array(gone, dtype=np.int64), step.evicted_U, step.cleaned_U))
        return {"user": users_U, "item": step.moved_I}

    def growing_parts(self) -> dict[str, dict[str, Part]]:
        """The large parts of a CPU with a row a user, and those with a row an item, by their names in `state`.

        Views of what is learned, not copies. Nothing moves a row but steps, which say so (`moved_rows`).
        """
        user_ids, item_ids = self.users.parts(), self.items.parts()
        ranking = self.ranking.parameters.item_parts() if self.device.type == "cpu" else {}
        return {
            "user": {
                **{f"users.{name}": user_ids[name] for name in ("bytes", "lengths")},
                **{f"live.history.{name}": array for name, array in self.live.history.state().items()},
                **{f"live.seen.{name}": part for name, part in self.live.seen.parts().items()},
                **{f"ratings.user_{name}": array for name, array in self.ratings.users.state().items()},
                **{f"ratings.median_{name}": array for name, array in self.ratings.median.users.state().items()},
                **{f"means.{name}": array for name, array in self.means.state().items()},
            },
            "item": {
                **{f"items.{name}": item_ids[name] for name in ("bytes", "lengths")},
                **{f"ranking.{name}": part for name, part in ranking.items()},
                **{f"ratings.item_{name}": array for name, array in self.ratings.items.state().items()},
                **{f"live.counts.{name}": array for name, array in self.live.counts.state().items()},
            },
        }

    def parts(self) -> dict[str, Part]:
        """Everything learned, by name: weights, optimiser, vocabularies, user state, counts. Views, where they lie on
        the CPU: they hold until the next step.
        """
        parts: dict[str, Part] = {
            "settings": settings_as_bytes(self.settings.that_bind(self.ranking.items.values.dtype)),
            "version": np.array([self.version]),
            **{f"users.{name}": part for name, part in self.users.parts().items()},
            **{f"items.{name}": part for name, part in self.items.parts().items()},
            **{f"live.{name}": part for name, part in self.live.parts().items()},
            **{f"ranking.{name}": part for name, part in self.ranking.parameters.parts().items()},
        }
        for part, holder in (("ratings", self.ratings), ("means", self.means), ("drift", self.drift)):
            parts.update({f"{part}.{name}": array for name, array in holder.state().items()})
        if self.ranking.content is not None:
            parts.update({f"{CONTENT}{name}": on_cpu(value) for name, value in self.ranking.content.state().items()})
        parts.update({f"{USER_CONTENT}{name}": on_cpu(value) for name, value in self.said.state().items()})
        parts.update(self.letting_go.state())
        return parts

    def state(self) -> dict[str, Tensor]:
        """The same as tensors that nothing moves."""
        return tensors_of({name: copied(part) for name, part in self.parts().items()})

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state; OtherSettings, and nothing loaded, where it was made under others that bind.

        ValueError for what is no whole state, nothing loaded, and where a part does not fit into ours: what was loaded
        until then stays, and the learner is of no use.

        Rates may differ from those it was saved under: they steer only what is learned from now on.
        """
        if "settings" in state:
            refuse_other_settings(state["settings"], self.settings.that_bind(self.ranking.items.values.dtype))
        described = under(state, CONTENT)
        optional = (CONTENT, USER_CONTENT, IDLE_USERS, LEAVING_ITEMS)
        ours = {name for name in self.parts() if not name.startswith(optional)}
        if differing := sorted(ours ^ {name for name in state if not name.startswith(optional)}):
            raise ValueError(f"not a whole state of this model: missing or unknown are {', '.join(differing)}")
        self.ranking.load(under(state, "ranking."))
        for part, holder in self._holders().items():
            holder.load({name: value.numpy() for name, value in under(state, f"{part}.").items()})
        content = self.ranking.parameters.content = self._new_content() if described else None
        if content is not None:
            content.load(described)
        self.said.load(under(state, USER_CONTENT))
        self.letting_go.load(state)
        self.version = int(state["version"])

    def _holders(self) -> dict[str, Holder]:
        """The parts of the model whose state is arrays, by the names under which a whole state has them."""
        return {
            "users": self.users,
            "items": self.items,
            "live": self.live,
            "ratings": self.ratings,
            "means": self.means,
            "drift": self.drift,
        }

    def _new_content(self) -> Content:
        dtype, moved = self.ranking.items.values.dtype, self.ranking.moved
        return Content(self.settings.width, self.settings.content, device=self.device, dtype=dtype, moved=moved)


def _unweighted(losses_B: Ranks | None, weights_B: Ranks) -> Ranks:
    """Losses for a weight of 1; NaN where the weight is not above 0, or nothing was learned."""
    nothing_B = np.full(len(weights_B), np.nan)
    return nothing_B if losses_B is None else np.divide(losses_B, weights_B, out=nothing_B, where=weights_B > 0)
