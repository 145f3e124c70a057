"""Any network of timm (https://github.com/huggingface/pytorch-image-models) that gives feature maps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone, check_levels
from vision_tasks.errors import VisionTasksError

TIMM = "timm/"
"""How the names of these backbones begin."""

DILATED = "All of torchvision's in BACKBONES, resnet50 for one, can be."
"""For messages: which networks can have an output stride of 16 or 8."""


class TimmBackbone(Backbone):
    """A network of timm built with `features_only`; needs the extra `[timm]`.

    The maps reduced by 2, 4, 8, 16 and 32 are C1..C5; how sides are rounded is the network's matter. Weight files of
    the whole timm network load by name (`rename`).
    """

    def __init__(
        self,
        name: str,
        norm: str,
        levels: Sequence[str] | None,
        norm_eps: float | None = None,
        output_stride: int = 32,
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            name: "timm/" and timm's name, with or without a tag. Nothing is downloaded.
            norm, norm_eps: for its batch norms; other normalisations are left alone.
            output_stride: 32, 16 or 8: no map is coarser; timm takes out strides and dilates what follows.
            in_channels: of the images.

        Raises:
            VisionTasksError: timm is not installed, knows no such network, it gives no such maps, or cannot be dilated.
        """
        timm = _import_timm(name)
        whole = _network(timm, name)
        reductions = [(info["reduction"], info["module"]) for info in getattr(whole, "feature_info", ())]
        places = {f"C{n}": i for n in range(1, 6) for i, (r, _) in enumerate(reductions) if r == 2**n}
        levels = levels or list(places) or LEVELS
        check_levels(name, levels, places)
        chosen = [level for level in places if level in levels]
        options: dict[str, Any] = {} if in_channels == 3 else {"in_chans": in_channels}
        if output_stride < 32:
            options["output_stride"] = output_stride
        body = _network(timm, name, features_only=True, out_indices=[places[level] for level in chosen], **options)
        if max(body.feature_info.reduction()) > output_stride:
            raise VisionTasksError(f"timm cannot dilate {name} to an output stride of {output_stride}. {DILATED}")
        super().__init__(dict(zip(chosen, body.feature_info.channels(), strict=True)))
        self._name = name
        self.body = _with_norm(timm, body, norm, norm_eps)
        self._channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
        # Levels up to the last one wanted, with the name of the module that ends each.
        self._ends = [(level, reductions[i][1]) for level, i in places.items() if i <= places[chosen[-1]]]
        own = self.state_dict().keys()
        self._names = {weight: mine for weight in whole.state_dict() if (mine := _own_name(weight, own)) is not None}
        self.left_out = tuple(weight for weight in whole.state_dict() if weight not in self._names)
        self.in_channels = in_channels
        shapes = {
            self._names[weight]: value.shape for weight, value in whole.state_dict().items() if weight in self._names
        }
        self._input_weights = frozenset(
            mine for mine, p in self.named_parameters() if shapes.get(mine, p.shape) != p.shape
        )
        for module in self._split()[1]:  # what a network keeps behind its last map would never get a gradient
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = dict(zip(self.channels, self.body(images), strict=True))
        return {level: m.permute(0, 3, 1, 2) for level, m in maps.items()} if self._channels_last else maps

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        """Which modules belong to which level; timm alone knows how to apply them."""
        return self._split()[0]

    def freeze(self, trainable_stages: int) -> None:
        if trainable_stages < 5 and not all(modules for _, modules in self.stages()):
            raise VisionTasksError(
                f"The stages of {self._name} cannot be told apart, so none can be frozen. Set trainable_stages to 5."
            )
        super().freeze(trainable_stages)

    def own_name(self, weight: str) -> str:
        return self._names.get(weight, weight)

    def _split(self) -> tuple[list[tuple[str, list[nn.Module]]], list[nn.Module]]:
        """Modules of each level, and those behind the last."""
        ends = [module.replace(".", "_") for _, module in self._ends]
        found: list[list[nn.Module]] = [[] for _ in range(len(ends) + 1)]
        at = 0

        def walk(module: nn.Module, name: str) -> None:
            nonlocal at
            if any(end.startswith(f"{name}_" if name else "") for end in ends[at:]):
                for child, inner in module.named_children():
                    walk(inner, f"{name}_{child}" if name else child)
                return
            found[at].append(module)
            if at < len(ends) and name == ends[at]:
                at += 1

        walk(self.body, "")
        return [(level, modules) for (level, _), modules in zip(self._ends, found, strict=False)], found[-1]


def _import_timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise VisionTasksError(
            f"The backbone {name} needs timm, which is not installed. Install it: pip install 'vision_tasks[timm]'."
        ) from error
    return timm


def _network(timm: Any, name: str, **options: Any) -> Any:
    """timm's network with random weights, whole unless options say otherwise."""
    known = name.removeprefix(TIMM)
    if not timm.is_model(known):
        close = difflib.get_close_matches(known, timm.list_models(), n=1)
        hint = f" Did you mean {TIMM + close[0]!r}?" if close else ""
        raise VisionTasksError(f"timm has no network {known!r}.{hint} timm.list_models() names them all.")
    settings = timm.get_pretrained_cfg(known)
    if settings is not None and settings.fixed_input_size:
        raise VisionTasksError(
            f"{name} takes images of one size only, {settings.input_size[1:]}, so it cannot be a detector's backbone. "
            "Choose a convolutional network."
        )
    try:
        return timm.create_model(known, pretrained=False, **options)
    except Exception as error:  # networks raise what they like, and all of it means the same
        told = f" with {options}" if "output_stride" in options else ""
        hint = f" {DILATED}" if told else ""
        raise VisionTasksError(
            f"timm cannot build {name} as a backbone{told} ({error}). Choose another network.{hint}"
        ) from error


def _with_norm(timm: Any, body: nn.Module, norm: str, eps: float | None) -> nn.Module:
    if norm not in NORMS:
        raise KeyError(norm)
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and eps is not None:
            module.eps = eps
    # timm's own, because some of its norms hold the activation, too.
    if norm == "frozen":
        return timm.layers.freeze_batch_norm_2d(body)  # type: ignore[no-any-return]
    return timm.layers.convert_sync_batchnorm(body) if norm == "sync" else body


def _own_name(weight: str, own: Iterable[str]) -> str | None:
    """Where a weight of the whole network is here: timm joins the first two parts of some names ("stages_0")."""
    return next((name for name in (f"body.{weight}", f"body.{weight.replace('.', '_', 1)}") if name in own), None)
