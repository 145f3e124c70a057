"""`vision-tasks data ...`: one function per command, each in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at data sets, and make new ones of them.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[Path, typer.Argument(help="a folder or annotation file, of any format")]
Out = Annotated[Path, typer.Argument(help="a new folder")]
To = Annotated[str, typer.Option("--to", help="format to write; coco, voc, yolo, ... (see convert --help)")]
Images = Annotated[str, typer.Option(help="copy image files, link them (hard links), or none")]
Seed = Annotated[int, typer.Option(min=0, help="of everything drawn by chance")]


@app.command()
def preview(
    options: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE.yaml] [KEY=VALUE ...]")] = None,
    out: Annotated[Path, typer.Option(help="HTML page to write")] = Path("preview.html"),
    count: Annotated[int, typer.Option(min=1, help="samples to draw")] = 12,
) -> None:
    """Draw what the model will see in training, after augmentation, as it will see it."""
    from vision_tasks.cli.data_preview import run

    run(options or [], out, count)


@app.command()
def stats(
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    out: Annotated[Path | None, typer.Option(help="HTML page with histograms, too")] = None,
) -> None:
    """Count images, objects, categories and sizes."""
    from vision_tasks.cli.data_stats import run

    run(data, as_json, out)


@app.command()
def browse(
    data: Data,
    out: Annotated[Path, typer.Option(help="HTML page to write")] = Path("browse.html"),
    count: Annotated[int, typer.Option(min=1, help="images to draw")] = 60,
    category: Annotated[str, typer.Option(help="only images with this category")] = "",
    split: Annotated[str, typer.Option(help="train, val or test; all if left out")] = "",
    seed: Seed = 0,
) -> None:
    """Draw images with their annotations on a page."""
    from vision_tasks.cli.data_browse import run

    run(data, out, count, category, split, seed)


@app.command()
def split(
    data: Data,
    out: Out,
    shares: Annotated[str, typer.Option(help="of train, val and test")] = "0.8,0.2",
    group: Annotated[
        str,
        typer.Option(help="keeps groups of images together: folder, a key of the images, or a regex with ( )"),
    ] = "",
    to: To = "coco",
    images: Images = "copy",
    seed: Seed = 0,
) -> None:
    """Divide a data set into train, val and test, each with its share of every category."""
    from vision_tasks.cli.data_split import run

    run(data, out, shares, group, to, images, seed)


@app.command()
def merge(
    out: Out,
    data: Annotated[list[Path], typer.Argument(help="two data sets or more")],
    categories: Annotated[Path | None, typer.Option("--map", help="YAML file, old name: new name")] = None,
    to: To = "coco",
    images: Images = "copy",
) -> None:
    """Put data sets together as one; categories of one name become one."""
    from vision_tasks.cli.data_merge import run

    run(out, data, categories, to, images)


@app.command()
def subset(
    data: Data,
    out: Out,
    categories: Annotated[str, typer.Option(help="only these, with commas; images without any are left out")] = "",
    count: Annotated[int | None, typer.Option(min=1, help="so many images, drawn by chance")] = None,
    files: Annotated[Path | None, typer.Option(help="list of file names to keep, one a line")] = None,
    to: To = "coco",
    images: Images = "copy",
    seed: Seed = 0,
) -> None:
    """Take some images or categories out of a data set."""
    from vision_tasks.cli.data_subset import run

    run(data, out, categories, count, files, to, images, seed)


@app.command()
def tile(
    data: Data,
    out: Out,
    size: Annotated[int, typer.Option(min=16, help="side of a tile, in pixels")] = 1024,
    overlap: Annotated[float, typer.Option(min=0, help="pixels, or a part, that neighbours share")] = 0.2,
    visible: Annotated[
        float, typer.Option(min=0, max=1, help="objects of which less is in a tile become crowds there")
    ] = 0.3,
    empty: Annotated[bool, typer.Option(help="keep tiles without objects")] = True,
    to: To = "coco",
) -> None:
    """Cut large images into tiles with their annotations."""
    from vision_tasks.cli.data_tile import run

    run(data, out, size, overlap, visible, empty, to)
