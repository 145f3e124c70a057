"""From the data section of a recipe to loaders with their augmentation."""

from __future__ import annotations

from vision_tasks.config import Config, DataConfig
from vision_tasks.data.copy_paste import CopyPaste
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import Combination, InOrder, Transform
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_crop import SemanticCrop, background_of
from vision_tasks.data.shards import ShardImages
from vision_tasks.data.transforms import Transforms
from vision_tasks.data.weighting import Rates, class_balanced_rates, file_rates, part_rates, repeat_factor_rates
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import Preprocess


def data_module(
    config: Config, train: Records | None, val: Records | None, preprocess: Preprocess | None = None
) -> DataModule:
    """Loaders as the recipe says; where it does not say how large mosaics are, the model's `preprocess` does."""
    return DataModule(
        train,
        val,
        batch_size=config.data.batch_size,
        val_batch_size=config.data.val_batch_size,
        transforms=transforms_of(config.data, train, preprocess) if train is not None else None,
        combinations=combinations_of(config.data, preprocess, train) if train is not None else (),
        plain_epochs=config.data.plain_epochs,
        min_sizes=min_sizes_of(config.data, preprocess),
        group_by_aspect_ratio=config.data.group_by_aspect_ratio and config.data.crop is None,
        workers=config.data.workers,
        seed=config.train.seed,
        multiprocessing_context=config.data.start_method,
        channels=3 if preprocess is None else len(preprocess.mean),
        passes=None if train is None else passes_of(config.data, train),
    )


def passes_of(config: DataConfig, train: Records) -> Rates | None:
    """How often an epoch takes which image; None if each comes once, or by the ratio of its data set alone.

    Raises:
        VisionTasksError: the weights cannot be used, or options do not fit together.
    """
    if config.sampling_weights is not None and config.sampling != "weights":
        raise VisionTasksError("data.sampling_weights is given, but not used: set data.sampling=weights.")
    if config.sampling == "each":
        return None
    if config.sampling != "weights" and not train.has_boxes:
        raise VisionTasksError(f"data.sampling={config.sampling} looks at objects, but the training data have none.")
    if config.sampling == "repeat_factor":
        rates = repeat_factor_rates(train, config.repeat_threshold)
    elif config.sampling == "class_balanced":
        rates = class_balanced_rates(train)
    else:
        if config.sampling_weights is None:
            raise VisionTasksError("data.sampling=weights needs data.sampling_weights=FILE.json.")
        rates = file_rates(train, config.sampling_weights)
    return Rates(rates * part_rates(train))


def check_augment(config: DataConfig) -> None:
    """Find mistakes in the recipe's augmentation before large data are read.

    Raises:
        VisionTasksError: unknown names or arguments.
    """
    Transforms(config.augment)


def transforms_of(config: DataConfig, train: Records, preprocess: Preprocess | None = None) -> Transform:
    """Augmentation of single images: the crop first, as what follows is then done to fewer pixels.

    Raises:
        VisionTasksError: the recipe has crops, and there is no model to tell at which scale it sees images.
    """
    augment = Transforms(config.augment, 3 if preprocess is None else len(preprocess.mean))
    if config.crop is None:
        if not config.mosaic:
            augment.check_sizes(train.widths, train.heights)
        return augment
    if preprocess is None:
        raise VisionTasksError("data.crop is in network pixels: give data_module the model's preprocess.")
    colour = preprocess.mean if preprocess.pad_value is None else (preprocess.pad_value,)
    source = train.semantic
    crop = SemanticCrop(
        size=config.crop if isinstance(config.crop, tuple) else (config.crop, config.crop),
        network_size=preprocess.network_size,
        scale=config.crop_scale,
        focus=config.crop_focus,
        fill=colour[::-1] if preprocess.channel_order == "bgr" else colour,
        background=None if source is None else background_of(source.categories, source.multi_label),
        max_share=config.crop_max_share,
    )
    return InOrder((crop, augment))


def combinations_of(
    config: DataConfig, preprocess: Preprocess | None = None, train: Records | None = None
) -> list[Combination]:
    """Mosaic, copy-paste and mixup, as far as the recipe has them, in this order.

    Raises:
        VisionTasksError: neither the recipe nor the model has a size for mosaics, or there are no masks to paste.
    """
    chosen: list[Combination] = []
    remote = train is not None and isinstance(train.archive, ShardImages) and train.archive.is_remote
    if remote and (config.mosaic or config.copy_paste or config.mixup or config.sampling != "each"):
        raise VisionTasksError(
            "data.mosaic, copy_paste, mixup and sampling take images from anywhere in the data, but shards of a URL "
            "are fetched one after another. Copy the shards to a folder, or leave these out."
        )
    if config.mosaic:
        size = config.mosaic_size
        if size is None:
            if preprocess is None or preprocess.resize == "none":
                raise VisionTasksError("data.mosaic_size must be given: the model does not resize images to any size.")
            size = preprocess.size or preprocess.min_size
        sides = size if isinstance(size, tuple) else (size, size)
        chosen.append(Mosaic(config.mosaic, sides, config.mosaic_scale, tiles=config.mosaic_tiles))
    if config.copy_paste:
        if train is not None and not train.has_shapes:
            raise VisionTasksError(
                f"data.copy_paste pastes objects along their masks, but nobody drew any in {train.source}. "
                "Set data.copy_paste=0; data.mosaic and data.mixup do with boxes."
            )
        chosen.append(CopyPaste(config.copy_paste))
    if config.mixup:
        chosen.append(MixUp(config.mixup))
    return chosen


def min_sizes_of(config: DataConfig, preprocess: Preprocess | None = None) -> list[int]:
    """Shorter sides to choose from per batch; models of a letterbox take them in whole strides.

    Raises:
        VisionTasksError: the model is made for one size alone.
    """
    if config.min_sizes and preprocess is not None and preprocess.resize == "stretch" and preprocess.stride == 1:
        height, width = preprocess.size or (0, 0)
        raise VisionTasksError(
            f"data.min_sizes has several sizes, but this model's default boxes are made for {height}×{width} pixels "
            "alone. Set data.min_sizes=[]; data.augment=ssd or lsj varies the scale of objects."
        )
    return config.min_sizes
