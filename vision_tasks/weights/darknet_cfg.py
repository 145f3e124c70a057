"""Darknet's `.cfg` text: sections, and how the layers they describe hang together.

The language is that of AlexeyAB's Darknet, a superset of the original's: `key=value` lines under `[kind]` headings, the
first of which describes the input. Layers are numbered from 0, the section after `[net]`, as in Darknet's own output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vision_tasks.errors import VisionTasksError

T = TypeVar("T")

IMAGE = -1
"""Source of a layer that reads the image."""

# Far above any published net, and checked before a layer takes memory.
_MOST_BYTES, _MOST_LAYERS, _MOST_CHANNELS, _MOST_WEIGHTS = 1_000_000, 2000, 65536, 2**30
MOST_WINDOW, MOST_SIDE = 256, 16384
"""Pixels: of a kernel, a stride or a padding, and of the input."""

# Switches that change what is computed, and that no layer here follows.
_UNSUPPORTED = {
    "convolutional": (
        *("xnor", "binary", "bin_output", "antialiasing", "share_index", "assisted_excitation", "flipped", "sway"),
        *("rotate", "stretch", "stretch_sway", "deform", "coordconv"),
    ),
    "maxpool": ("antialiasing", "maxpool_depth"),
    "upsample": ("reverse",),
    "route": ("stream",),
    "shortcut": (),
    "scale_channels": ("scale_wh",),
    "sam": (),
    "dropout": (),
    "avgpool": (),
    "yolo": (),
}
_KINDS = {"network": "net", "conv": "convolutional", "max": "maxpool", "avg": "avgpool"}


@dataclass(frozen=True)
class Section:
    """One `[kind]` of a `.cfg` and its options.

    Attributes:
        kind: without brackets. index: of the layer; -1 for `[net]`. line: where it begins, from 1.
        options: as written, without spaces; of a repeated key the first counts, as in Darknet.
    """

    kind: str
    index: int
    line: int
    options: dict[str, str] = field(default_factory=dict)

    def error(self, what: str) -> VisionTasksError:
        """An error that says where."""
        layer = "" if self.index < 0 else f", layer {self.index}"
        return VisionTasksError(f"Darknet cfg, line {self.line}: [{self.kind}]{layer}: {what}")

    def integer(self, key: str, default: int | None = None, least: int = 0, most: int | None = None) -> int:
        """A whole number of at least `least` and at most `most`."""
        value = self._read(key, default, int)
        if value < least:
            raise self.error(f"{key}={value} must be at least {least}.")
        if most is not None and value > most:
            raise self.error(f"{key}={value} must be at most {most}.")
        return value

    def window(self, key: str, default: int, least: int = 1) -> int:
        """Pixels of a kernel, a stride or a padding."""
        return self.integer(key, default, least, MOST_WINDOW)

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self._read(key, default, float)
        if not abs(value) < 1e30:
            raise self.error(f"{key}={value} is no finite number.")
        return value

    def text(self, key: str, default: str) -> str:
        """A word."""
        return self.options.get(key, default)

    def flag(self, key: str) -> bool:
        """Whether an option is there and not 0."""
        return self._read(key, 0.0, float) != 0

    def integers(self, key: str) -> list[int]:
        """Whole numbers with commas between them."""
        return self._read(key, None, lambda text: [int(word) for word in text.split(",") if word])

    def numbers(self, key: str) -> list[float]:
        """Numbers with commas between them."""
        return self._read(key, None, lambda text: [float(word) for word in text.split(",") if word])

    def _read(self, key: str, default: T | None, convert: Callable[[str], T]) -> T:
        if key not in self.options:
            if default is None:
                raise self.error(f"lacks {key}=.")
            return default
        try:
            return convert(self.options[key])
        except ValueError as error:
            raise self.error(f"{key}={self.options[key]!r} cannot be read ({error}).") from None


@dataclass(frozen=True)
class Layer:
    """A section and its place in the network.

    Attributes:
        sources: layers it reads, `IMAGE` among them. in_channels: of the first source. channels: of its own output.
        stride: pixels of the image per step of its map; 0 after a global pooling.
    """

    section: Section
    sources: tuple[int, ...]
    in_channels: int
    channels: int
    stride: int

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """Shape of a convolution's weight."""
        size = self.section.window("size", 1)
        return (self.channels, self.in_channels // self.section.integer("groups", 1, least=1), size, size)


def read_cfg(text: str) -> list[Section]:
    """Sections of a `.cfg`, `[net]` first.

    Raises:
        VisionTasksError: a line that is neither heading, `key=value` nor comment; nothing but comments; too many
            sections; a first section other than `[net]`.
    """
    sections: list[Section] = []
    for number, written in enumerate(text.splitlines(), start=1):
        line = "".join(written.split("#")[0].split(";")[0].split())
        if not line:
            continue
        if line.startswith("["):
            if not line.endswith("]") or len(line) < 3:
                raise VisionTasksError(f"Darknet cfg, line {number}: {written.strip()[:60]!r} is no [heading].")
            kind = line[1:-1]
            sections.append(Section(_KINDS.get(kind, kind), len(sections) - 1, number))
            if len(sections) > _MOST_LAYERS:
                raise VisionTasksError(f"Darknet cfg, line {number}: more than {_MOST_LAYERS} sections.")
            continue
        key, equals, value = line.partition("=")
        if not equals or not key or not sections:
            where = "stands before the first [heading]" if equals and key else "is neither [heading] nor key=value"
            raise VisionTasksError(f"Darknet cfg, line {number}: {written.strip()[:60]!r} {where}.")
        sections[-1].options.setdefault(key, value)
    if not sections or sections[0].kind != "net":
        found = f"begins with [{sections[0].kind}]" if sections else "has no sections"
        raise VisionTasksError(f"Darknet cfg: it {found}, but a network begins with [net]. Is it the right file?")
    return sections


def plan(sections: Sequence[Section]) -> list[Layer]:
    """Which layers read which, and how many channels and which stride each has.

    Raises:
        VisionTasksError: a layer or option that is not supported, a source that does not exist, sources that do not
            fit together, or a `yolo` layer that does not follow a convolution of its own.
    """
    channels = sections[0].integer("channels", 3, least=1, most=_MOST_CHANNELS)
    layers: list[Layer] = []
    weights = 0
    for section in sections[1:]:
        if section.kind not in _UNSUPPORTED:
            raise section.error(f"this layer is not supported. Supported are: {', '.join(_UNSUPPORTED)}.")
        for option in _UNSUPPORTED[section.kind]:
            if section.flag(option):
                raise section.error(f"{option}={section.options[option]} is not supported.")
        layers.append(_layer(section, layers, channels))
        if not 0 < layers[-1].channels <= _MOST_CHANNELS:
            raise section.error(f"has {layers[-1].channels} channels; the most is {_MOST_CHANNELS}.")
        if section.kind == "convolutional":
            weights += math.prod(layers[-1].kernel)
        if weights > _MOST_WEIGHTS:
            raise section.error(f"brings the network to {weights} weights; the most is {_MOST_WEIGHTS}.")
    _check_yolo(layers)
    return layers


def class_outputs(layers: Sequence[Layer]) -> int:
    """Classes that the yolo layers tell apart, the same number in all of them."""
    yolos = [layer.section for layer in layers if layer.section.kind == "yolo"]
    classes = [section.integer("classes", least=1) for section in yolos]
    if len(set(classes)) > 1:
        raise yolos[-1].error(f"the [yolo] layers have different numbers of classes: {classes}.")
    return classes[0]


def _layer(section: Section, layers: Sequence[Layer], image_channels: int) -> Layer:
    def shape(source: int) -> tuple[int, int]:
        return (image_channels, 1) if source == IMAGE else (layers[source].channels, layers[source].stride)

    before = section.index - 1
    sources: tuple[int, ...] = (before,)
    if section.kind == "route":
        sources = _sources(section, section.integers("layers"))
    elif section.kind in ("shortcut", "scale_channels", "sam"):
        sources = (before, *_sources(section, section.integers("from")))
    shapes = [shape(source) for source in sources]
    in_channels, stride = shapes[0]
    channels = in_channels
    if section.kind == "convolutional":
        channels = section.integer("filters", 1, least=1)
        stride *= _step(section)
        groups = section.integer("groups", 1, least=1)
        if in_channels % groups or channels % groups:
            raise section.error(f"groups={groups} divides {in_channels} to {channels} channels with a remainder.")
    elif section.kind == "maxpool":
        stride *= _step(section)
    elif section.kind == "avgpool":
        stride = 0
    elif section.kind == "upsample":
        factor = section.window("stride", 2)
        if section.number("scale", 1) != 1:
            raise section.error("scale= other than 1 is not supported.")
        if stride % factor:
            raise section.error(f"stride={factor} leaves a map of stride {stride} finer than the image.")
        stride //= factor
    elif section.kind == "route":
        groups = section.integer("groups", 1, least=1)
        part = section.integer("group_id", 0)
        if part >= groups or any(c % groups for c, _ in shapes):
            raise section.error(f"groups={groups}, group_id={part} does not divide {[c for c, _ in shapes]} channels.")
        channels = sum(c // groups for c, _ in shapes)
        _equal(section, "strides", [s for _, s in shapes])
    elif section.kind == "shortcut":
        if section.text("weights_type", "none") != "none":
            raise section.error("weights_type= (weighted shortcuts) is not supported.")
        _equal(section, "strides", [s for _, s in shapes])
        _equal(section, "channels", [c for c, _ in shapes])
    elif section.kind in ("scale_channels", "sam"):  # the first source scales the second
        _equal(section, "channels", [c for c, _ in shapes])
        if section.kind == "scale_channels" and stride != 0:
            raise section.error("must read one value per channel, as after an [avgpool].")
        if section.kind == "sam":
            _equal(section, "strides", [s for _, s in shapes])
        stride = shapes[1][1]
    return Layer(section, sources, in_channels, channels, stride)


def _step(section: Section) -> int:
    stride = section.window("stride", 1)
    if any(section.integer(key, stride) != stride for key in ("stride_x", "stride_y")):
        raise section.error("stride_x or stride_y other than stride is not supported.")
    return stride


def _sources(section: Section, numbers: list[int]) -> tuple[int, ...]:
    """Absolute layer numbers; negative ones count back from this layer."""
    absolute = tuple(n if n >= 0 else section.index + n for n in numbers)
    for written, source in zip(numbers, absolute, strict=True):
        if not 0 <= source < section.index:
            raise section.error(f"reads layer {written}, but only layers 0 to {section.index - 1} are before it.")
    if not absolute:
        raise section.error("names no layers to read.")
    return absolute


def _equal(section: Section, what: str, values: list[int]) -> None:
    if len(set(values)) > 1:
        raise section.error(f"its sources have different {what}: {values}.")


def _check_yolo(layers: Sequence[Layer]) -> None:
    """Every yolo layer has a plain convolution before it that nobody else reads: together they are the head."""
    readers: dict[int, list[Layer]] = {}
    for layer in layers:
        for source in layer.sources:
            readers.setdefault(source, []).append(layer)
    yolos = [layer for layer in layers if layer.section.kind == "yolo"]
    if not yolos:
        raise VisionTasksError("Darknet cfg: there is no [yolo] layer, so the network detects nothing.")
    for layer in yolos:
        section, source = layer.section, layer.sources[0]
        if section.index in readers:
            raise readers[section.index][0].section.error(f"reads the [yolo] layer {section.index}.")
        before = layers[source] if source != IMAGE else None
        if before is None or before.section.kind != "convolutional" or len(readers[source]) > 1:
            raise section.error("must follow a [convolutional] that no other layer reads.")
        if layer.stride == 0:
            raise section.error("must read a map, but behind an [avgpool] there is none.")
        outputs = len(section.integers("mask")) * (5 + section.integer("classes", least=1))
        if before.channels != outputs:
            raise before.section.error(
                f"filters={before.channels}, but the [yolo] layer after it wants anchors × (5 + classes) = {outputs}."
            )
        activation = "logistic" if section.flag("new_coords") else "linear"
        if before.section.text("activation", "logistic") != activation or before.section.flag("batch_normalize"):
            raise before.section.error(f"must have activation={activation} and no batch_normalize before [yolo].")


def text_of(cfg: str | Path) -> str:
    """The text of a cfg: what `cfg` itself is if it has a line break, or else the content of the file it names.

    Raises:
        VisionTasksError: nothing given; no such file; no text.
    """
    if "\n" in str(cfg):
        return str(cfg)
    if not str(cfg):
        raise VisionTasksError("A darknet model needs a cfg. Give cfg=, the path of a .cfg file.")
    path = Path(cfg).expanduser()
    if not path.is_file():
        raise VisionTasksError(f"There is no Darknet cfg {path}. Check the path.")
    if path.stat().st_size > _MOST_BYTES:
        raise VisionTasksError(
            f"{path} has {path.stat().st_size} bytes, too many for a Darknet cfg. Is it the weights?"
        )
    try:
        return path.read_text(encoding="utf-8-sig") + "\n"
    except UnicodeDecodeError as error:
        raise VisionTasksError(f"{path} is no text ({error.reason}). Give the .cfg, not the weights.") from error
