"""A run's results as one HTML page that needs no server, no script and no network."""

from __future__ import annotations

import base64
import math
import mimetypes
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vision_tasks.errors import VisionTasksError

_MEANINGS = {
    "AP": "average precision, IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "objects under 32² pixels",
    "APm": "32² to 96² pixels",
    "APl": "over 96² pixels",
    "AR1": "recall with 1 detection per image",
    "AR10": "recall with 10 per image",
    "AR100": "recall with 100 per image",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
    "mIoU": "intersection over union, mean over categories",
    "pixel_accuracy": "share of pixels that are right",
    "mean_accuracy": "recall, mean over categories",
    "fwIoU": "IoU weighted by the truth's pixels",
    "Dice": "overlap over mean size, as F1",
    "precision": "right of what was predicted",
    "recall": "found of what is there",
    "boundary_IoU": "IoU of bands along borders",
    "boundary_F": "borders that lie where they should",
    "PQ": "panoptic quality, SQ × RQ",
    "SQ": "IoU of segments that were found",
    "RQ": "F1 of finding segments",
}

_WITH_BARS = ("AP", "AR", "F1", "f1", "IoU", "Dice", "PQ", "SQ", "RQ", "precision", "recall", "boundary")
"""Beginnings of the names of columns whose numbers are drawn as bars, too: those of which more is better."""


def write_page(
    path: Path | str,
    title: str,
    metrics: Mapping[str, Any] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    images: Sequence[tuple[Path | str, str]] = (),
    curves: Sequence[Path | str] = (),
    commands: Sequence[str] = (),
    lead: str = "",
    embed: bool = False,
) -> Path:
    """Write the page. Parts without content are left out; all text is escaped.

    Args:
        path: the .html file to write.
        metrics: name -> number or text, the headline; None, NaN and COCO's -1 are shown as a dash.
        tables: title -> rows, name of column -> value. Scores get a bar.
        images: picture files and captions, for the gallery. curves: picture files.
        commands: shell commands to try next. lead: a sentence under the title.
        embed: put all pictures into the page. Otherwise those beside or below the page are linked relatively, and
            only others are put in, so that the folder can be moved as a whole.

    Raises:
        VisionTasksError: if a picture is missing.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = Path(path)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        metrics=[(name, _text(value), _meaning(name)) for name, value in (metrics or {}).items()],
        tables=[(title, *_table(rows)) for title, rows in (tables or {}).items() if rows],
        images=[(_source(Path(file), path.parent, embed), caption, _is_wide(file)) for file, caption in images],
        curves=[(_source(Path(file), path.parent, embed), Path(file).stem.replace("_", " ")) for file in curves],
        commands=commands,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".html", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(html)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    """Columns, and cells row by row."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return columns, [[_cell(column, row.get(column)) for column in columns] for row in rows]


def _meaning(name: str) -> str:
    """What a number is about; AP of masks is called "segm/AP", PQ of things alone "PQ_things", and so on."""
    plain, _, group = name.removeprefix("segm/").partition("_") if name not in _MEANINGS else (name, "", "")
    meaning = _MEANINGS.get(plain, "") if group in ("", "things", "stuff") else ""
    group = "masks" if name.startswith("segm/") else group
    return f"{group}: {meaning}" if meaning and group else meaning


def _source(file: Path, folder: Path, embed: bool) -> str:
    """What goes into `src`: a path relative to the page, or the picture itself."""
    if not file.is_file():
        raise VisionTasksError(f"{file}: there is no such picture to put on the page; write it first")
    inside = file.resolve().is_relative_to(folder.resolve())
    if inside and not embed:
        return quote(file.resolve().relative_to(folder.resolve()).as_posix())
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _is_wide(file: Path | str) -> bool:
    """Whether a picture, such as three panels side by side, needs the whole width of the page to be seen."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return picture.width >= 2.4 * picture.height
    except UnidentifiedImageError:  # a kind that PIL does not read, such as SVG
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None or (_is_number(value) and (math.isnan(value) or value == -1)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if _is_number(value) else str(value)


def _cell(column: str, value: Any) -> dict[str, Any]:
    share = column.removeprefix("segm/").startswith(_WITH_BARS) and isinstance(value, float) and 0 <= value <= 1
    return {"text": _text(value), "number": _is_number(value), "percent": round(100 * value, 1) if share else None}
