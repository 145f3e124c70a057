"""Sizes of objects against what a model makes of images: its resize, its strides, its anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vision_tasks.data.doctor.anchors import SAMPLE, best_overlaps, kmeans_anchors, level_of, shape_iou
from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.doctor.network import Network as Network
from vision_tasks.data.records import Records

VANISHED = 2.0
"""Network pixels: an object whose shorter side has fewer is gone."""

SEEN = 8.0
"""Network pixels of the shorter side from which on an object is reasonably found: two cells of the finest level."""

_ENOUGH = 0.99 * SEEN  # sides of resized images are rounded down, and what is in them a little with them
_SHARE = 0.95  # of the objects should have that many
_EASY = 32.0  # network pixels that the shorter side keeps where a smaller input is advised: COCO's least medium object
_WORTH = 0.8  # of the input's side: a reduction by less is not worth a new training
_OVERLAP = 0.5
_SMALLEST = 320
_FACTORS = 2.0 ** np.arange(-3, 1.75, 0.25)


@dataclass(frozen=True, eq=False)
class Shown:
    """The N objects that can be measured, as a network is shown them.

    Attributes:
        index: (N,) int64 numbers of the annotations. rows: (N,) int64 of their images.
        own: (N, 4) float64 x, y, width, height in pixels of the image, clipped to it.
        image_sizes: (N, 2) int64 height and width of their images.
    """

    index: np.ndarray
    rows: np.ndarray
    own: np.ndarray
    image_sizes: np.ndarray

    @classmethod
    def of(cls, records: Records) -> Shown:
        """Usable objects that are no crowds, of images whose size is stated."""
        rows = np.repeat(np.arange(len(records)), np.diff(records.first))
        sizes = np.stack([records.heights, records.widths], 1).astype(np.int64)
        index = np.flatnonzero(records.usable & ~records.is_crowd & np.asarray((sizes > 0).all(1))[rows])
        rows = rows[index]
        boxes, limit = records.boxes[index], sizes[rows, ::-1]
        low, high = boxes[:, :2].clip(0, limit), (boxes[:, :2] + boxes[:, 2:]).clip(0, limit)
        good = (high > low).all(1)
        own = np.concatenate([low, high - low], 1)[good]
        return cls(index[good], rows[good], own, sizes[rows[good]])

    def __len__(self) -> int:
        return len(self.index)

    def boxes(self, network: Network) -> np.ndarray:
        """(N, 4) x, y, width, height in network pixels."""
        scale = (network.resized(self.image_sizes) / self.image_sizes)[:, ::-1]
        return np.asarray(self.own * np.concatenate([scale, scale], 1))

    def sample(self, seed: int = 0) -> Shown:
        """At most `anchors.SAMPLE` of them, always the same ones."""
        if len(self) <= SAMPLE:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), SAMPLE, replace=False))
        return self.chosen(chosen)

    def chosen(self, which: np.ndarray) -> Shown:
        """Some of them, by numbers or by (N,) bool."""
        return Shown(self.index[which], self.rows[which], self.own[which], self.image_sizes[which])


def check_sizes(records: Records, split: str, network: Network | None = None) -> tuple[list[Finding], dict[str, Any]]:
    """What a model can see of the objects, and the input size and anchors that would suit them.

    Args:
        records: of one split. split: its name. network: what the model does; None takes this project's Faster R-CNN.

    Returns:
        Findings, and advice as primitives for JSON: "network", "objects", "sides" (percentiles of the shorter side in
        network pixels), "levels", "input", "anchors", and "lines", the same in words. Empty without objects.
    """
    network = network or Network()
    shown = Shown.of(records)
    if not len(shown):
        return [], {}
    boxes = shown.boxes(network)
    findings = _vanishing(records, split, network, shown, boxes)
    meant = shown.chosen(~_slips(records, shown))
    if not len(meant):
        return findings, {}
    shown, boxes = meant, meant.boxes(network)
    short = boxes[:, 2:].min(1)
    sample = shown.sample()
    advice: dict[str, Any] = {
        "network": network.name,
        "objects": len(shown),
        "sides": {str(p): round(float(v), 1) for p, v in zip(_PERCENTS, np.percentile(short, _PERCENTS), strict=True)},
        "input": _input_advice(network, shown, short),
        "anchors": _anchor_advice(network, sample.boxes(network)),
    }
    advice["levels"] = _levels(network, sample.boxes(network))
    advice["lines"] = _lines(advice)
    return findings, advice


def _slips(records: Records, shown: Shown) -> np.ndarray:
    """(N,) bool: boxes of VOC that begin and end at the same pixel, which no model should be made for."""
    if not records.problems["voc_one_pixel"].count:
        return np.zeros(len(shown), bool)
    return np.asarray(shown.own[:, 2:].min(1) <= 1)


_PERCENTS = (1, 5, 50, 95, 99)


def _vanishing(records: Records, split: str, network: Network, shown: Shown, boxes: np.ndarray) -> list[Finding]:
    gone = np.flatnonzero(boxes[:, 2:].min(1) < VANISHED)
    if not len(gone):
        return []
    smallest = gone[np.argsort(boxes[gone, 2:].min(1), kind="stable")][:EXAMPLES]

    def example(i: int) -> Example:
        row, number = int(shown.rows[i]), int(shown.index[i])
        own, there = (f"{b[2]:.1f} × {b[3]:.1f}" for b in (shown.own[i], boxes[i]))
        detail = f"{own} pixels become {there}"
        ids = int(records.image_ids[row]), int(records.annotation_ids[number])
        return Example(records.file_name(row), *ids, detail, split, row)

    options = ", ".join(f"{k} {v}" for k, v in network.input.items()) or "no resize"
    detail = f"as {network.name} resizes images ({options})"
    return [Finding("object_vanishes", len(gone), len(shown), split, tuple(map(example, smallest)), detail)]


def _input_advice(network: Network, shown: Shown, short: np.ndarray) -> dict[str, Any]:
    """The least input size that shows 95 % of the objects with 8 pixels; not beyond what the images themselves hold.

    A smaller one than there is only where it leaves them 32.
    """
    now = float((short >= _ENOUGH).mean())
    out: dict[str, Any] = {"present": network.input, "seen": round(now, 4), "chosen": network.input}
    side = network.shorter_side
    if not side:
        return out
    low = max(float(np.percentile(short, 100 * (1 - _SHARE), method="lower")), 1e-9)
    most = max(side, int(np.median(shown.image_sizes.min(1))))
    factor = 1.0
    if low < _ENOUGH:
        factor = min(_ENOUGH / low, most / side)
    elif low * _WORTH > _EASY:
        factor = max(_EASY / low, min(side, _SMALLEST) / side)
    chosen = network.enlarged(factor) if factor > 1 or factor < _WORTH else network
    reached = float((shown.boxes(chosen)[:, 2:].min(1) >= _ENOUGH).mean())
    return out | {
        "chosen": chosen.input, "seen_chosen": round(reached, 4), "is_enough": reached >= _SHARE - 0.005,
        "is_smaller": chosen.shorter_side < side,
    }  # fmt: skip


def _anchor_advice(network: Network, boxes: np.ndarray) -> dict[str, Any]:
    """Recall of the anchors there are, of those that k-means gives, and of those that the model's option can give."""
    sizes = boxes[:, 2:]
    present = [np.array(level, float).reshape(-1, 2) for level in network.anchors or ()]
    count = sum(map(len, present)) or 9
    chosen = kmeans_anchors(sizes, count)
    levels = level_of(chosen, network.strides)
    by_level = [chosen[levels == i] for i in range(len(network.strides))]
    out = {"chosen": _fit(network, boxes, by_level) | {"anchors": chosen.round(1).tolist()}}
    if not present:
        return out
    out["present"] = _fit(network, boxes, present)
    if network.anchor_option:
        fits = [_fit(network, boxes, [level * f for level in present]) for f in _FACTORS]
        best = max(range(len(fits)), key=lambda i: (fits[i]["recall"], fits[i]["mean_iou"]))
        if fits[best]["recall"] < out["present"]["recall"] + 0.005:  # nothing worth a new training
            return out
        scaled = [round(s * float(_FACTORS[best])) for s in network.anchor_sizes]
        out["option"] = fits[best] | {"name": network.anchor_option, "value": scaled}
    return out


