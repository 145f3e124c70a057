"""sheet.jpg: some of the frames, drawn, on one page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.base import Table

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.inference.outputs.result import Result

MOST = 64
"""Pictures on the page. Of more frames every second, fourth, ... is shown, 32 or more of them."""

CELL = 320
"""Side of a picture in pixels."""


class Sheet(Table):
    """The page; 64 small pictures are held, however many frames there are."""

    name = "sheet.jpg"

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._frames, self._step = 0, 1
        self._kept: list[tuple[tuple[int, ...], np.ndarray]] = []
        self._pictures: list[np.ndarray] = []

    def record(self, result: Result) -> None:
        """Draw and keep the frame if it is its turn; `late` gives what was kept.

        Raises:
            VisionTasksError: the frame is the file that the page would replace.
        """
        from vision_tasks.visualize.contact_sheet import contact_sheet
        from vision_tasks.visualize.drawing import draw

        path = self.out / self.name
        if Path(result.frame.source).name == self.name and Path(result.frame.source).resolve() == path.resolve():
            raise VisionTasksError(
                f"{path} is among what is predicted, and the page of frames would replace it. Choose another --out, or "
                "remove it if it is the page of an earlier run."
            )
        number, self._frames = self._frames, self._frames + 1
        if number % self._step:
            return
        picture = result.drawn
        if picture is None:
            picture = draw(result.frame.image, result.prediction, threshold=0.0)
        self._kept.append((result.order, contact_sheet([picture], cell=CELL)))
        if len(self._kept) > MOST:
            self._kept = self._kept[::2]
            self._step *= 2

    def late(self) -> list[tuple[tuple[int, ...], Any]]:
        """The pictures."""
        return [(order, _coded(picture)) for order, picture in self._kept]

    def open(self) -> None:
        """Nothing: the file is written at the end."""

    def write(self, record: Any) -> None:
        """Add a picture."""
        import cv2
        import numpy as np

        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(record), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        self._pictures.append(pixels[..., ::-1])

    def finish(self) -> None:
        """Write the page, if there is a picture."""
        from vision_tasks.visualize.contact_sheet import contact_sheet
        from vision_tasks.visualize.picture import write_picture

        if not self._pictures:
            return
        every = -(-len(self._pictures) // MOST)
        write_picture(self.out / self.name, contact_sheet(self._pictures[::every], cell=CELL))
        self.written = [self.name]

    def discard(self) -> None:
        """Nothing is there before the end."""


def _coded(picture: np.ndarray) -> str:
    """As PNG, in letters that JSON takes."""
    import cv2

    return base64.b64encode(cv2.imencode(".png", picture[..., ::-1])[1].tobytes()).decode()
