"""From recipes to records with maps: what is found by itself, what is named, what is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from vision_tasks.config import DataConfig, SemanticConfig, Split
from vision_tasks.config.recipe import load_config, to_yaml
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.formats.semantic_layouts import LAYOUTS
from vision_tasks.data.records import Records
from vision_tasks.data.scenes import SEMANTIC, generate_scenes
from vision_tasks.errors import VisionTasksError
from vision_tasks.training.splits import read_splits

SIZE = (64, 80)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp("semantic") / "scenes", train=4, val=2, sizes=(SIZE,))


def semantic_map(records: Records, row: int) -> np.ndarray:
    assert records.semantic is not None
    found = records.semantic.read(row, SIZE)
    assert found is not None
    return found


def test_scenes_are_found_by_what_the_folder_holds(scenes: Path) -> None:
    train, val = read_splits(DataConfig(path=scenes), ("semantic",))
    assert val is not None
    assert (len(train), len(val), train.has_boxes) == (4, 2, False)
    assert train.categories.names == tuple(sorted(SEMANTIC, key=lambda n: SEMANTIC[n]))
    for row in range(4):
        stem = Path(train.file_name(row)).stem
        truth = np.asarray(Image.open(scenes / f"semantic/train/{stem}.png")).astype(int)
        assert (semantic_map(train, row) == np.where(truth == 255, -1, truth)).all()


def test_objects_and_maps_of_one_folder_come_together(scenes: Path) -> None:
    train, _ = read_splits(DataConfig(path=scenes), ("objects", "semantic"))
    alone, _ = read_splits(DataConfig(path=scenes), ("semantic",))
    assert train.has_boxes
    assert len(train.categories) == 5
    for row in range(4):
        other = alone.row_of_id[int(train.image_ids[row])]
        assert (semantic_map(train, row) == semantic_map(alone, other)).all()


def test_a_model_of_objects_reads_no_maps(scenes: Path) -> None:
    train, _ = read_splits(DataConfig(path=scenes))
    assert train.semantic is None
    assert train.has_boxes


def test_objects_are_drawn_where_there_are_no_maps(scenes: Path) -> None:
    split = Split(annotations=scenes / "annotations/instances_train.json", images=scenes / "images/train")
    train, val = read_splits(DataConfig(train=split), ("semantic",))
    assert val is None
    assert not train.has_boxes
    assert train.categories.names[0] == "background"
    truth = np.asarray(Image.open(scenes / f"semantic/train/{Path(train.file_name(0)).stem}.png"))
    things = (truth > 0) & (truth < 6)
    found = semantic_map(train, 0)
    assert things[found > 0].all()
    assert (found[found > 0] == truth[found > 0]).all()


def test_a_split_of_its_own_and_one_for_all(scenes: Path) -> None:
    named = {"images": "images/{split}/{stem}.jpg", "masks": "semantic/{split}/{stem}.png",
             "categories": "semantic/categories.json"}  # fmt: skip
    own = DataConfig.model_validate({"path": scenes, "semantic": named})
    train, val = read_splits(own, ("semantic",))
    assert val is not None
    assert (len(train), len(val)) == (4, 2)
    swapped = {"semantic": {**named, "path": scenes, "splits": {"train": "val"}}}
    train, val = read_splits(DataConfig.model_validate({"train": swapped}), ("semantic",))
    assert (len(train), val) == (2, None)


def test_judging_by_training_images_is_said(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    named = {"images": "images/train/{stem}.jpg", "masks": "semantic/train/{stem}.png",
             "categories": "semantic/categories.json"}  # fmt: skip
    read_splits(DataConfig.model_validate({"path": scenes}), ("semantic",))
    assert "training images, too" not in caplog.text
    read_splits(DataConfig.model_validate({"path": scenes, "semantic": named}), ("semantic",))
    assert "4 of the 4 validation images are training images, too, such as " in caplog.text


def test_one_category_and_warnings_are_worded_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder, stems in (("images", "ab"), ("masks", "a")):
        (tmp_path / folder / "train").mkdir(parents=True)
        for stem in stems:
            Image.new("L", (8, 8), 1).save(tmp_path / folder / f"train/{stem}.png")
    (tmp_path / "masks/categories.json").write_text('["cell"]')
    with caplog.at_level(logging.INFO, "vision_tasks"):
        assert read_splits(DataConfig(path=tmp_path), ("semantic",))[1] is None
    said = [r.getMessage() for r in caplog.records]
    assert any("1 semantic map of 1 category (cell" in text for text in said)
    assert any(text.startswith("1 × images have no semantic mask") for text in said)


def test_what_nobody_annotated_is_said(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    categories = [{"id": i, "name": n} for n, i in SEMANTIC.items()] + [{"id": 40, "name": "moon"}]
    config = {"path": scenes, "semantic": {"layout": "scenes", "categories": categories, "ignore": [255]}}
    with caplog.at_level(logging.INFO, "vision_tasks"):
        read_splits(DataConfig.model_validate(config), ("semantic",))
    said = [r.getMessage() for r in caplog.records if "nobody annotated" in r.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("moon.")
    assert any("4 semantic maps of 9 categories (ground" in r.getMessage() for r in caplog.records)


def test_a_value_without_category_stops_training(scenes: Path) -> None:
    config = {"path": scenes, "semantic": {"layout": "scenes", "categories": ["ground", "ball", "crate"]}}
    with pytest.raises(VisionTasksError, match=r"semantic/train/.*in no category .* Add (it|them) to the semantic"):
        read_splits(DataConfig.model_validate(config), ("semantic",))


def test_nothing_found_lists_what_is_there_and_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(VisionTasksError, match=r"photos/(.|\n)*data\.semantic\.masks") as raised:
        read_splits(DataConfig(path=tmp_path), ("semantic",))
    assert "data.semantic.categories" in str(raised.value)


def test_panoptic_files_alone_give_objects_of_their_things(tmp_path: Path) -> None:
    (tmp_path / "annotations/panoptic_train").mkdir(parents=True)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "train/1.jpg")
    ids = np.zeros((6, 8, 3), np.uint8)
    ids[..., 0] = 5  # grass
    ids[1:4, 2:7, 0] = 9  # a sheep
    Image.fromarray(ids).save(tmp_path / "annotations/panoptic_train/1.png")
    segments = [{"id": 5, "category_id": 2, "area": 33, "bbox": [0, 0, 8, 6], "iscrowd": 0}]
    segments += [{"id": 9, "category_id": 1, "area": 15, "bbox": [2, 1, 5, 3], "iscrowd": 0}]
    file = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 6}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "sheep", "isthing": 1}, {"id": 2, "name": "grass", "isthing": 0}],
    }
    (tmp_path / "annotations/panoptic_train.json").write_text(json.dumps(file))
    train, _ = read_splits(DataConfig(path=tmp_path), ("objects", "semantic"))
    assert train.categories.names == ("sheep",)
    assert train.target(0).boxes.tolist() == [[2, 1, 7, 4]]
    assert train.semantic is not None
    assert train.semantic.categories.names == ("sheep", "grass")
    assert (train.semantic.read(0, (6, 8)) == np.where(ids[..., 0] == 9, 0, 1)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_can_be_named_in_a_recipe(layout: str) -> None:
    assert SemanticConfig.model_validate({"layout": layout}).files() == semantic_files(layout)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layout": "camvid", "masks": "labels/{split}/{stem}.png"}, {"masks": "labels/{split}/{stem}.png"}),
        ({"layout": "voc", "ignore": [255], "splits": {"train": "a.txt"}}, {"ignore": [255]}),
        ({"layout": "coco_stuff", "background": "rest"}, {"background": "rest"}),
        ({"annotations": "a_{split}.json", "background": False}, {"background": None}),
        ({"layout": "scenes", "panoptic": "p_{split}.json"}, {"masks": None, "panoptic": "p_{split}.json"}),
        # What an option is without a layout replaces the layout's setting, too.
        ({"layout": "ade20k"}, {"first_value": 1, "splits": {"train": "training", "val": "validation"}}),
        ({"layout": "ade20k", "first_value": 0}, {"first_value": 0}),
        ({"layout": "nuclei", "splits": {}}, {"splits": {}}),
        ({"layout": "coco_stuff"}, {"background": None}),
        ({"layout": "coco_stuff", "background": True}, {"background": "background"}),
    ],
)
def test_options_replace_a_layouts_settings(options: dict[str, Any], expected: dict[str, Any]) -> None:
    config = SemanticConfig.model_validate(options)
    written = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    for files in (config.files(), SemanticConfig.model_validate(written).files()):
        assert {key: getattr(files, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing tells where the maps are"),
        ({"images": "a/{stem}.png", "masks": "b/{stem}.png", "annotations": "c.json"}, "both tell"),
        ({"layout": "city"}, "layout"),
        ({"layout": "voc", "mask": "x"}, "mask"),
        ({"layout": "voc", "splits": {"train": 1.5}}, "splits"),
        ({"layout": "voc", "categories": [{"name": "a"}]}, "a category needs an id, its value in the masks, or a c"),
        ({"layout": "voc", "categories": [{"id": 1}]}, "a category needs a name"),
        ({"layout": "voc", "categories": ["a", {"nam": "a"}]}, "a category has no nam; it has id, name, color"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SemanticConfig.model_validate(options)


def test_a_mistake_in_a_category_is_one_line(scenes: Path) -> None:
    given = "[a, {name: b, color: [300, 0, 0]}, {id: 3, name: c, colour: 1}]"
    with pytest.raises(VisionTasksError) as raised:
        load_config(None, [f"data={scenes}", "data.semantic.layout=scenes", f"data.semantic.categories={given}"])
    lines = str(raised.value).splitlines()[1:]
    assert len(lines) == 2
    assert lines[0].strip().startswith("data.semantic.categories.1.color.0: input should be less than")
    assert "data.semantic.categories.2: value error, a category has no colour" in lines[1]


def test_a_written_recipe_reads_as_it_was(tmp_path: Path, scenes: Path) -> None:
    recipe = {
        "model": {"name": "unet"},
        "data": {
            "path": str(scenes),
            "semantic": {
                "layout": "camvid",
                "categories": [{"name": "a", "color": [1, 2, 3]}, {"id": 4, "name": "b"}],
            },
        },
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(recipe))
    config = load_config(tmp_path / "a.yaml", [])
    (tmp_path / "b.yaml").write_text(to_yaml(config))
    again = load_config(tmp_path / "b.yaml", [])
    assert config.data.semantic is not None
    assert again.data.semantic is not None
    assert again.data.semantic.files() == config.data.semantic.files()
    assert config.data.semantic.files().images == "{split}/{stem}.png"


def test_camvid_by_its_folder_alone(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vision_tasks"):
        train, val = read_splits(DataConfig(path=real_data / "camvid"), ("semantic",))
    assert val is not None
    assert (len(train), len(val), len(train.categories)) == (92, 21, 11)
    assert not caplog.records


@pytest.mark.slow
def test_nuclei_by_their_folder_alone(real_data: Path) -> None:
    train, val = read_splits(DataConfig(path=real_data / "dsb2018_nuclei"), ("semantic",))
    assert val is not None
    assert train.semantic is not None
    assert train.semantic.multi_label
    assert (len(train), len(val)) == (27, 7)