def _fit(network: Network, boxes: np.ndarray, anchors: list[np.ndarray]) -> dict[str, Any]:
    """recall: share of boxes with IoU 0.5 or more with an anchor where it stands. mean_iou: of the best ones there.
    shape_iou: the mean if anchors stood everywhere (what YOLO9000 calls average IoU)."""
    best, _ = best_overlaps(boxes, network.strides, anchors, network.place)
    shape = shape_iou(boxes[:, 2:], np.concatenate(anchors)).max(1)
    return {
        "count": sum(map(len, anchors)),
        "recall": round(float((best >= _OVERLAP).mean()), 4),
        "mean_iou": round(float(best.mean()), 4),
        "shape_iou": round(float(shape.mean()), 4),
    }


def _levels(network: Network, boxes: np.ndarray) -> dict[str, float]:
    """Share of the objects that each level is for: that of their best anchor, else the one whose cells suit."""
    if network.anchors is not None:
        anchors = [np.array(level, float).reshape(-1, 2) for level in network.anchors]
        level = best_overlaps(boxes, network.strides, anchors, network.place)[1]
    else:
        level = level_of(boxes[:, 2:], network.strides)
    share = np.bincount(level, minlength=len(network.strides)) / len(boxes)
    return {f"stride {s:g}": round(float(v), 4) for s, v in zip(network.strides, share, strict=True)}


