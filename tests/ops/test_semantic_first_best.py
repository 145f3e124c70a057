"""The decision of a map's every pixel is the first of the best, however its scores lie in memory."""

from __future__ import annotations

import pytest
import torch

from vision_tasks.ops.semantic import decide


@pytest.mark.parametrize("classes", [1, 2, 19, 300])
@pytest.mark.parametrize("layout", ["planes", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_of_the_best(classes: int, layout: str, dtype: torch.dtype) -> None:
    """Few different values, so that most pixels have several best categories; infinities, too."""
    generator = torch.Generator().manual_seed(classes)
    scores = torch.randint(0, 4, (classes, 37, 53), generator=generator).float()
    scores[scores == 3] = torch.inf
    scores[:, :5] = -torch.inf
    wanted = [
        [next(k for k in range(classes) if v[k] == max(v)) for v in row] for row in scores.permute(1, 2, 0).tolist()
    ]
    if layout == "channels_last":
        scores = scores.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    found = decide(scores.to(dtype), (37, 53), (1, 1), (0, 0), (37, 53))
    assert found.dtype == torch.int16
    assert found.tolist() == wanted


def test_what_is_no_number_is_some_category() -> None:
    scores = torch.full((3, 2, 2), torch.nan)
    assert set(decide(scores, (2, 2), (1, 1), (0, 0), (2, 2)).unique().tolist()) <= {0, 1, 2}
