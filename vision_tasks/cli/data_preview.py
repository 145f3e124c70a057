"""`vision-tasks data preview`."""

from __future__ import annotations

import itertools
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.cli.console import console, say
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.config import Config
    from vision_tasks.data.dataset import DetectionDataset
    from vision_tasks.data.records import Records
    from vision_tasks.data.sampler import Request
    from vision_tasks.models.preprocess import Preprocess


def run(options: list[str], out: Path, count: int) -> None:
    """Draw the first samples of a training with this recipe, with its seed and its order, on a page and a sheet."""
    from vision_tasks.cli.train import recipe
    from vision_tasks.models.multi_head import chosen_categories
    from vision_tasks.models.registry import model_kinds
    from vision_tasks.training.loaders import check_augment, data_module
    from vision_tasks.training.splits import read_splits

    if out.suffix.lower() not in (".html", ".htm"):
        raise VisionTasksError(f"--out {out} is to be a page: give a name that ends with .html.")
    config = recipe(options)
    if config.data.path is None and config.data.train is None:
        raise VisionTasksError("Of which data? Give data=FOLDER, or a recipe that names it.")
    check_augment(config.data)
    kinds = model_kinds(config.model["name"], config.model)
    train, _ = read_splits(config.data, kinds, chosen_categories(config.model))
    preprocess = _preprocess(config, train)
    loader = data_module(config, train, None, preprocess).train_dataloader()
    dataset: Any = loader.dataset
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_bar(console()):
        shown = _draw(dataset, _requests(loader.batch_sampler, count), preprocess, out, count, _title(config))
    say(f"{shown} samples as {config.model['name']} sees them in training: {out}")
    say(f"All at a glance: {out.with_suffix('.png')}")
    say("Next:")
    say(f"  vision-tasks train {shlex.join(options)}")


def _title(config: Config) -> str:
    parts = [f"augment {config.data.augment}" if isinstance(config.data.augment, str) else "augment as listed"]
    tiles = f" of {config.data.mosaic_tiles}"
    for key, more in (("mosaic", tiles), ("copy_paste", ""), ("mixup", "")):
        share = getattr(config.data, key)
        if share:
            parts.append(f"{key.replace('_', '-')}{more} {share:g}")
    return ", ".join(parts)


def _preprocess(config: Config, train: Records) -> Preprocess:
    """Of the recipe's model, for which no weights are read."""
    from vision_tasks.training.building import model_for

    model = {key: value for key, value in config.model.items() if key not in ("weights", "backbone_weights")}
    return model_for(config.model_copy(update={"model": model}), train).preprocess


def _requests(sampler: Any, count: int) -> Iterator[Request]:
    """The first requests of a training, of as many epochs as it takes."""

    def all_of() -> Iterator[Request]:
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            for batch in sampler:
                yield from batch

    return itertools.islice(all_of(), count)


def _draw(
    dataset: DetectionDataset, requests: Iterator[Request], preprocess: Preprocess, out: Path, count: int, title: str
) -> int:
    """Write the page and the sheet; returns how many samples there are on them."""
    from vision_tasks.data.progress import counted
    from vision_tasks.visualize.contact_sheet import contact_sheet
    from vision_tasks.visualize.page import write_page
    from vision_tasks.visualize.picture import write_picture

    pictures, cells = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, request in enumerate(counted(requests, "drawing samples", count)):
            picture, caption = _one(dataset, request, preprocess)
            file = Path(folder) / f"{number:04}.jpg"
            write_picture(file, picture)
            pictures.append((file, caption))
            if number < _ON_SHEET:
                cells.append(picture)
        write_picture(out.with_suffix(".png"), contact_sheet(cells, columns=min(3, len(cells)), cell=560))
        write_page(
            out,
            "What training sees",
            images=pictures,
            lead=f"{title}. Left: the image as it is in its file. Right: after augmentation, in the shape in which the "
            "network gets it, before pixels are normalised.",
            embed=True,
        )
    return len(pictures)


_ON_SHEET = 60
"""Samples that can be seen at a glance."""


def _one(dataset: DetectionDataset, request: Request, preprocess: Preprocess) -> tuple[Any, str]:
    """A sample drawn beside its image, and what is said below."""
    from vision_tasks.visualize.preview import count_words, draw_pair, size_words

    before, after = dataset.read(request.index), dataset[request]
    assert before.image is not None
    assert after.image is not None
    own = (after.image.shape[0], after.image.shape[1])
    network = after.size or preprocess.network_size(own, request.min_size)
    records = dataset.records
    maps = None if records.semantic is None else records.semantic.categories
    picture = draw_pair(
        (before.image, before.target),
        (after.image, after.target),
        network,
        records.categories if records.has_boxes else None,
        maps,
    )
    row = records.row_of_id.get(after.target.image_id, request.index)
    sizes = [size_words(before.image.shape), size_words(own), f"{size_words(network)} in the network"]
    caption = (
        f"{records.file_name(row)}, image id {after.target.image_id}: {count_words(before.target)} → "
        f"{count_words(after.target)}; {' → '.join(sizes)}"
    )
    return picture, caption
