"""The doctor's findings as one HTML page that needs no server, no script and no network."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_tasks.data.doctor.findings import Diagnosis, Example, Finding
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.visualize.doctor_pictures import MENDED, OTHERS, OUTLINE, WRITTEN, forget, picture_of

_PICTURES = 6
_BELOW = 3
"""Pictures of a finding, and of each that follows from it."""
_WORDS = 300
_BARS = {
    "object_size": "side of objects, pixels (√ of width × height)",
    "relative_size": "side of objects over side of image",
    "aspect_ratio": "width / height of objects",
    "objects_per_image": "objects in an image",
    "image_width": "width of images, pixels",
    "image_height": "height of images, pixels",
}
_CATEGORIES = 40
_NAMED = re.compile(r"(?:the same file as|like|nearly the same as) .+?(?: of (\w+))? \(image (-?\d+)\)")
"""How `doctor.image_copies` names the other image."""
_CHART = (300, 110)


def write_doctor_page(
    path: Path | str,
    title: str,
    diagnosis: Diagnosis,
    splits: Mapping[str, Records],
    mended: Mapping[str, Records] | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Write the page: counts, findings with what follows from them, pictures of each, advice, histograms.

    Args:
        path: the .html file to write; it appears whole or not at all. title: what was examined.
        splits: the records that were diagnosed. mended: the same as a patch leaves them, to be drawn beside.
        commands: shell commands to try next.

    Raises:
        VisionTasksError: the page cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = Path(path)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    findings = [
        _finding(finding, splits, mended or {}, _PICTURES)
        for finding in counted(diagnosis.findings, "drawing findings", len(diagnosis.findings))
    ]
    forget()
    html = environment.get_template("doctor_page.html").render(
        title=title,
        looked_at=", ".join(diagnosis.looked_at),
        counts=[(s, sum(f.severity == s for f in diagnosis)) for s in ("breaks", "hurts", "note")],
        findings=findings,
        advice=[(split, own["lines"]) for split, own in diagnosis.advice.items() if own.get("lines")],
        splits=[_split(name, numbers) for name, numbers in diagnosis.statistics.items()],
        colors={
            name: f"rgb{color}"
            for name, color in (("written", WRITTEN), ("mended", MENDED), ("outline", OUTLINE), ("others", OTHERS))
        },
        commands=commands,
    )
    _write(path, html)
    return path


def _write(path: Path, html: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".html", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(html)
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise VisionTasksError(f"{path}: cannot be written ({error.strerror or error}).") from error


def _finding(
    finding: Finding, splits: Mapping[str, Records], mended: Mapping[str, Records], pictures: int
) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "split": finding.split,
        "count": f"{finding.count:,}",
        "of": f"{finding.of:,}" if finding.of else "",
        "title": finding.title,
        "detail": finding.detail,
        "effect": finding.kind.effect,
        "remedy": finding.remedy,
        "is_mended": bool(finding.edits),
        "examples": [_example(e, splits, mended, n < pictures) for n, e in enumerate(finding.examples)],
        "consequences": [_finding(below, splits, mended, _BELOW) for below in finding.consequences],
    }


def _example(
    example: Example, splits: Mapping[str, Records], mended: Mapping[str, Records], drawn: bool
) -> dict[str, str]:
    out = {"caption": str(example), "source": "", "words": ""}
    records = splits.get(example.split)
    if drawn and records is not None and example.row is not None:
        picture = picture_of(example, records, mended.get(example.split))
        if isinstance(picture, str):
            out["words"] = picture[:_WORDS]
        else:
            other = _other(example, splits)
            out["source"] = _embedded(picture if other is None else _beside(picture, other))
    return out


def _other(example: Example, splits: Mapping[str, Records]) -> np.ndarray | None:
    """The image that an example says to be like, drawn; None if it names none."""
    named = _NAMED.search(example.detail)
    if named is None or example.annotation_id is not None:
        return None
    split, number = named[1] or example.split, int(named[2])
    row = splits[split].row_of_id.get(number) if split in splits else None
    picture = None if row is None else picture_of(Example(split=split, row=row), splits[split])
    return None if isinstance(picture, str) else picture


def _beside(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two pictures of one height, with a white line between them."""
    width = max(1, round(other.shape[1] * one.shape[0] / other.shape[0]))
    fitted = np.asarray(cv2.resize(other, (width, one.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    return np.concatenate([one, np.full((one.shape[0], 6, 3), 255, np.uint8), fitted], 1)


def _embedded(picture: np.ndarray) -> str:
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _split(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    categories = numbers.get("categories", ())
    most = max((entry["objects"] for entry in categories), default=0)
    sizes = ("images", "annotations", "masks", "crowds", "small", "medium", "large")
    return {
        "name": name,
        "counts": [(key, f"{numbers[key]:,}") for key in sizes if key in numbers],
        "charts": [
            _chart(title, numbers["histograms"][key])
            for key, title in _BARS.items()
            if numbers.get("histograms", {}).get(key, {}).get("counts")
        ],
        "categories": [
            (entry["name"], f"{entry['objects']:,}", round(100 * entry["objects"] / max(most, 1), 1))
            for entry in categories[:_CATEGORIES]
        ],
        "more": max(0, len(categories) - _CATEGORIES),
    }


def _chart(title: str, histogram: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Bars (x, y, width, height, words) in a picture of `_CHART` pixels, and the numbers at its ends."""
    edges, counts = histogram["edges"], histogram["counts"]
    width, height = _CHART
    step, most = width / len(counts), max(*counts, 1)
    bars = [
        (
            round(n * step, 1), round(height * (1 - count / most), 1), round(max(step - 1, 0.5), 1),
            round(height * count / most, 1), f"{_short(edges[n])} to {_short(edges[n + 1])}: {count:,}",
        )
        for n, count in enumerate(counts)
    ]  # fmt: skip
    middle = edges[len(edges) // 2]
    return {
        "title": title,
        "bars": bars,
        "ends": [_short(e) for e in (edges[0], middle, edges[-1])],
        "most": f"{most:,}",
    }


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
