"""Drawn frames: a picture of every image, a video of every video, and a window to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vision_tasks.data.images import displayed
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame, Source
from vision_tasks.inference.threads import StageTimes
from vision_tasks.inference.video.codecs import default_ending
from vision_tasks.structures import Categories, Prediction
from vision_tasks.visualize.drawing import draw
from vision_tasks.visualize.legend import Entry, with_legend
from vision_tasks.visualize.picture import write_picture

if TYPE_CHECKING:
    from vision_tasks.inference.video.writer import VideoWriter
    from vision_tasks.visualize.tracks import Trails

_SHORT_SIDE = 480
"""Smaller images are enlarged by a whole factor, so that tags can be read."""
_LIVE_RATE = 25.0
"""Of the clock of a video of a camera, which tells none; frames keep the times at which they came."""


class Drawn:
    """Draws frames as they come and writes them: NAME.jpg of an image, SOURCE.mp4 of a video or camera.

    Args:
        out: folder, which is there; None writes nothing. threshold: objects that score less are not drawn; what is
            tracked is drawn whatever it scores.
        codec: of videos (docs/video.md). ending: of videos, with its dot; the codec's own if not given.
        audio: videos keep their sound.
        show: called with every drawn picture, (H, W, 3) uint8 RGB; False stops (see `stopped`).
        times: adds up what drawing and encoding take.

    Attributes:
        written: what was written so far, in words. stopped: whether whoever looked had enough.
        problems: what did not go as it should with videos, and did not stop the work.

    Raises:
        VisionTasksError: there is no such codec.
    """

    def __init__(
        self,
        out: Path | None,
        threshold: float = 0.5,
        codec: str = "h264",
        ending: str | None = None,
        audio: bool = True,
        show: Callable[[np.ndarray], bool] | None = None,
        times: StageTimes | None = None,
    ) -> None:
        self.out, self.threshold = out, threshold
        self.codec, self.ending, self.audio, self.show = codec, ending or default_ending(codec), audio, show
        self.stopped = False
        self.problems: list[str] = []
        self._times = StageTimes() if times is None else times
        self._written: dict[str, None] = {}
        self._source: Source | None = None
        self._writer: VideoWriter | None = None
        self._trails: Trails | None = None

    @property
    def written(self) -> list[str]:
        """What was written so far, in words."""
        return list(self._written)

    def add(self, source: Source, frame: Frame, prediction: Prediction) -> np.ndarray:
        """Draw one frame of a source, whose frames come one after another. Gives (H, W, 3) uint8 RGB.

        Raises:
            VisionTasksError: a video cannot be written, or `out` is where the frame came from. OSError: a picture
                cannot be written.
        """
        if source is not self._source:
            self._finish()
            self._source = source
            if self.out is not None:
                check_out(self.out, source)
        with self._times.measure("draw"):
            picture = self._picture(source, frame, prediction)
        if self.out is not None and source.kind == "images":
            with self._times.measure("encode"):
                write_picture(self.out / f"{frame.name}.jpg", picture)
            self._written["drawn images (*.jpg)"] = None
        elif self.out is not None:
            if self._writer is None:
                self._writer = self._video(self.out, source, frame)
            self._writer.write(picture, frame.time)  # times its own thread, which encodes
        if self.show is not None and not self.show(picture):
            self.stopped = True
        return picture

    def _picture(self, source: Source, frame: Frame, prediction: Prediction) -> np.ndarray:
        image = displayed(frame.image)
        if prediction.track_ids is None:
            zoom = max(1, round(_SHORT_SIDE / max(image.shape[:2]))) if source.kind == "images" else 1
            legend = source.kind == "images"
            picture = draw(image, prediction, threshold=self.threshold, zoom=zoom, legend=legend)
            return picture if legend else _with_fixed_legend(picture, prediction)
        if self._trails is None:
            from vision_tasks.visualize.tracks import Trails

            self._trails = Trails()
        self._trails.update(prediction, frame.time)
        picture = draw(image, prediction, threshold=0, legend=False, trails=self._trails)
        return _with_fixed_legend(picture, prediction)

    def _video(self, out: Path, source: Source, frame: Frame) -> VideoWriter:
        from vision_tasks.inference.video.writer import VideoWriter  # loads PyAV

        path = out / f"{source.name}{self.ending}"
        file = Path(frame.source)
        sound = file if self.audio and source.kind == "video" and file.is_file() else None
        self._written[path.name] = None
        return VideoWriter(
            path,
            source.rate or _LIVE_RATE,
            codec=self.codec,
            audio_from=sound,
            pixel_aspect=getattr(source, "pixel_aspect", 1.0),
            times=self._times,
        )

    def _finish(self) -> None:
        self._trails = None
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
            self.problems += writer.problems

    def close(self) -> None:
        """Finish the video at hand, so that it plays."""
        self._finish()

    def __enter__(self) -> Drawn:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()


def _with_fixed_legend(picture: np.ndarray, prediction: Prediction) -> np.ndarray:
    """With all categories of the map, in view or not: a video's frames must keep one size."""
    known: Categories | None = None
    if prediction.panoptic is not None:
        known = prediction.panoptic.categories
    elif prediction.semantic is not None:
        known = prediction.semantic_categories or prediction.categories
    if known is None:
        return picture
    return with_legend(picture, [Entry(color, name) for name, color in zip(known.names, known.colors, strict=True)])


def check_out(out: Path, source: Source) -> None:
    """Raise `VisionTasksError` if a source's own files lie where drawn ones are to go."""
    if out.resolve() in {folder.resolve() for folder in source.folders}:
        raise VisionTasksError(
            f"{out} holds what is to be predicted: drawn files could overwrite it. Choose another --out."
        )
