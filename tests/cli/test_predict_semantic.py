"""`vision-tasks predict` with models that draw maps: masks, panoptic files, lines, and errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

import vision_tasks as vt
from tests.tiny_model import tiny_model
from vision_tasks.cli import main
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.files import folder_names
from vision_tasks.inference.outputs.label_png import mask_type
from vision_tasks.inference.outputs.registry import open_outputs
from vision_tasks.inference.outputs.result import Result as Found
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories, Panoptic, Prediction

ROAD = [
    {"id": 7, "name": "road", "isthing": 0},
    {"id": 21, "name": "tree/bush", "isthing": 0},
    {"id": 200, "name": "sky", "isthing": 0},
]


@torch.no_grad()
def semantic_model(categories: list, **options: object) -> VisionModel:
    """Random weights that show every category somewhere."""
    torch.manual_seed(0)
    model = vt.create_model("unet", categories, backbone="resnet_narrow", widths=(32, 24, 16, 16, 8), **options).eval()
    images = torch.from_numpy(np.stack([picture(32, 48, i) for i in range(4)])).permute(0, 3, 1, 2)
    images = images[:, [0, 1, 2, 0][: int(options.get("in_channels", 3))]]
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
    seen = model.preprocess(list(images)).images
    model.train().features(seen)
    head = model.heads["semantic"]
    head.logits(model.features(seen), (32, 48))
    model.eval()
    logits = head.logits(model.features(seen), (32, 48))
    (bias,) = [p for n, p in head.decoder.named_parameters() if n.endswith("bias") and len(p) == logits.shape[1]][-1:]
    bias -= logits.mean(dim=(0, 2, 3))
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def make_images(folder: Path, *names: str) -> list[Path]:
    paths = []
    for i, name in enumerate(names):
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(50 + 9 * i, 70, i)).save(paths[-1])
    return paths


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs `vision-tasks predict ARGUMENTS` in this process through its real entry point."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vision-tasks", "predict", *map(str, arguments), "--device", "cpu"])
        capfd.readouterr()
        try:
            main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            code = 0
        text = capfd.readouterr()
        return Result(code, text.out, text.err)

    return run


def saved(model: VisionModel, folder: Path) -> tuple[Path, vt.Predictor]:
    return vt.save(model, folder / "best.ckpt"), vt.Predictor(model, device="cpu")


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_masks_hold_the_ids_of_categories(predict, tmp_path: Path) -> None:
    checkpoint, ask = saved(semantic_model(ROAD), tmp_path)
    paths = make_images(tmp_path / "photos", "a.png", "b.jpg", "deep/a.png")
    out = tmp_path / "out"
    done = predict(checkpoint, tmp_path / "photos", "--out", out)
    assert done.code == 0, done.err
    assert f"3 images: {out}" in done.out
    assert "objects" not in done.out
    assert "Nothing scored" not in done.out
    assert "Written: predictions.jsonl, masks/*.png (values are category ids), drawn images (*.jpg)." in done.out
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "a-2.jpg", "a.jpg", "b.jpg", "masks/a-2.png", "masks/a.png", "masks/b.png", "predictions.jsonl"
    ]  # fmt: skip
    seen = set()
    for path, name, line in zip(paths, ("a", "b", "a-2"), lines_of(out), strict=True):
        found = ask(path).semantic
        assert found is not None
        mask = Image.open(out / "masks" / f"{name}.png")
        assert mask.mode == "P"
        values = np.array(mask)
        assert np.array_equal(values, np.array([7, 21, 200])[found.numpy()])
        seen |= set(np.unique(values).tolist())
        assert line["file"] == str(path)
        assert "objects" not in line
        shares = {n: float((found == i).float().mean()) for i, n in enumerate(("road", "tree/bush", "sky"))}
        assert line["pixels"] == pytest.approx({n: s for n, s in shares.items() if s}, abs=1e-5)
        assert list(line["pixels"].values()) == sorted(line["pixels"].values(), reverse=True)
    assert seen == {7, 21, 200}


def test_large_ids_take_sixteen_bits(predict, tmp_path: Path) -> None:
    model = semantic_model([{"id": i, "name": f"kind {i}"} for i in (0, 255, 40_000)])
    checkpoint, ask = saved(model, tmp_path)
    (path,) = make_images(tmp_path, "a.png")
    assert predict(checkpoint, path, "--out", tmp_path / "out", "--no-draw").code == 0
    mask = Image.open(tmp_path / "out" / "masks" / "a.png")
    assert mask.mode.startswith("I")
    found = ask(path).semantic
    assert found is not None
    assert np.array_equal(np.array(mask), np.array([0, 255, 40_000])[found.numpy()])


def test_several_categories_a_pixel(predict, tmp_path: Path) -> None:
    checkpoint, ask = saved(semantic_model(ROAD, multi_label=True), tmp_path)
    (path,) = make_images(tmp_path, "a.png")
    out = tmp_path / "out"
    done = predict(checkpoint, path, "--out", out, "--flip")
    assert done.code == 0, done.err
    assert "masks/CATEGORY/*.png (255 where it is)" in done.out
    found = vt.Predictor(ask.model, device="cpu", flip=True)(path).semantic
    assert found is not None
    for layer, folder in zip(found, ("road", "tree_bush", "sky"), strict=True):
        values = np.array(Image.open(out / "masks" / folder / "a.png"))
        assert np.array_equal(values, layer.numpy() * 255)
    (line,) = lines_of(out)
    assert line["pixels"]["sky"] == pytest.approx(float(found[2].float().mean()), abs=1e-5)


def test_coco_regions_of_a_model_without_objects(predict, tmp_path: Path) -> None:
    checkpoint, ask = saved(semantic_model(ROAD), tmp_path)
    (path,) = make_images(tmp_path, "a.png")
    done = predict(checkpoint, path, "--out", tmp_path / "out", "--format", "coco", "--no-draw")
    assert done.code == 0, done.err
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    found = ask(path).semantic
    assert found is not None
    assert [c["id"] for c in written["categories"]] == [7, 21, 200]
    assert {a["category_id"] for a in written["annotations"]} == {[7, 21, 200][i] for i in found.unique().tolist()}
    for annotation in written["annotations"]:
        expected = (found == [7, 21, 200].index(annotation["category_id"])).numpy()
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]), expected)
        assert annotation["area"] == expected.sum()
        rows, columns = np.flatnonzero(expected.any(1)), np.flatnonzero(expected.any(0))
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_no_masks_if_none_are_wanted(predict, tmp_path: Path) -> None:
    checkpoint, _ = saved(semantic_model(ROAD), tmp_path)
    (path,) = make_images(tmp_path, "a.png")
    out = tmp_path / "out"
    done = predict(checkpoint, path, "--out", out, "--format", "none")
    assert [p.name for p in out.iterdir()] == ["a.jpg"]
    assert "Written: drawn images (*.jpg)." in done.out
    assert "Written: nothing." in predict(checkpoint, path, "--out", out, "--format", "none", "--no-draw").out


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_as_many_channels_as_the_model(channels: int, predict, tmp_path: Path) -> None:
    checkpoint, ask = saved(semantic_model(ROAD, in_channels=channels), tmp_path)
    pixels = np.concatenate((picture(50, 60), picture(50, 60, 1)[..., :1]), axis=2)[..., :channels]
    path = tmp_path / "a.png"
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    done = predict(checkpoint, path, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = ask(pixels).semantic
    assert found is not None
    values = np.array(Image.open(tmp_path / "out" / "masks" / "a.png"))
    assert np.array_equal(values, np.array([7, 21, 200])[found.numpy()])
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_looks_from_the_command_line(predict, tmp_path: Path) -> None:
    model = semantic_model(ROAD)
    checkpoint, plain = saved(model, tmp_path)
    path = tmp_path / "large.png"
    Image.fromarray(picture(120, 100)).save(path)
    options = ("--tile", 64, "--overlap", 16, "--flip", "--scales", "0.75,1")
    done = predict(checkpoint, path, "--out", tmp_path / "out", "--no-draw", *options)
    assert done.code == 0, done.err
    looks = vt.Predictor(model, device="cpu", tile=64, overlap=16, flip=True, scales=(0.75, 1))
    expected = looks(path).semantic
    once = plain(path).semantic
    assert expected is not None
    assert once is not None
    assert not torch.equal(expected, once)
    values = np.array(Image.open(tmp_path / "out" / "masks" / "large.png"))
    assert np.array_equal(values, np.array([7, 21, 200])[expected.numpy()])


def test_a_panoptic_model(predict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"backbone": "resnet_narrow", "channels": 32, "min_size": 64, "max_size": 128, "panoptic_stuff_area": 10}
    objects = {"hidden": 32, "test_proposals": (50, 60), "detections_per_image": 12, "mask_channels": 8}
    heads = {"objects": {"type": "mask_rcnn", **objects}, "surface": {"type": "fcn"}}
    names = {"objects": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}], "semantic": ROAD}
    model = vt.create_model("multi_head", names, heads=heads, panoptic=True, **small)
    model.heads["objects"].roi.scores.weight.data *= 30
    checkpoint = vt.save(model, tmp_path / "best.ckpt")
    paths = make_images(tmp_path / "photos", "a.png", "b.png")
    out = tmp_path / "out"
    done = predict(checkpoint, tmp_path / "photos", "--out", out, "--threshold", 0.3, "--tile", 64)
    assert done.code == 0, done.err
    assert "panoptic/*.png, panoptic.json" in done.out
    assert "unsupported" not in done.err  # OpenCV's word on an option for JPEG
    written = json.loads((out / "panoptic.json").read_text())
    ask = vt.Predictor(model, device="cpu", threshold=0.3, tile=64)
    assert len(written["images"]) == len(written["annotations"]) == 2
    known = {c["id"] for c in written["categories"]}
    assert len(known) == 5
    for path, annotation, line in zip(paths, written["annotations"], lines_of(out), strict=True):
        found = ask(path)
        assert found.panoptic is not None
        assert len(line["objects"]) == len(found)
        assert sum(line["pixels"].values()) == pytest.approx(1, abs=1e-4)
        assert line["segments"] == annotation["segments_info"]
        assert annotation["segments_info"]
        colors = np.array(Image.open(out / "panoptic" / annotation["file_name"])).astype(int)
        ids = colors @ [1, 256, 65536]  # as panopticapi's rgb2id
        assert np.array_equal(ids, found.panoptic.ids.numpy())
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids)) - {0}
        for segment in annotation["segments_info"]:
            inside = ids == segment["id"]
            assert segment["area"] == inside.sum()
            x, y, w, h = segment["bbox"]
            assert inside[y : y + h, x : x + w].sum() == inside.sum()
            assert inside[y].any()
            assert inside[y + h - 1].any()
            assert inside[:, x].any()
            assert inside[:, x + w - 1].any()
            assert segment["category_id"] in known


def test_a_model_of_objects_takes_looks_as_well(predict, tmp_path: Path) -> None:
    model = tiny_model()
    checkpoint = vt.save(model, tmp_path / "best.ckpt")
    (path,) = make_images(tmp_path, "a.png")
    options = ("--tile", 64, "--flip", "--scales", "0.5,1", "--threshold", 0.05)
    done = predict(checkpoint, path, "--out", tmp_path / "out", *options)
    assert done.code == 0, done.err
    found = vt.Predictor(model, device="cpu", threshold=0.05, tile=64, flip=True, scales=(0.5, 1))(path)
    (line,) = lines_of(tmp_path / "out")
    assert [row["score"] for row in line["objects"]] == pytest.approx(found.scores.tolist(), abs=1e-6)
    assert len(found)
    once = vt.Predictor(model, device="cpu", threshold=0.05)(path)
    assert not np.array_equal(found.scores, once.scores)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(semantic_model(ROAD), tmp_path_factory.mktemp("checkpoint"))[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--overlap", 16), "overlap is that of tiles"),
        (("--tile", 50), "must be multiples of its stride"),
        (("--tile", 64, "--overlap", 64), "cannot overlap by 64"),
        (("--scales", "1,x"), "--scales must be numbers with commas, such as 0.75,1,1.25, not '1,x'"),
        (("--scales", "0"), "scales must be factors above 0"),
        (("--tile", 0), "greater than or equal to 1"),
    ],
)
def test_bad_looks(options: tuple, message: str, predict, checkpoint: Path, tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, "a.png")
    done = predict(checkpoint, path, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_ids_that_no_mask_can_hold(predict, tmp_path: Path) -> None:
    checkpoint, _ = saved(semantic_model([{"id": 1, "name": "a"}, {"id": 70_000, "name": "b"}]), tmp_path)
    (path,) = make_images(tmp_path, "a.png")
    done = predict(checkpoint, path, "--out", tmp_path / "out")
    assert done.code == 2
    assert "ids of 0..65534, but this model's go from 1 to 70000" in done.err
    assert predict(checkpoint, path, "--out", tmp_path / "out", "--format", "none").code == 0


def test_undecided_pixels_have_the_largest_value() -> None:
    assert mask_type(Categories.of([{"id": 254, "name": "a"}])) == np.uint8
    assert mask_type(Categories.of([{"id": 255, "name": "a"}])) == np.uint16
    found = Prediction((1, 4), Categories.of(ROAD), semantic=torch.tensor([[-1, 0, 2, 2]], dtype=torch.int16))
    assert Found(Frame(np.zeros((1, 4, 3), np.uint8), "x.png", "x"), found).pixels == {"sky": 0.5, "road": 0.25}


def test_undecided_pixels_in_files(tmp_path: Path) -> None:
    found = Prediction((1, 4), Categories.of(ROAD), semantic=torch.tensor([[-1, 0, 2, 1]], dtype=torch.int16))
    with open_outputs(["jsonl", "maps"], tmp_path) as outputs:
        outputs.add(Frame(np.zeros((1, 4, 3), np.uint8), "x.png", "x"), found)
    mask = Image.open(tmp_path / "masks" / "x.png")
    assert np.array(mask).tolist() == [[255, 7, 200, 21]]
    road, tree, sky = Categories.of(ROAD).colors
    assert np.array(mask.convert("RGB")).tolist() == [[[224, 224, 192], list(road), list(sky), list(tree)]]


def test_our_own_reader_takes_predicted_masks_for_truth(predict, tmp_path: Path) -> None:
    from vision_tasks.config import SemanticConfig
    from vision_tasks.data.formats.semantic import read_semantic

    for ids, folder in (((7, 21, 200), tmp_path / "8"), ((7, 300, 40_000), tmp_path / "16")):
        categories = [{"id": i, "name": f"kind {i}", "color": [i % 256, 9, 3]} for i in ids]
        model = semantic_model(categories)
        (path,) = make_images(folder / "images", "a.png")
        checkpoint, ask = saved(model, folder)
        assert predict(checkpoint, path, "--out", folder / "out", "--no-draw").code == 0
        names = {"images": "images/{stem}.*", "masks": "out/masks/{stem}.png", "splits": {"train": 1.0}}
        files = SemanticConfig.model_validate(names | {"categories": categories}).files()
        records = read_semantic(files, "train", folder)
        assert records.semantic is not None
        assert np.array_equal(records.semantic.read(0, records.size(0)), ask(path).semantic.numpy())


def test_colours_of_many_segments(tmp_path: Path) -> None:
    ids = torch.tensor([[0, 1, 300], [70_000, 70_000, 1]], dtype=torch.int32)
    labels = torch.zeros(70_000, dtype=torch.int64)
    labels[299] = 2
    merged = Panoptic(ids, labels, Categories.of(ROAD))
    with open_outputs(["jsonl", "panoptic"], tmp_path) as outputs:
        frame = Frame(np.zeros((2, 3, 3), np.uint8), "x.png", "x")
        outputs.add(frame, Prediction((2, 3), Categories.of(ROAD), panoptic=merged))
    colors = np.array(Image.open(tmp_path / "panoptic" / "x.png")).astype(int)
    assert np.array_equal(colors @ [1, 256, 65536], ids.numpy())
    (line,) = lines_of(tmp_path)
    assert [(s["id"], s["category_id"], s["area"], s["bbox"]) for s in line["segments"]] == [
        (1, 7, 2, [1, 0, 2, 2]), (300, 200, 1, [2, 0, 1, 1]), (70_000, 7, 2, [0, 1, 2, 1])
    ]  # fmt: skip


def test_names_of_folders() -> None:
    names = ["road", "Road", "a/b", "a:b", "..", "größe 1"]
    assert folder_names(Categories.of(names)) == ["road", "Road-2", "a_b", "a_b-4", "5", "größe 1"]
