"""Sampled negatives for catalogues too large for the full softmax.

Half of the draws are even over the catalogue, half follow the counts; repeats are merged. Each item comes with the log
of the probability that it is drawn: subtracted from the logits it keeps the sampled softmax an estimate of the full one
instead of a penalty on popular items (the logQ correction: Bengio and Senecal 2008; Yi et al. 2019). A sum over the
sample of exp(logit - log) has the sum over all known items as its mean.
"""

import numpy as np
from numpy.typing import NDArray

from model.growth import grown
from model.kernels.negatives import FAN, count_up, draw_distinct

Ints = NDArray[np.int64]


class Negatives:
    """Draws items evenly and by their counts; what a draw costs does not depend on the size of the catalogue.

    It keeps sums of the counts (two numbers for 64 and for 4,096 items) that follow event by event. They are no state:
    `follow` makes them anew from the counts where it has not followed everything.
    """

    def __init__(self) -> None:
        self.total = 0
        """Sum of the counts that were followed."""
        self._block_sums = np.zeros(0, dtype=np.int64)
        self._outer_sums = np.zeros(0, dtype=np.int64)
        self._room_I = np.zeros(0, dtype=np.int32)

    def follow(self, items_B: Ints, enters_B: NDArray[np.bool_], count_I: Ints, total_before: int) -> None:
        """The events have raised `count_I`, whose sum was `total_before`."""
        if not len(count_I):
            return
        blocks = -(-len(count_I) // FAN)
        self._block_sums = grown(self._block_sums, blocks)
        self._outer_sums = grown(self._outer_sums, -(-blocks // FAN))
        if self.total == total_before:
            self.total += count_up(items_B, enters_B, self._block_sums, self._outer_sums)
            return
        self._block_sums[:] = 0
        self._outer_sums[:] = 0
        self._block_sums[:blocks] = np.add.reduceat(count_I, np.arange(0, len(count_I), FAN))
        self._outer_sums[: -(-blocks // FAN)] = np.add.reduceat(self._block_sums[:blocks], np.arange(0, blocks, FAN))
        self.total = int(count_I.sum())

    def let_go(self, items_N: Ints, counts_N: Ints, total_before: int) -> None:
        """These distinct items had these counts and have none any more; the sum of all was `total_before`."""
        if self.total != total_before or len(items_N) == 0 or items_N.max() // FAN >= len(self._block_sums):
            self.restart()  # or a total that fell could be taken for the one that was followed
            return
        np.subtract.at(self._block_sums, items_N // FAN, counts_N)
        np.subtract.at(self._outer_sums, items_N // (FAN * FAN), counts_N)
        self.total -= int(counts_N.sum())

    def restart(self) -> None:
        """What was followed is not true any more."""
        self.total = -1

    def draw(
        self,
        number: int,
        known_I: NDArray[np.bool_],
        count_I: Ints,
        new_items_X: Ints,
        generator: np.random.Generator,
    ) -> tuple[Ints, NDArray[np.float64]]:
        """Distinct known items in random order, none of `new_items_X`; the log of the probability that each is drawn.

        Both (N,). There are `number` draws, and fewer items: repeats are merged, what is not known is left out.
        """
        items = len(count_I)
        if items == 0 or number <= 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        self._room_I = grown(self._room_I, items, fill=-1)
        by_count = number // 2 if self.total > 0 else 0
        uniform = generator.random((2, number))
        drawn_N, log_share_N = np.empty(number, dtype=np.int64), np.empty(number)
        drawn = draw_distinct(
            uniform[0, by_count:],
            uniform[0, :by_count],
            uniform[1],
            items,
            self.total,
            known_I,
            count_I,
            self._block_sums,
            self._outer_sums,
            new_items_X,
            self._room_I,
            drawn_N,
            log_share_N,
        )
        return drawn_N[:drawn], log_share_N[:drawn]
