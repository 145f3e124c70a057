"""Loading images for training: ours next to torchvision.transforms.v2, Albumentations used naively, and Ultralytics.

    python tools/benchmark/data.py                       # speed with boxes and with masks, 0, 1 and 2 workers
    python tools/benchmark/data.py --memory 1000000      # memory of the workers over a pass, for so many annotations

All do the same work on the same 640×480 JPEG files: read, mirror half of them, change hue, saturation and value, bring
them to 512×683, and move boxes (and 8 outlines or masks an image) along. What comes out are tensors. Outlines stay
outlines in our loader, as training takes them; the peers draw bitmaps when they read, as their users do. Ultralytics
(AGPL; compared with where it is installed, never needed) pads to 640×640 in place of 512×683.

Sides alternate, round by round, in one process tree; what is reported is each side's best round, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

SIZE = (480, 640)
RESIZED = (512, 683)
GAINS = (5, 30, 30)
OBJECTS = 8


def make_images(folder: Path, count: int, seed: int = 0) -> Path:
    """JPEG files of a photo's size on disk (about 100 kB), and their COCO file; objects are polygons of 24 points."""
    rng = np.random.default_rng(seed)
    (folder / "images" / "train").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        coarse = rng.integers(0, 255, (30, 40, 3), np.uint8)
        picture = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, rng.integers(0, 24, (*SIZE, 3), np.uint8))
        for j in range(OBJECTS):
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            radius = rng.uniform(20, 80) * rng.uniform(0.7, 1, 24)
            centre = rng.uniform([90, 90], [550, 390])
            xy = np.round(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), 1)
            cv2.fillPoly(picture, [np.rint(xy).astype(np.int32)], rng.integers(0, 255, 3).tolist())
            low, high = xy.min(0), xy.max(0)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1 + j % 4, "iscrowd": 0,
                 "bbox": [*low.tolist(), *(high - low).tolist()], "segmentation": [xy.ravel().tolist()],
                 "area": float((high - low).prod() * 0.6)}
            )  # fmt: skip
        cv2.imwrite(str(folder / f"images/train/{i:06d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append({"id": i + 1, "file_name": f"{i:06d}.jpg", "width": SIZE[1], "height": SIZE[0]})
    categories = [{"id": c, "name": f"category {c}"} for c in range(1, 5)]
    file = folder / "instances_train.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    _write_yolo(folder, images, annotations)
    return file


def _write_yolo(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    labels = folder / "labels" / "train"
    labels.mkdir(parents=True)
    lines: dict[int, list[str]] = {}
    for a in annotations:
        xy = (np.array(a["segmentation"][0]).reshape(-1, 2) / SIZE[::-1]).clip(0, 1)
        lines.setdefault(a["image_id"], []).append(
            f"{a['category_id'] - 1} " + " ".join(f"{v:.5f}" for v in xy.ravel())
        )
    for image in images:
        (labels / f"{Path(image['file_name']).stem}.txt").write_text("\n".join(lines[image["id"]]))


class Peer(Dataset):
    """A data set as people write one: a dictionary per annotation, one image at a time."""

    def __init__(self, file: Path, masks: bool) -> None:
        content = json.loads(file.read_text())
        self.folder, self.masks, self.images = file.parent / "images" / "train", masks, content["images"]
        self.of: dict[int, list[dict[str, Any]]] = {}
        for a in content["annotations"]:
            self.of.setdefault(a["image_id"], []).append(a)

    def __len__(self) -> int:
        return len(self.images)

    def truth(self, index: int) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
        """Boxes (N, 4) as corners, labels, and bitmaps drawn of the outlines."""
        own = self.of[self.images[index]["id"]]
        boxes = np.array([a["bbox"] for a in own])
        boxes[:, 2:] += boxes[:, :2]
        bitmaps = []
        for a in own if self.masks else ():
            bitmap = np.zeros(SIZE, np.uint8)
            cv2.fillPoly(bitmap, [np.rint(np.array(a["segmentation"][0]).reshape(-1, 2)).astype(np.int32)], 1)
            bitmaps.append(bitmap)
        return boxes, [a["category_id"] for a in own], bitmaps


class TorchvisionPeer(Peer):
    """torchvision.io and transforms.v2."""

    def __init__(self, file: Path, masks: bool) -> None:
        super().__init__(file, masks)
        from torchvision.transforms import v2

        self.transform = v2.Compose(
            [v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.12, 0, 0.12, 0.03), v2.Resize(RESIZED, antialias=True)]
        )

    def __getitem__(self, index: int) -> Any:
        from torchvision import io, tv_tensors

        image = io.decode_image(str(self.folder / self.images[index]["file_name"]), io.ImageReadMode.RGB)
        boxes, labels, bitmaps = self.truth(index)
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE),  # type: ignore[call-overload]
            "labels": torch.tensor(labels),
        }
        if self.masks:
            target["masks"] = tv_tensors.Mask(torch.from_numpy(np.stack(bitmaps)))
        return self.transform(tv_tensors.Image(image), target)


