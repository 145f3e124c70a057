"""`vision-tasks`: one function per command. Heavy modules load inside a command, so that `--help` is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vision_tasks import __version__
from vision_tasks.cli import data_commands
from vision_tasks.cli.console import complain, set_up_logging
from vision_tasks.errors import VisionTasksError

app = typer.Typer(
    name="vision-tasks",
    help="Object detection and segmentation: train, evaluate, look, run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

app.add_typer(data_commands.app, name="data")

Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE.yaml] [KEY=VALUE ...]", help="a recipe, and options that override it"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _before(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    set_up_logging()


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where the generated data set goes")] = Path("data/demo"),
    out: Annotated[
        Path | None, typer.Option(help="where the run and its page of pictures go; runs/demo, or runs/demo-TASK")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps; fewer is quicker and worse")] = None,
    task: Annotated[str, typer.Option(help="boxes, semantic or panoptic")] = "boxes",
) -> None:
    """Make a small data set, train a model on it, evaluate it, and show what it finds. Two minutes on two cores."""
    from vision_tasks.cli.demo import run

    run(folder, out or Path("runs/demo" if task == "boxes" else f"runs/demo-{task}"), steps, task)


@app.command()
def doctor(
    data: Annotated[Path, typer.Argument(help="an annotation file, a folder, or a recipe (.yaml)")],
    options: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="options of a recipe")] = None,
    images: Annotated[Path | None, typer.Option(help="folder of the images, or of the splits' folders")] = None,
    fix: Annotated[Path | None, typer.Option(help="write what mends it as a patch (.json)")] = None,
    report: Annotated[Path | None, typer.Option(help="write a page of counts, histograms and pictures (.html)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything for programs")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="do not open images")] = False,
) -> None:
    """Find what is wrong with data before training does, and mend it. Exit code 1 if something would break training."""
    from vision_tasks.cli.doctor import run

    raise typer.Exit(run(data, options or [], images, fix, report, as_json, quick))


@app.command()
def convert(
    data: Annotated[Path, typer.Argument(help="a folder or annotation file")],
    out: Annotated[Path, typer.Argument(help="a new folder")],
    to: Annotated[
        str,
        typer.Option(help="format to write: coco, lvis, voc, yolo, labelme, coco_panoptic, masks or webdataset"),
    ] = "coco",
    form: Annotated[
        str,
        typer.Option(
            "--from", help="format to read, one of these or datumaro:cvat, :kitti, :open_images; found out if left out"
        ),
    ] = "",
    images: Annotated[str, typer.Option(help="copy image files, link them (hard links), or none")] = "copy",
    image_folder: Annotated[
        Path | None, typer.Option(help="folder of the images, or of the splits' folders, if not found")
    ] = None,
    patch: Annotated[Path | None, typer.Option(help="apply this patch of the doctor first")] = None,
) -> None:
    """Write a data set in another format, and say what that cannot hold."""
    from vision_tasks.cli.convert import run

    run(data, out, to, form, images, image_folder, patch)


@app.command()
def train(
    options: Options = None,
    resume: Annotated[Path | None, typer.Option(help="a last.ckpt; go on where it stopped")] = None,
) -> None:
    """Train on data of any format: `vision-tasks train data=FOLDER model=faster_rcnn train.epochs=12`."""
    from vision_tasks.cli.train import run

    run(options or [], resume)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="a best.ckpt or last.ckpt")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="data=FOLDER, data.val_batch_size=8, ...")
    ] = None,
    split: Annotated[str, typer.Option(help="val, test or train")] = "val",
    out: Annotated[Path | None, typer.Option(help="folder for results; beside the checkpoint if left out")] = None,
    device: Device = "auto",
) -> None:
    """COCO mAP, mIoU or panoptic quality, per category, with curves.

    For programs: metrics.json has all numbers, results.json what was found, in COCO form.
    """
    from vision_tasks.cli.evaluate import run

    run(checkpoint, options or [], split, out, device)


@app.command()
def predict(
    checkpoint: Annotated[str, typer.Argument(help="a best.ckpt or last.ckpt; several with commas are an ensemble")],
    sources: Annotated[
        list[str],
        typer.Argument(help="images, folders (searched to the bottom), globs, zips, videos, a camera (0), rtsp://..."),
    ],
    out: Annotated[Path, typer.Option(help="folder for drawn images and predictions")] = Path("predictions"),
    threshold: Annotated[float, typer.Option(min=0, max=1, help="draw and write only what scores this or more")] = 0.5,
    categories: Annotated[str, typer.Option(help="only objects of these categories, with commas: person,car")] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="with commas: jsonl, coco, csv, yolo, labelme, mot, masks, crops, sheet, ...; none",
        ),
    ] = "jsonl",
    draw: Annotated[bool, typer.Option(help="write drawn images and videos")] = True,
    show: Annotated[bool, typer.Option("--show", help="open a window; q ends")] = False,
    track: Annotated[str, typer.Option(help="follow objects through a video: bytetrack, sort or ocsort")] = "",
    track_options: Annotated[
        list[str] | None, typer.Option("--track-option", help="KEY=VALUE of the tracker, such as buffer=60")
    ] = None,
    speed: Annotated[str, typer.Option(help="exact, fast (bfloat16) or max (compiled, too)")] = "exact",
    batch_size: Annotated[str, typer.Option(help="images at once; auto: as many as a GPU holds")] = "auto",
    device: Device = "auto",
    every: Annotated[int, typer.Option(min=1, help="take every n-th frame of a video")] = 1,
    start: Annotated[float | None, typer.Option(min=0, help="of videos, from this second on")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="of videos, before this second")] = None,
    codec: Annotated[str, typer.Option(help="of drawn videos: h264, vp9, av1 or mpeg4")] = "h264",
    audio: Annotated[bool, typer.Option(help="drawn videos keep the sound")] = True,
    tile: Annotated[
        int | None, typer.Option(min=1, help="look at large images in tiles of so many pixels (docs/more_accuracy.md)")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(min=0, help="pixels, or a part, that neighbouring tiles share; a quarter by default")
    ] = None,
    merge: Annotated[str, typer.Option(help="objects of neighbouring tiles: join, nms, nmm or wbf")] = "join",
    flip: Annotated[bool, typer.Option("--flip", help="look at the mirror image, too")] = False,
    scales: Annotated[str, typer.Option(help="look at several sizes, such as 0.75,1,1.25")] = "",
    fuse: Annotated[
        str, typer.Option(help="objects of several looks or models: wbf, nms, soft_linear or soft_gaussian")
    ] = "wbf",
) -> None:
    """Find objects in images and video, or draw their semantic maps; write them as pictures, video and files.

    A broken image is reported, and the exit code is 1.
    """
    from vision_tasks.cli.predict import Request, run

    request = Request(
        checkpoint, sources, out, threshold, form, draw, show, track, track_options or [], speed, batch_size, device,
        every, start, end, codec, audio, tile, overlap, flip, scales, merge, fuse, categories,
    )  # fmt: skip
    raise typer.Exit(run(request))


@app.command("evaluate-tracks")
def evaluate_tracks(
    truth: Annotated[Path, typer.Argument(help="a gt.txt, a sequence's folder, or a folder of sequences")],
    results: Annotated[Path, typer.Argument(help="a MOTChallenge result file, or a folder of NAME.txt")],
    rules: Annotated[
        str, typer.Option(help="what is not judged: mot16, mot17, mot20, or plain for MOT15 and other data")
    ] = "mot17",
    category: Annotated[int | None, typer.Option(help="class to be judged by the rules plain; all if left out")] = None,
    annotated_only: Annotated[
        bool, typer.Option("--annotated-only", help="leave out tracks after the last frame that has truth")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for all numbers")] = None,
) -> None:
    """Judge tracks in MOTChallenge's form: HOTA, MOTA, IDF1 and their like, as TrackEval computes them."""
    from vision_tasks.cli.evaluate_tracks import run

    run(truth, results, rules, category, annotated_only, out)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="show this model's options instead of the table")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the table for programs")] = False,
) -> None:
    """The models there are: task, size, cost, published AP, and whose weights under which licence."""
    from vision_tasks.cli.models import run

    run(name, as_json)


@app.command("config")
def show_config(options: Options = None) -> None:
    """Print the resolved recipe: every option, its value and what it does."""
    from vision_tasks.cli.train import recipe
    from vision_tasks.config import to_yaml

    typer.echo(to_yaml(recipe(options or []), explained=True), nl=False)


def main() -> None:
    """Entry point. Bad input ends with exit code 2 and no traceback, unless `--debug` is among the arguments."""
    debug = "--debug" in sys.argv
    if debug:  # wherever it stands
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    try:
        app(prog_name="vision-tasks")
    except VisionTasksError as error:
        if debug:
            raise
        complain(str(error))
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written
        if debug or error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror}. Make room, or choose another folder.")
        sys.exit(2)
    except RuntimeError as error:
        if debug or "out of memory" not in str(error):
            raise
        complain("the device is out of memory. Lower data.batch_size or model.min_size.")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        cause: BaseException | None = end  # typer ends silently at Ctrl-C
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__context__
        if cause is None:
            raise
        typer.echo("\nstopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
