"""The pixels of a batch in one block of memory, which a worker shares with the process that trains.

torch hands every tensor from process to process as a file of its own: made, sent over a socket after a handshake, and
mapped. With five small tensors an image that is more work than the pixels are; so a batch travels as one block, and
what is small beside it as bytes (`dataset.RawBatch`).

To take shared memory from the kernel costs as much as to decode an image of its size. So a worker fills its blocks
again: the first byte of a block says whether it is in use, the worker sets it, and the process that trains clears it
when the last tensor in the block is gone (`_Lease`).
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
# hold no tensor but the sign of its being in use.
_ALIGNMENT = 64

# A worker keeps so many blocks at the most. Two batches wait ready (torch's default), one is trained on, Lightning
# holds one more, one is being filled; what is beyond is handed back when it was used.
_KEPT = 8

# Those of this process, if it is a worker. Its main thread makes images while another thread packs what is sent.
_blocks: list[Tensor] = []
_choosing = threading.Lock()


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
        if all(t.untyped_storage().data_ptr() == storage.data_ptr() for t in tensors):
            at = [int(t.storage_offset()) * t.element_size() for t in tensors]
            return Packed(_bytes(storage), [(a, t.dtype, tuple(t.shape)) for a, t in zip(at, tensors, strict=True)])
    places = _places([(t.dtype, tuple(t.shape)) for t in tensors])
    block = _block(places)
    for tensor, own in zip(tensors, _views(block, places), strict=True):
        own.copy_(tensor)
    return Packed(block, places)


class Packed:
    """A block (bytes,) uint8 and what lies in it, made by `pack`; it may be pickled."""

    def __init__(self, block: Tensor, places: list[Place]) -> None:
        self._block, self._places = block, places
        self._lent = any(block.data_ptr() == own.data_ptr() for own in _blocks)

    def tensors(self) -> list[Tensor]:
        """What was packed; these share the block's memory."""
        block = torch.from_numpy(np.asarray(_Lease(self._block))) if self._lent else self._block
        return _views(block, self._places)


class _Lease:
    """Keeps a worker from filling a block again, as long as any tensor made of `np.asarray(lease)` lives."""

    def __init__(self, block: Tensor) -> None:
        self._memory, self._process = block.numpy(), os.getpid()
        self.__array_interface__ = self._memory.__array_interface__

    def __del__(self) -> None:
        if os.getpid() == self._process:  # else a forked child goes, and its parent still holds the block
            self._memory[0] = 0


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
        free = sorted((b for b in _blocks if not b[0]), key=len)
        block = next((b for b in free if len(b) >= size), None)
        if block is None:
            # Rounded up, as the next batch may be a little larger.
            step = 1 << max(size.bit_length() - 4, 12)
            storage: Any = torch.UntypedStorage._new_shared(-(-size // step) * step)
            block = _bytes(storage)
            if free:
                _blocks[:] = [b for b in _blocks if b is not free[0]]
            if len(_blocks) < _KEPT:
                _blocks.append(block)
        block[0] = 1
    return block


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[call-overload]
