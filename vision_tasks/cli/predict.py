"""`vision-tasks predict`."""

from __future__ import annotations

import glob
from pathlib import Path

from vision_tasks.cli.console import console, make_folder, say
from vision_tasks.cli.mask_files import mask_type
from vision_tasks.cli.prediction_files import FORMS, PredictionFiles
from vision_tasks.errors import VisionTasksError

IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm", ".gif", ".npy")
)


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


def run(
    checkpoint: Path,
    sources: list[str],
    out: Path,
    threshold: float,
    form: str,
    draw: bool,
    device: str,
    tile: int | None = None,
    overlap: int | None = None,
    flip: bool = False,
    scales: str = "",
) -> int:
    """Predict every image; 0 if all could be read, 1 if some could not, 2 (an error) if none could."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vision_tasks.data.images import ImageError, displayed, read_image
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.visualize.drawing import draw as draw_image
    from vision_tasks.visualize.picture import write_picture

    if form not in FORMS:
        raise VisionTasksError(f"--format must be jsonl, coco or none, not {form!r}.")
    factors = _factors(scales)
    paths = find_images(sources, out)
    if draw and out.resolve() in {p.resolve().parent for p in paths}:
        raise VisionTasksError(f"{out} holds images to predict: drawn ones could overwrite them. Choose another --out.")
    predictor = Predictor(checkpoint, device, threshold, tile=tile, overlap=overlap, flip=flip, scales=factors)
    channels = len(predictor.model.preprocess.mean)
    maps = predictor.model.head_of("semantic")
    if maps is not None and form != "none":
        mask_type(maps.categories)
    make_folder(out)
    names = _names(paths)
    broken: list[str] = []
    screen = console()
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with (
        PredictionFiles(out, form) as files,
        Progress(
            *columns, TimeRemainingColumn(compact=True), console=screen, transient=True, disable=not screen.is_terminal
        ) as bar,
    ):
        task = bar.add_task("", total=len(paths), rate="")
        for number, path in enumerate(paths, start=1):
            try:
                image = read_image(path, channels=channels)
                prediction = predictor(image)
            except ImageError as error:
                broken.append(str(error))
                screen.print(f"skipped: {error}", style="yellow", markup=False, emoji=False)
                continue
            finally:
                speed = bar.tasks[0].speed
                bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")
            files.add(number, path, names[path], prediction)
            if draw:
                zoom = max(1, round(480 / max(image.shape[:2])))
                write_picture(
                    out / f"{names[path]}.jpg", draw_image(displayed(image), prediction, threshold=threshold, zoom=zoom)
                )
    if len(broken) == len(paths):
        raise VisionTasksError(f"None of the {len(paths)} images could be read. The first: {broken[0]}")
    finds_objects = predictor.model.head_of("objects") is not None
    objects = f", {files.objects} objects" if finds_objects else ""
    say(f"{len(paths) - len(broken)} images{objects}: {out}")
    say("Written: " + (", ".join([*files.written, *(["drawn images (*.jpg)"] if draw else [])]) or "nothing") + ".")
    if finds_objects and not files.objects and form != "none":
        say(f"Nothing scored {threshold} or more. Try a lower --threshold; evaluate prints the best per category.")
    if broken:
        say(f"{len(broken)} images could not be read (see above).")
    return 1 if broken else 0


def _factors(scales: str) -> tuple[float, ...]:
    """ "0.75,1,1.25" as numbers."""
    try:
        return tuple(float(part) for part in scales.split(",") if part.strip())
    except ValueError:
        raise VisionTasksError(f"--scales must be numbers with commas, such as 0.75,1,1.25, not {scales!r}.") from None


def _names(paths: list[Path]) -> dict[Path, str]:
    """Names, without an ending, for what is written of each image; never two the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 2
        while name.casefold() in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names
