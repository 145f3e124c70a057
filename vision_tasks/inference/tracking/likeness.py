"""What tracks look like: unit vectors, compared by their angle and averaged over time."""

from __future__ import annotations

import numpy as np

_MEMORY = 0.9
"""Share of the past in the moving average of a track's look (JDE, Wang et al. 2020; StrongSORT, Du et al. 2023)."""


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity (P,) of rows of length 1, (P, D) and (P, D)."""
    similarity: np.ndarray = np.einsum("pd,pd->p", first, second)
    return similarity


def blended(past: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Moving average (P, D) of looks, of length 1 again."""
    mean = _MEMORY * past + (1 - _MEMORY) * now
    unit: np.ndarray = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return unit
