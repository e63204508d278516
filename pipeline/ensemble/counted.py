"""Losses that count rows (accuracy, top-5, macro-F1) of many blends at once, from what is open in the compact form."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.ensemble.compact import Compact, open_rivals, open_winners
from pipeline.ensemble.contract import View
from pipeline.ensemble.slots import each, placed, slotted, taken

TINY = 1e-12            # sums that are closer to zero may still turn by rounding
POSITIVE = 1e-300       # below it only zero, as differences of float32 numbers are not below 1e-45


@dataclass(frozen=True, eq=False)
class Counted:
    """What the two objectives share: sums of the picks' values decide, and scaling them changes nothing."""

    values: np.ndarray      # (m, P) float64: what a pick of each member adds to the sums

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest value over the members, `(P,)` each."""
        return self.values.min(axis=0), self.values.max(axis=0)

    def stride(self, picks: int) -> int:
        return max(picks // 2, 1)

    def loss(self, total: np.ndarray, picks: int) -> float:
        return float(self._losses(total[None])[0])

    def losses(self, total: np.ndarray, picks: int) -> np.ndarray:
        return self._losses(total + self.values)

    def _losses(self, totals: np.ndarray) -> np.ndarray:
        """Losses `(q,)` for sums `(q, P)`."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Hits(Counted):
    """Share of rows where fewer than `k` classes are ahead of the true one: accuracy (k = 1) or top-5 (k = 5).

    Values are margins, true class minus rival; the lower class wins ties.
    """

    row: np.ndarray         # (P,) place of the pair's row among the R open ones
    slots: np.ndarray       # pairs in each slot
    limit: np.ndarray       # (P,) the rival is ahead if the sum is below: 0 if the true class wins ties, else POSITIVE
    beaten: np.ndarray      # (R,) rivals that are ahead for sure
    times: np.ndarray       # (R,) how often the row counts
    sure: float             # rows that are hit for sure
    rows: float
    k: int

    def _losses(self, totals: np.ndarray) -> np.ndarray:
        """Minus the share of hits `(q,)` for sums `(q, P)`."""
        ahead = totals < self.limit                                              # (q, P)
        beaten = np.tile(self.beaten, (len(totals), 1))                          # (q, R)
        for slot in each(self.slots):
            beaten[:, :slot.stop - slot.start] += ahead[:, slot]
        return -(self.sure + (beaten < self.k) @ self.times) / self.rows

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> tuple["Hits", np.ndarray]:
        """The pairs that 1 to `steps` more picks could turn, in rows that these pairs could turn; with their sums."""
        least, most = self.bounds
        highest = total + steps * most
        return self.part(bag, total, highest < -TINY, (highest >= -TINY) & (total + steps * least <= TINY))

    def part(
        self, bag: np.ndarray, total: np.ndarray, ahead: np.ndarray, able: np.ndarray
    ) -> tuple["Hits", np.ndarray]:
        """The pairs able to turn in rows that they decide, given those whose rival stays ahead; the rest is settled."""
        beaten = self.beaten + np.bincount(self.row[ahead], minlength=len(self.beaten)).astype(np.int16)
        places = np.flatnonzero(able)
        worst = beaten + np.bincount(self.row[places], minlength=len(self.beaten))
        live = (beaten < self.k) & (worst >= self.k)                             # (R,)
        pairs, rows, slots = slotted(places[live[self.row[places]]], self.row)
        return Hits(
            taken(self.values, bag, pairs), placed(self.row[pairs], rows), slots, self.limit[pairs], beaten[rows],
            self.times[rows], self.sure + float(self.times[worst < self.k].sum()), self.rows, self.k,
        ), total[pairs]


