"""The order in which training takes images that lie in shards: few shards at a time, each rank its own."""

from __future__ import annotations

import numpy as np

_MIXED = 4
"""So many shards of a rank are open at once, and their images mixed."""


class ShardPasses:
    """Passes over M images, each once, shard by shard (see `sampler.Passes`).

    The shards of a pass are shuffled and dealt to the ranks; a rank mixes the images of four shards at a time. Batch n
    of the stream is of rank n % ranks, as `BatchSampler` deals them, for as long as that rank has images left; what is
    left over at the end of a pass goes to all.

    Args:
        shard: (M,) shard of each image. batch_size: images per batch. ranks: how many processes train.
    """

    def __init__(self, shard: np.ndarray, batch_size: int, ranks: int) -> None:
        self.shard, self.batch_size, self.ranks = np.asarray(shard), batch_size, ranks
        order = np.argsort(self.shard, kind="stable")
        self._rows = np.split(order, np.flatnonzero(np.diff(self.shard[order])) + 1)
        self.batches = -(-len(self.shard) // batch_size)

    @property
    def num_images(self) -> int:
        """M."""
        return len(self.shard)

    def __len__(self) -> int:
        """Images in a pass."""
        return len(self.shard)

    def of_pass(self, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image rows in order, and the pass's number as the round of each, (M,) int64."""
        random = np.random.default_rng((seed, number))
        shuffled = random.permutation(len(self._rows))
        streams = [self._stream(shuffled[rank :: self.ranks], random) for rank in range(self.ranks)]
        whole = [np.split(s, range(self.batch_size, len(s), self.batch_size)) for s in streams]
        rest = [parts.pop() for parts in whole if parts and len(parts[-1]) < self.batch_size]
        order: list[np.ndarray] = []
        first = number * self.batches  # of this pass in the stream of all batches
        places = [0] * self.ranks
        while any(place < len(parts) for place, parts in zip(places, whole, strict=True)):
            rank = (first + len(order)) % self.ranks
            if places[rank] >= len(whole[rank]):  # it has no more: the one that has most left helps out
                rank = max(range(self.ranks), key=lambda r: len(whole[r]) - places[r])
            order.append(whole[rank][places[rank]])
            places[rank] += 1
        rows = np.concatenate([*order, *rest]).astype(np.int64)
        return rows, np.full(len(rows), number)

    def _stream(self, shards: np.ndarray, random: np.random.Generator) -> np.ndarray:
        groups = [shards[i : i + _MIXED] for i in range(0, len(shards), _MIXED)]
        mixed = [random.permutation(np.concatenate([self._rows[s] for s in group])) for group in groups]
        return np.concatenate(mixed) if mixed else np.zeros(0, np.int64)