class AlbumentationsPeer(Peer):
    """Albumentations as its documentation shows it."""

    def __init__(self, file: Path, masks: bool) -> None:
        super().__init__(file, masks)
        import albumentations as A

        steps = [
            A.HorizontalFlip(p=0.5),
            A.HueSaturationValue(*GAINS, p=1),
            A.Resize(*RESIZED),
        ]
        self.transform = A.Compose(steps, bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]))

    def __getitem__(self, index: int) -> Any:
        image = cv2.cvtColor(cv2.imread(str(self.folder / self.images[index]["file_name"])), cv2.COLOR_BGR2RGB)
        boxes, labels, bitmaps = self.truth(index)
        extra = {"masks": bitmaps} if self.masks else {}
        out = self.transform(image=image, bboxes=boxes, labels=labels, **extra)
        pixels = torch.from_numpy(np.ascontiguousarray(out["image"].transpose(2, 0, 1)))
        target = {"boxes": torch.as_tensor(np.array(out["bboxes"])), "labels": torch.tensor(out["labels"])}
        if self.masks:
            target["masks"] = torch.from_numpy(np.stack(out["masks"]))
        return pixels, target


def peer_loader(dataset: Dataset, workers: int) -> DataLoader:
    """The peers' loader, with the settings that `worker_init_fn` of ours makes, too."""
    return DataLoader(
        dataset, batch_size=4, shuffle=True, num_workers=workers, collate_fn=list, persistent_workers=workers > 0,
        worker_init_fn=one_thread,
    )  # fmt: skip


def one_thread(worker: int) -> None:
    """A worker keeps to one core."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def our_loader(file: Path, masks: bool, workers: int) -> Any:
    """Our own loader, as a training makes it."""
    import dataclasses

    from vision_tasks.data.datamodule import DataModule
    from vision_tasks.data.formats.coco import read_coco
    from vision_tasks.data.transforms import Transforms

    records = read_coco(file, file.parent / "images" / "train")
    if not masks:
        records = dataclasses.replace(records, has_shapes=False)
    hue, saturation, value = GAINS
    steps = Transforms(
        [
            {"HorizontalFlip": {"p": 0.5}},
            {"HueSaturationValue": {"hue_shift_limit": hue, "sat_shift_limit": saturation, "val_shift_limit": value,
                                    "p": 1}},
            {"Resize": {"height": RESIZED[0], "width": RESIZED[1]}},
        ]
    )  # fmt: skip
    return DataModule(train=records, batch_size=4, transforms=steps, workers=workers).train_dataloader()


def ultralytics_loader(file: Path, masks: bool, workers: int) -> Any:
    """Ultralytics' loader without mosaic, mixup and affine map: letterbox, mirror, hue."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset

    own = {"mosaic": 0.0, "mixup": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0, "erasing": 0.0}
    settings = get_cfg(overrides=own | {"task": "segment" if masks else "detect", "imgsz": 640, "overlap_mask": False})
    names = {"names": {i: f"category {i}" for i in range(4)}, "nc": 4, "channels": 3}
    dataset = build_yolo_dataset(settings, str(file.parent / "images/train"), 4, names, mode="train", rect=False)
    return build_dataloader(dataset, 4, workers, shuffle=True)


def a_pass(loader: Any, limit: int) -> tuple[float, float]:
    """Seconds until the first batch, and images per second from there to the end of so many images."""
    begin = time.perf_counter()
    batches: Iterator[Any] = iter(loader)
    next(batches)
    first = time.perf_counter()
    seen = 0
    for _ in batches:
        seen += 4
        if seen >= limit:
            break
    return first - begin, seen / (time.perf_counter() - first)