@dataclass(frozen=True, eq=False)
class Winners(Counted):
    """Macro-F1, from the most probable class of every row; values are the probabilities of classes that may win."""

    row: np.ndarray         # (P,) place of the pair's row among the R open ones
    slots: np.ndarray       # pairs in each slot
    label: np.ndarray       # (P,) class, ascending within a row
    true: np.ndarray        # (R,) true class of the row
    times: np.ndarray       # (R,) how often the row counts
    predicted: np.ndarray   # (C,) settled rows won by each class
    correct: np.ndarray     # (C,) of them, those of that class
    present: np.ndarray     # (C,) rows of each class, settled or not

    def _losses(self, totals: np.ndarray) -> np.ndarray:
        """Minus macro-F1 `(q,)` for sums `(q, P)`."""
        winner = self._winner(totals)                                            # (q, R)
        classes, keys = len(self.present), winner + len(self.present) * np.arange(len(totals))[:, None]
        times = np.broadcast_to(self.times, winner.shape)
        predicted, correct = (
            np.bincount(keys.ravel(), weights.ravel(), len(totals) * classes).reshape(-1, classes)       # (q, C)
            for weights in (times, times * (winner == self.true))
        )
        total = self.present + self.predicted + predicted
        return -(2 * (self.correct + correct) / np.maximum(total, 1)).sum(axis=1) / (total > 0).sum(axis=1)

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> tuple["Winners", np.ndarray]:
        """The classes that 1 to `steps` more picks could make win, where there are several; with their sums."""
        least, most = self.bounds
        low, floor = total + steps * least, np.zeros(len(self.times))            # (P,), (R,)
        for slot in each(self.slots):
            np.maximum(floor[:slot.stop - slot.start], low[slot], out=floor[:slot.stop - slot.start])
        able = total + steps * most >= floor[self.row] - TINY                    # (P,)
        live = np.bincount(self.row[able], minlength=len(floor)) > 1             # (R,)
        settled = np.flatnonzero(able & ~live[self.row])
        winner, times, true = self.label[settled], self.times[self.row[settled]], self.true[self.row[settled]]
        pairs, rows, slots = slotted(np.flatnonzero(able & live[self.row]), self.row)
        return Winners(
            taken(self.values, bag, pairs), placed(self.row[pairs], rows), slots, self.label[pairs], self.true[rows],
            self.times[rows], self.predicted + np.bincount(winner, times, len(self.present)),
            self.correct + np.bincount(winner, times * (winner == true), len(self.present)), self.present,
        ), total[pairs]

    def _winner(self, totals: np.ndarray) -> np.ndarray:
        slots = [(slot, slice(0, slot.stop - slot.start)) for slot in each(self.slots)]
        highest = np.zeros((len(totals), len(self.times)))                       # (q, R)
        for slot, place in slots:
            np.maximum(highest[:, place], totals[:, slot], out=highest[:, place])
        winner = np.zeros(highest.shape, dtype=np.int32)
        for slot, place in reversed(slots):                                      # so that the first of equals stays
            equal = totals[:, slot] == highest[:, place]
            np.copyto(winner[:, place], self.label[slot], casting="same_kind", where=equal)
        return winner


def hits(view: View, k: int) -> Hits:
    """The open pairs (row, rival) of the members on the rows of the view, for top-`k` accuracy."""
    labels, times = view.predictions.labels, _times(view)
    assert labels is not None
    (pair_row, rival, values), rows, row, slots = _seen(view, open_rivals(view.predictions, k), times)
    true = view.predictions.stack[view.members[:, None], rows, labels[rows]]     # (m, R)
    limit = np.where(labels[pair_row] < rival, 0.0, POSITIVE)
    sure = times.sum() - times[rows].sum()
    none = np.zeros(len(rows), dtype=np.int16)
    whole = Hits(np.subtract(true[:, row], values, dtype=np.float64), row, slots, limit, none, times[rows], sure,
                 times.sum(), k)
    least, most = whole.bounds
    ahead = np.where(limit == 0, most < 0, most <= 0)
    behind = np.where(limit == 0, least >= 0, least > 0)
    return whole.part(np.arange(len(true)), np.zeros(len(row)), ahead, ~(ahead | behind))[0]


def winners(view: View) -> Winners:
    """The classes that may win the rows of the view, with the members' probabilities."""
    labels, times = view.predictions.labels, _times(view)
    assert labels is not None
    (_, label, values), rows, row, slots = _seen(view, open_winners(view.predictions), times)
    none, present = np.zeros(view.classes), np.bincount(labels, times, view.classes)
    whole = Winners(values.astype(np.float64), row, slots, label, labels[rows], times[rows], none, none, present)
    return whole.near(np.zeros(len(row)), np.arange(len(values)), 1)[0]


def _seen(view: View, compact: Compact, times: np.ndarray) -> tuple[Compact, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of the view's members in its rows, in slots; their R rows, each pair's place among these, the slots."""
    row, label, values = compact
    pairs, rows, slots = slotted(np.flatnonzero(times[row]), row)
    return (row[pairs], label[pairs], taken(values, view.members, pairs)), rows, placed(row[pairs], rows), slots


def _times(view: View) -> np.ndarray:
    """How often each row of the predictions is in the view, `(N,)`."""
    rows = np.arange(view.predictions.stack.shape[1])
    return np.bincount(rows[view.rows], minlength=len(rows)).astype(np.float64)
