"""The feature pyramid against torchvision's: the same weights in, the same maps out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from vision_tasks.necks.fpn import FPN
from vision_tasks.weights.torchvision import PYRAMID, renamed

WIDTHS = {"C3": 6, "C4": 10, "C5": 12}
ABOVE = ((r"extra\.p6", "neck.above.0"), (r"extra\.p7", "neck.above.1"))
EXTRA = {
    "subsample": LastLevelMaxPool,
    "from_p": lambda: LastLevelP6P7(8, 8),
    "from_c": lambda: LastLevelP6P7(12, 8),
}


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
@pytest.mark.parametrize("coarser", ["subsample", "from_p", "from_c"])
def test_maps_equal_torchvision(
    coarser: Literal["subsample", "from_p", "from_c"], norm: Callable[[int], nn.Module] | None
) -> None:
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork(list(WIDTHS.values()), 8, extra_blocks=EXTRA[coarser](), norm_layer=norm)
    state = {
        f"backbone.fpn.{name}".replace("backbone.fpn.extra_blocks", "extra"): v
        for name, v in theirs.state_dict().items()
    }
    ours = FPN(WIDTHS, 8, coarser, norm)
    state = renamed(state, PYRAMID + ABOVE)
    ours.load_state_dict({name.removeprefix("neck."): value for name, value in state.items()})
    ours.train(), theirs.train()
    # Odd sizes: a level is not always half of the one below.
    maps = {
        level: torch.randn(2, c, h, w)
        for (level, c), h, w in zip(WIDTHS.items(), (19, 10, 5), (26, 13, 7), strict=True)
    }
    expected = list(theirs(OrderedDict(maps)).values())
    found = ours(maps)
    assert list(found) == ["P3", "P4", "P5", "P6"] + ([] if coarser == "subsample" else ["P7"])
    assert ours.channels == dict.fromkeys(found, 8)
    for mine, yours in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(mine, yours)


def test_every_level_but_the_top_may_come_from_c2() -> None:
    assert list(FPN({"C2": 4} | WIDTHS, 8).channels) == ["P2", "P3", "P4", "P5", "P6"]
