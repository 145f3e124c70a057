"""`vision-tasks data preview`: a page and a sheet that show what training sees."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.cli import main
from vision_tasks.cli.train import recipe
from vision_tasks.data.scenes import generate_scenes
from vision_tasks.models.multi_head import chosen_categories
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.training.loaders import data_module
from vision_tasks.training.splits import read_splits
from vision_tasks.visualize.preview import draw_pair

OPTIONS = ("model=panoptic_fpn", "model.backbone=resnet_narrow", "model.min_size=96", "model.max_size=128")
EVERYTHING = ("data.mosaic=0.5", "data.mosaic_tiles=9", "data.copy_paste=1", "data.augment=strong")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("with spaces é") / "scenes"
    generate_scenes(folder, train=6, val=2)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vision-tasks", "data", "preview", *map(str, arguments)])
    try:
        main.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.mark.slow
def test_the_page_shows_the_samples_of_the_training(scenes, tmp_path, monkeypatch, capsys):
    options = (f"data={scenes}", "data.semantic.layout=scenes", *OPTIONS, *EVERYTHING)
    page = tmp_path / "new" / "page.html"
    assert command(monkeypatch, *options, "--out", page, "--count", 8) == 0
    said = capsys.readouterr().out
    assert "8 samples" in said
    assert "vision-tasks train" in said
    text = page.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.S)
    assert len(captions) == 8
    assert "script" not in text.replace("script-src", "")
    # The same that the loaders of a training give, in their order.
    config = recipe(list(options))
    train, val = read_splits(config.data, ("objects", "semantic"), chosen_categories(config.model))
    module = data_module(config, train, val, Preprocess(min_size=96, max_size=128))
    batches = module.train_dataloader()
    targets = [target for batch in batches for target in batch.targets]
    for caption, target in zip(captions, targets, strict=False):
        crowds = int(target.is_crowd.sum())
        found = re.search(rf"image id {target.image_id}: .* → (\d+) objects?( and (\d+) crowd)?;", caption)
        assert found, caption
        assert (int(found[1]), int(found[3] or 0)) == (len(target.boxes) - crowds, crowds)
        assert f"→ {target.size[1]}×{target.size[0]} →" in caption
    with Image.open(page.with_suffix(".png")) as sheet:
        assert sheet.width > 1000
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000
    first = re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)
    with Image.open(io.BytesIO(base64.b64decode(first[1]))) as picture:
        assert picture.height == 480
    assert sorted(p.name for p in page.parent.iterdir()) == ["page.html", "page.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model=mask_rcnn",), "Of which data?"),
        (("data=nowhere", "model=mask_rcnn"), "nowhere"),
        (("data={scenes}", "model=mask_rcnn", "data.augment=strongest"), "did you mean"),
        (("data={scenes}", "model=ssd", "data.min_sizes=[300,400]"), "made for 300×300 pixels alone"),
        (("data={scenes}", "--out", "page.txt"), "ends with .html"),
    ],
)
def test_what_cannot_be_drawn_ends_with_two_and_leaves_nothing(scenes, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *(a.format(scenes=scenes) for a in arguments)) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_right_picture_has_the_shape_of_the_network():
    from vision_tasks.structures import Target

    image = np.zeros((50, 100, 3), np.uint8)
    picture = draw_pair((image, Target(1, (50, 100))), (image, Target(1, (50, 100))), (64, 64), height=200)
    assert picture.shape == (200, 400 + 8 + 200, 3)
