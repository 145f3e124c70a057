"""Options of the data: what to read, and how batches are made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vision_tasks.config.base import FilePath, Strict
from vision_tasks.config.semantic import SemanticConfig


class Split(Strict):
    """Objects (an annotation file and the folder of its images), semantic maps, or both."""

    annotations: Annotated[
        FilePath | None, Field(description="COCO JSON file of the objects, or what another format has for it")
    ] = None
    format: Annotated[
        str | None, Field(description="of annotations: coco, voc, yolo, labelme, ...; found out if left out")
    ] = None
    part: Annotated[
        str | None, Field(description="what else tells the split: a list of images, or a split's name in annotations")
    ] = None
    shards: Annotated[
        str | None,
        Field(description="folder or URL (http, https) of WebDataset shards that convert wrote; not annotations"),
    ] = None
    shard_cache: Annotated[
        float, Field(gt=0, description="gigabytes that are kept on this machine of the shards of a URL")
    ] = 20.0
    patch: Annotated[FilePath | None, Field(description="what the doctor wrote with --fix; applied when reading")] = (
        None
    )
    images: Annotated[
        FilePath | None, Field(description="folder of the images; found by what it holds if left out")
    ] = None
    semantic: Annotated[SemanticConfig | None, Field(description="semantic maps, if not those of data.semantic")] = None
    ratio: Annotated[
        float,
        Field(
            gt=0, le=1000, allow_inf_nan=False,
            description="of several training splits: how often an epoch takes each image of this one; 0.25 every "
            "fourth epoch",
        ),
    ] = 1.0  # fmt: skip

    @model_validator(mode="after")
    def _holds_something(self) -> Split:
        if not any((self.annotations, self.semantic, self.patch, self.shards)):
            raise ValueError("give annotations (a COCO JSON file), semantic, or both")
        if self.annotations and self.shards:
            raise ValueError("annotations and shards are two sources of one split: give one, or a list of two splits")
        return self


_Side = Annotated[int, Field(ge=32, le=8192)]
_Factor = Annotated[float, Field(ge=0.01, le=100)]


class DataConfig(Strict):
    """What to read, and how batches are made of it."""

    path: Annotated[
        FilePath | None, Field(description="folder (or JSON file) in which train, val and test are found")
    ] = None
    train: Annotated[
        Split | list[Split] | None, Field(description="training split, or several that train together, instead of path")
    ] = None
    val: Annotated[Split | list[Split] | None, Field(description="validation split, or several, instead of path")] = (
        None
    )
    test: Annotated[
        Split | list[Split] | None,
        Field(description="test split, or several, instead of path; read by evaluate --split test alone"),
    ] = None
    semantic: Annotated[
        SemanticConfig | None, Field(description="semantic maps; a known layout in path is found without")
    ] = None
    check: Annotated[
        Literal["stop", "warn", "off"],
        BeforeValidator(lambda value: "off" if value is False else value),  # YAML's reading of off
        Field(description="stop before training if the doctor finds what would break it, warn only, or do not look"),
    ] = "stop"
    batch_size: Annotated[int, Field(ge=1, description="images per step and process")] = 4
    val_batch_size: Annotated[int | None, Field(ge=1, description="images per evaluation step; as batch_size")] = None
    workers: Annotated[int | None, Field(ge=0, description="loader processes; None chooses, 0 decodes in place")] = None
    augment: Annotated[
        str | list[str | dict[str, dict[str, Any] | None]],
        Field(
            description='"default", "none", "strong", "yolox", "ssd", "darknet", "lsj", or transforms by name, '
            "Albumentations' and our own, with their arguments"
        ),
    ] = "default"
    mosaic: Annotated[float, Field(ge=0, le=1, description="share of samples that are a mosaic of several images")] = (
        0.0
    )
    mosaic_tiles: Annotated[Literal[4, 9], Field(description="images that a mosaic is made of")] = 4
    mosaic_size: Annotated[
        _Side | tuple[_Side, _Side] | None,
        Field(description="side, or height and width, of a mosaic; None is the size the model resizes to"),
    ] = None
    mosaic_scale: Annotated[
        tuple[_Factor, _Factor], Field(description="smallest and largest factor by which a mosaic is scaled")
    ] = (0.1, 2.0)
    mixup: Annotated[float, Field(ge=0, le=1, description="share of samples into which another image is mixed")] = 0.0
    copy_paste: Annotated[
        float, Field(ge=0, le=1, description="share of samples into which objects of another image are pasted")
    ] = 0.0
    plain_epochs: Annotated[
        int, Field(ge=0, description="last epochs, without mosaic, copy-paste and mixup; YOLOX adds its L1 loss then")
    ] = 0
    crop: Annotated[
        _Side | tuple[_Side, _Side] | None,
        Field(description="side, or height and width, of random crops in training, in network pixels; None: no crops"),
    ] = None
    crop_scale: Annotated[
        tuple[_Factor, _Factor],
        Field(description="smallest and largest factor by which a crop is scaled, beside the model's own scale"),
    ] = (0.5, 2.0)
    crop_focus: Annotated[
        Literal["none", "foreground", "balanced"],
        Field(
            description='"foreground": crops hold a pixel of it if the image does; "balanced": one of a category drawn '
            "from the image's"
        ),
    ] = "none"
    crop_max_share: Annotated[
        float, Field(gt=0, le=1, description="of a crop's pixels that one category may fill, where there is a choice")
    ] = 1.0
    group_by_aspect_ratio: Annotated[bool, Field(description="upright and wide images in batches of their own")] = True
    min_sizes: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(description="shorter sides to choose from per batch (multi-scale training); empty: the model's"),
    ] = []
    sampling: Annotated[
        Literal["each", "repeat_factor", "class_balanced", "weights"],
        Field(
            description="how often an epoch takes each image: once; more often if it has a rare category; by drawing a "
            "category first; or as sampling_weights says"
        ),
    ] = "each"
    repeat_threshold: Annotated[
        float,
        Field(gt=0, le=1, description="of repeat_factor: categories that less than this share of images have repeat"),
    ] = 0.001
    sampling_weights: Annotated[
        FilePath | None, Field(description='of weights: JSON file {"file name": weight}; 1 for images it does not name')
    ] = None
    start_method: Annotated[
        Literal["fork", "spawn", "forkserver"] | None, Field(description="how workers start; None is Python's default")
    ] = None

    @field_validator("mosaic_scale", "crop_scale")
    @classmethod
    def _smallest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the smaller factor comes first")
        return value
