"""The pixels of a batch in one block of memory, which a worker shares with the process that trains.

torch hands every tensor from process to process as a file of its own: made, sent over a socket after a handshake, and
mapped. With five small tensors an image that is more work than the pixels are; so a batch travels as one block, and
what is small beside it as bytes (`dataset.RawBatch`).

To take shared memory from the kernel costs as much as to decode an image of its size. So a worker fills its blocks
again. The first two bytes of a block say whether the worker and the process that trains still look at it; each is
cleared in its process when the last tensor in the block is gone there (`_Lease`).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

Place = tuple[int, torch.dtype, tuple[int, ...]]
"""Where a tensor lies in its block: the first byte, its type and shape."""

# Bytes: where tensors may begin, which is that of a cache line and enough for every type. The first so many of a block
# hold no tensor but the signs of its being in use.
_ALIGNMENT = 64

# Bytes of a block that say who uses it: the worker that made it, and the process it was sent to.
_HERE, _THERE = 0, 1

# A worker keeps so many blocks at the most. Two batches wait ready (torch's default), one is trained on, Lightning
# holds one more, one is being filled; each is two blocks where there are maps. What is beyond is handed back when used.
_KEPT = 10

# A block that is so many times as large as what is wanted is handed back rather than filled: else all blocks would grow
# to the largest batch of the run. Smaller ones than the second number (bytes) are not worth that.
_TOO_LARGE, _SMALL = 8, 1 << 20

# Those of this process, if it is a worker. Its main thread makes images while another thread packs what is sent; of a
# worker born in torch's inference mode only the former is in it, so they write by way of NumPy.
_blocks: list[Tensor] = []
_choosing = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child forked while another thread holds it gets a lock of its own
    os.register_at_fork(after_in_child=lambda: globals().update(_choosing=threading.Lock()))


def channels_first(images: Sequence[np.ndarray]) -> list[Tensor]:
    """Images (H, W, C) as tensors (C, H, W) that lie one after another in one block."""
    wanted = [(torch.from_numpy(np.empty(0, i.dtype)).dtype, i.shape[2:] + i.shape[:2]) for i in images]
    places = _places(wanted)
    tensors = _views(_block(places), places)
    for image, tensor in zip(images, tensors, strict=True):
        into = tensor.numpy()
        if image.shape[2] in (3, 4) and image.size:
            cv2.split(image, list(into))  # ten times as fast as a transposed copy
        else:
            into[:] = image.transpose(2, 0, 1)
    return tensors


def pack(tensors: Sequence[Tensor]) -> Packed:
    """The block in which these tensors of the host lie if they lie in one, else a new one with copies of them."""
    if tensors and all(t.is_contiguous() for t in tensors):
        storage = tensors[0].untyped_storage()
        together = all(t.untyped_storage().data_ptr() == storage.data_ptr() for t in tensors)
        # Slices of something much larger would take all of it along.
        if together and (storage.nbytes() <= 2 * sum(t.nbytes for t in tensors) or _own(_bytes(storage)) is not None):
            at = [int(t.storage_offset()) * t.element_size() for t in tensors]
            return Packed(_bytes(storage), [(a, t.dtype, tuple(t.shape)) for a, t in zip(at, tensors, strict=True)])
    places = _places([(t.dtype, tuple(t.shape)) for t in tensors])
    return Packed(_copies(tensors, places), places)


class Packed:
    """A block (bytes,) uint8 and what lies in it, made by `pack`; it may be pickled."""

    def __init__(self, block: Tensor, places: list[Place]) -> None:
        self._block, self._places, self._lent = block, places, False

    def tensors(self) -> list[Tensor]:
        """What was packed; these share the block's memory."""
        return _views(_leased(self._block, _THERE) if self._lent else self._block, self._places)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent. A block of a worker's is lent to one receiver at a time; the next one gets another."""
        packed, own = self, _own(self._block)
        if own is not None and own[_THERE]:
            packed = Packed(_copies(_views(self._block, self._places), self._places), self._places)
            own = _own(packed._block)
        if own is not None:
            own.numpy()[_THERE] = 1
        return vars(packed) | {"_block": packed._block if own is None else own, "_lent": own is not None}


class _Lease:
    """Keeps a worker from filling a block again, as long as any tensor made of `np.asarray(lease)` lives.

    It does so for its own process alone: a child forked from the process that trains must clone what it wants to keep.
    """

    def __init__(self, block: Tensor, side: int) -> None:
        self._memory, self._side, self._process = block.numpy(), side, os.getpid()
        self.__array_interface__ = self._memory.__array_interface__

    def __del__(self) -> None:
        if os.getpid() == self._process:  # else a forked child goes, and its parent still holds the block
            self._memory[self._side] = 0


def _leased(block: Tensor, side: int) -> Tensor:
    """The block, in use on that side until nothing of what is returned is left."""
    return torch.from_numpy(np.asarray(_Lease(block, side)))


def _own(block: Tensor) -> Tensor | None:
    """The block of this worker's that lies there, if it is one."""
    with _choosing:
        return next((own for own in _blocks if own.data_ptr() == block.data_ptr()), None)


def _copies(tensors: Sequence[Tensor], places: Sequence[Place]) -> Tensor:
    block = _block(places)
    for tensor, own in zip(tensors, _views(block, places), strict=True):
        own.numpy()[...] = tensor.numpy()
    return block


def _views(block: Tensor, places: Sequence[Place]) -> list[Tensor]:
    return [block[at : at + math.prod(shape) * dtype.itemsize].view(dtype).view(shape) for at, dtype, shape in places]


def _places(wanted: Sequence[tuple[torch.dtype, tuple[int, ...]]]) -> list[Place]:
    places, at = [], _ALIGNMENT
    for dtype, shape in wanted:
        places.append((at, dtype, shape))
        at += -(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    return places


def _block(places: Sequence[Place]) -> Tensor:
    """A block (bytes,) uint8 in which these places fit; in a worker it is shared with the other processes."""
    if not places:
        return torch.empty(0, dtype=torch.uint8)
    at, dtype, shape = places[-1]
    size = at + math.prod(shape) * dtype.itemsize
    return torch.empty(size, dtype=torch.uint8) if get_worker_info() is None else _shared(size)


def _shared(size: int) -> Tensor:
    """A block of so many bytes or more: one of those that this worker made before, if one is free."""
    with _choosing:
        free = sorted((b for b in _blocks if not (b[_HERE] or b[_THERE])), key=len)
        most = max(_TOO_LARGE * size, _SMALL)
        block = next((b for b in free if size <= len(b) <= most), None)
        if block is None:
            # Rounded up, as the next batch may be a little larger.
            step = 1 << max(size.bit_length() - 4, 12)
            storage: Any = torch.UntypedStorage._new_shared(-(-size // step) * step)
            block = _bytes(storage)
            if free:
                gone = free[-1] if len(free[-1]) > most else free[0]
                _blocks[:] = [b for b in _blocks if b is not gone]
            if len(_blocks) >= _KEPT:
                return block
            _blocks.append(block)
        block.numpy()[_HERE] = 1
        return _leased(block, _HERE)


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[call-overload]
