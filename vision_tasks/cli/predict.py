"""`vision-tasks predict`."""

from __future__ import annotations

import glob
import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vision_tasks.cli.console import console, make_folder, say
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.structures import Prediction

IMAGE_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm", ".gif"))


def find_images(sources: list[str], out: Path | None = None) -> list[Path]:
    """Files of images, folders (to the bottom, by ending) and globs, in order, each once.

    What an earlier call drew into `out` is not searched, even if it lies below a source.

    Raises:
        VisionTasksError: a source is not there, or holds no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())
            if out is not None and out.resolve() != path.resolve():
                paths = [p for p in paths if out.resolve() not in p.resolve().parents]
            if not paths:
                raise VisionTasksError(f"{source} holds no images ({', '.join(sorted(IMAGE_ENDINGS))}).")
        elif path.exists():
            paths = [path]
        else:
            paths = [Path(p) for p in sorted(glob.glob(source, recursive=True)) if Path(p).is_file()]
            if not paths:
                raise VisionTasksError(f"There is no file or folder {source}, and as a pattern it matches nothing.")
        found.update(dict.fromkeys(paths))
    return list(found)


def run(checkpoint: Path, sources: list[str], out: Path, threshold: float, form: str, draw: bool, device: str) -> int:
    """Predict every image; 0 if all could be read, 1 if some could not, 2 (an error) if none could."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vision_tasks.data.images import ImageError, read_image
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.visualize.drawing import draw as draw_image
    from vision_tasks.visualize.picture import write_picture

    if form not in ("jsonl", "coco", "none"):
        raise VisionTasksError(f"--format must be jsonl, coco or none, not {form!r}.")
    paths = find_images(sources, out)
    if draw and out.resolve() in {p.resolve().parent for p in paths}:
        raise VisionTasksError(f"{out} holds images to predict: drawn ones could overwrite them. Choose another --out.")
    predictor = Predictor(checkpoint, device, threshold)
    make_folder(out)
    names = _names(paths)
    broken: list[str] = []
    screen = console()
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with (
        _Writer(out, form) as writer,
        Progress(
            *columns, TimeRemainingColumn(compact=True), console=screen, transient=True, disable=not screen.is_terminal
        ) as bar,
    ):
        task = bar.add_task("", total=len(paths), rate="")
        for number, path in enumerate(paths, start=1):
            try:
                image = read_image(path)
                prediction = predictor(image)
            except ImageError as error:
                broken.append(str(error))
                screen.print(f"skipped: {error}", style="yellow", markup=False, emoji=False)
                continue
            finally:
                speed = bar.tasks[0].speed
                bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
            writer.add(number, path, prediction)
            if draw:
                zoom = max(1, round(480 / max(image.shape[:2])))
                write_picture(out / names[path], draw_image(image, prediction, threshold=threshold, zoom=zoom))
    if len(broken) == len(paths):
        raise VisionTasksError(f"None of the {len(paths)} images could be read. The first: {broken[0]}")
    say(f"{len(paths) - len(broken)} images, {writer.objects} objects: {out}")
    if not writer.objects and form != "none":
        say(f"Nothing scored {threshold} or more. Try a lower --threshold; evaluate prints the best per category.")
    if broken:
        say(f"{len(broken)} images could not be read (see above).")
    return 1 if broken else 0


def _names(paths: list[Path]) -> dict[Path, str]:
    """File names for drawn images, never two the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = f"{path.stem}.jpg", 2
        while name.casefold() in taken:
            name, number = f"{path.stem}-{number}.jpg", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names


def _area(row: dict[str, Any]) -> float:
    """Pixels of the object: of its mask if it has one, else of its box."""
    from vision_tasks.metrics.coco_masks import rle_area

    if "segmentation" in row:
        return float(rle_area([row["segmentation"]])[0])
    return float(row["bbox"][2] * row["bbox"][3])


class _Writer:
    """predictions.jsonl, one line an image; or predictions.json in COCO form (images, annotations with scores,
    categories). Written under a temporary name and renamed at the end, whatever ends it."""

    def __init__(self, out: Path, form: str) -> None:
        self.path = out / {"jsonl": "predictions.jsonl", "coco": "predictions.json", "none": ""}[form]
        self.form = form
        self.objects = 0
        self._coco: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        self._file: IO[str] | None = None

    def __enter__(self) -> _Writer:
        if self.form != "none":
            # A file name that is no UTF-8 is written as JSON's own escape.
            self._file = self._temporary.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

    def add(self, number: int, path: Path, prediction: Prediction) -> None:
        from vision_tasks.metrics.coco_results import results_of

        rows = results_of(prediction, number)
        if prediction.masks is not None:
            masks = results_of(prediction, number, "segm")
            rows = [row | {"segmentation": mask["segmentation"]} for row, mask in zip(rows, masks, strict=True)]
        self.objects += len(rows)
        height, width = prediction.size
        if self.form == "jsonl":
            assert self._file is not None
            name_of = dict(zip(prediction.categories.ids, prediction.categories.names, strict=True))
            objects = [
                {
                    "category": name_of[r["category_id"]],
                    "category_id": r["category_id"],
                    "score": r["score"],
                    "bbox": r["bbox"],
                }
                | ({"segmentation": r["segmentation"]} if "segmentation" in r else {})
                for r in rows
            ]
            line = {"file": str(path), "width": width, "height": height, "objects": objects}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        elif self.form == "coco":
            self._coco["images"].append({"id": number, "file_name": str(path), "width": width, "height": height})
            start = len(self._coco["annotations"]) + 1
            self._coco["annotations"] += [
                {**row, "id": start + i, "area": _area(row), "iscrowd": 0} for i, row in enumerate(rows)
            ]
            self._coco["categories"] = prediction.categories.to_list()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._file is None:
            return
        if self.form == "coco":
            json.dump(self._coco, self._file)
        self._file.close()
        os.replace(self._temporary, self.path)
        if kind is KeyboardInterrupt:
            sys.stderr.write(f"stopped; {self.path} holds what was done\n")
