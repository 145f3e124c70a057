"""RegNetX and RegNetY (Radosavovic et al. 2020) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision

from vision_tasks.backbones.chain import Chain, children_of, set_norm


def regnet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """A RegNet by torchvision's name, randomly initialised as torchvision does.

    C1 is the stem, C2..C5 are the four blocks of the trunk. Sides are rounded up.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    ends = {"C1": "stem"} | {f"C{i + 1}": f"trunk_output.block{i}" for i in range(1, 5)}
    return Chain(name, body, [("stem", body.stem), *children_of(body, "trunk_output")], ends, levels)