def speed(images: int, rounds: int) -> None:
    """Print images per second of every side, and how much quicker ours is."""
    sides: dict[str, Callable[[Path, bool, int], Any]] = {
        "ours": our_loader,
        "transforms.v2": lambda f, m, w: peer_loader(TorchvisionPeer(f, m), w),
        "Albumentations": lambda f, m, w: peer_loader(AlbumentationsPeer(f, m), w),
    }
    if find_spec("ultralytics"):
        sides["Ultralytics"] = ultralytics_loader
    with tempfile.TemporaryDirectory() as folder:
        file = make_images(Path(folder), images)
        kilobytes = np.mean([p.stat().st_size for p in Path(folder, "images/train").glob("*.jpg")]) / 1024
        print(f"{images} JPEG files of {SIZE[1]}×{SIZE[0]}, {kilobytes:.0f} kB each, {OBJECTS} objects an image")
        print(f"{'':24}" + "".join(f"{name:>24}" for name in sides))
        for masks in (False, True):
            for workers in (0, 1, 2):
                if workers == 0:
                    one_thread(0)
                loaders = {name: make(file, masks, workers) for name, make in sides.items()}
                starts: dict[str, float] = {}
                best = dict.fromkeys(sides, 0.0)
                for _ in range(rounds):
                    for name, loader in loaders.items():
                        start, rate = a_pass(loader, images - 8)
                        starts.setdefault(name, start)
                        best[name] = max(best[name], rate)
                del loaders
                cells = [f"{best[n]:.0f}/s ×{best['ours'] / best[n]:.2f} {starts[n]:.1f} s" for n in sides]
                print(f"{'masks' if masks else 'boxes'}, {workers} workers".ljust(24)
                      + "".join(f"{cell:>24}" for cell in cells), flush=True)  # fmt: skip
    print("images a second; how much quicker ours is; seconds to the first batch of the first round")


class Touching(Dataset):
    """Reads the truth of every image in turn and no pixels: what an epoch does to the memory of a worker."""

    def __init__(self, truth: Callable[[int], Any], count: int) -> None:
        self.truth, self.count = truth, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        import psutil

        self.truth(index)
        own = psutil.Process().memory_full_info() if index % 5000 == 0 else None
        return 0 if own is None else own.uss


def memory(annotations: int) -> None:
    """Print each worker's own memory (USS) at the beginning and the end of a pass."""
    import sys

    import psutil

    sys.path.insert(0, str(Path(__file__).parent))
    from records import generate

    from vision_tasks.data.formats.coco import read_coco

    images = max(annotations // 7, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "instances_train.json")
        generate(file, annotations, images, 12)
        begin = time.perf_counter()
        records = read_coco(file, Path(folder), cache=Path(folder) / "cache")
        print(f"{annotations:,} annotations of {images:,} images, {file.stat().st_size / 2**20:,.0f} MiB: "
              f"read in {time.perf_counter() - begin:.0f} s")  # fmt: skip
        again = time.perf_counter()
        records = read_coco(file, Path(folder), cache=Path(folder) / "cache")
        print(f"read again (from its index): {time.perf_counter() - again:.2f} s; "
              f"main process {psutil.Process().memory_full_info().uss / 2**20:,.0f} MiB")  # fmt: skip
        _pass_of_workers("ours", Touching(records.target, images))
        if annotations <= 2_000_000:
            content = json.loads(file.read_text())
            of: dict[int, list[Any]] = {}
            for a in content["annotations"]:
                of.setdefault(a["image_id"], []).append(a)
            ids = [i["id"] for i in content["images"]]
            del content
            _pass_of_workers("lists of dictionaries", Touching(lambda i: list(of.get(ids[i], [])), images))


def _pass_of_workers(name: str, dataset: Touching) -> None:
    loader = DataLoader(dataset, batch_size=500, num_workers=2, multiprocessing_context="fork", collate_fn=list)
    used = [uss for batch in loader for uss in batch if uss]
    print(f"{name}: a worker's own memory {used[0] / 2**20:,.0f} MiB at the beginning of a pass, "
          f"{used[-1] / 2**20:,.0f} MiB at its end")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, help="measure memory instead, for so many annotations")
    chosen = parser.parse_args()
    if chosen.memory:
        memory(chosen.memory)
    else:
        speed(chosen.images, chosen.rounds)