def _lines(advice: dict[str, Any]) -> list[str]:
    """The advice as people read it."""
    sides, seen, anchors = advice["sides"], advice["input"], advice["anchors"]
    lines = [
        f"{advice['network']} sees the shorter side of objects with {sides['5']:g} to {sides['95']:g} pixels "
        f"(5 % to 95 %), {sides['50']:g} in the middle",
        "objects by level: " + ", ".join(f"{name} {share:.0%}" for name, share in advice["levels"].items()),
    ]
    if seen["present"]:
        lines.append(_input_line(seen))
    reached = {k: f"recall {a['recall']:.1%}, mean IoU {a['mean_iou']:.2f}" for k, a in anchors.items()}
    if "present" in anchors:
        lines.append(
            f"its {anchors['present']['count']} anchors reach {reached['present']} (IoU 0.5, where they stand)"
        )
        if "option" in anchors:
            value = str(anchors["option"]["value"]).replace(" ", "")
            lines.append(f"{anchors['option']['name']}={value} would reach {reached['option']}")
        sizes = ", ".join(f"{w:.0f}×{h:.0f}" for w, h in anchors["chosen"]["anchors"])
        lines.append(f"{anchors['chosen']['count']} anchors by k-means would reach {reached['chosen']}: {sizes}")
    return lines


def _input_line(seen: dict[str, Any]) -> str:
    def options(values: dict[str, Any]) -> str:
        return " ".join(f"model.{k}={str(v).replace(' ', '')}" for k, v in values.items())

    now = f"{seen['seen']:.1%} of objects have {SEEN:g} pixels or more"
    if seen["chosen"] == seen["present"]:
        end = (
            "suits"
            if seen["is_enough"]
            else "is all that the images hold: cut them into tiles (vision-tasks data tile)"
        )
        return f"input: {now}; {options(seen['present'])} {end}"
    if seen["is_smaller"]:
        return f"input: {now}; {options(seen['chosen'])} would be faster, and leave 95 % of them {_EASY:g}"
    end = "" if seen["is_enough"] else "; for more, cut images into tiles (vision-tasks data tile)"
    return f"input: {now}; with {options(seen['chosen'])} {seen['seen_chosen']:.1%} would{end}"
