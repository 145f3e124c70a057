"""Sequences that are the same on every machine, and a tracker of ten lines, to make results of."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.formats.mot import MotRows, read_mot
from vision_tasks.metrics.tracking_frames import iou


class Chance:
    """Lehmer's generator: no library's next version draws other numbers."""

    def __init__(self, seed: int) -> None:
        self.state = seed * 7919 + 12345

    def below(self, n: int) -> int:
        """A number of 0..n-1."""
        self.state = self.state * 48271 % 0x7FFFFFFF
        return self.state // 16 % n


def scene(seed: int, frames: int, objects: int, missed: int, switched: int, wrong: int) -> tuple[str, str]:
    """Text of a truth and a result file: objects that walk, come, go and are hidden, and tracks that err.

    Args:
        seed: of chance. frames: of the sequence. objects: number of them.
        missed, switched: per cent of boxes that no track has, or where the track changes. wrong: most boxes a frame
            that lie on nothing.
    """
    chance = Chance(seed)
    box = [[chance.below(200), chance.below(200), 20 + chance.below(40), 20 + chance.below(40)] for _ in range(objects)]
    step = [(chance.below(9) - 4, chance.below(9) - 4) for _ in range(objects)]
    kind = [(1, 1, 1, 1, 2, 3, 6, 7, 8, 12)[chance.below(10)] for _ in range(objects)]
    judged = [int(chance.below(10) > 0) for _ in range(objects)]
    first, last = [[chance.below(frames) for _ in range(objects)] for _ in range(2)]
    track = list(range(100, 100 + objects))
    truth, result = [], []
    for t in range(frames):
        given = set()
        for o in range(objects):
            box[o][:2] = [box[o][0] + step[o][0], box[o][1] + step[o][1]]
            if not min(first[o], last[o]) <= t <= max(first[o], last[o]) or chance.below(20) == 0:
                continue
            truth.append([t + 1, 3 * o + 1, *box[o], judged[o], kind[o], 1])
            if chance.below(100) < switched:
                other = chance.below(objects + 3)
                if other < objects:
                    track[o], track[other] = track[other], track[o]
                else:
                    track[o] = 1000 + 10 * t + o
            off = [chance.below(13) - 6 for _ in range(4)]
            if chance.below(100) < missed or track[o] in given:
                continue
            given.add(track[o])
            result.append([t + 1, track[o], *(a + b for a, b in zip(box[o], off, strict=True)), 1, -1, -1, -1])
        for i in range(chance.below(wrong + 1)):
            place = [chance.below(200), chance.below(200), 10 + chance.below(50), 10 + chance.below(50)]
            result.append([t + 1, 5000 + i, *place, 1, -1, -1, -1])
    texts = ["".join(",".join(map(str, row)) + "\n" for row in rows) for rows in (truth, result)]
    return texts[0], texts[1]


def linked(found: MotRows, frames: int) -> str:
    """Detections of the first frames as tracks: each goes on with the id of the box before that it overlaps most."""
    lines, before, ids, fresh = [], np.zeros((0, 4)), [], 1
    for frame, rows in found.by_frame():
        if frame >= frames:
            break
        boxes = found.xywh[rows]
        overlap = iou(boxes, before)
        given = []
        for i in range(len(boxes)):
            best = int(overlap[i].argmax()) if overlap.shape[1] else -1
            if best >= 0 and overlap[i, best] > 0.5:
                given.append(ids[best])
                overlap[:, best] = 0
            else:
                given.append(fresh)
                fresh += 1
        before, ids = boxes, given
        cells = zip(given, boxes.tolist(), strict=True)
        lines += [f"{frame + 1},{track},{','.join(map(repr, box))},1,-1,-1,-1\n" for track, box in cells]
    return "".join(lines)


def rows_of(folder, text: str, length: int | None = None) -> MotRows:
    """The rows of a text, through a file."""
    path = folder / "rows.txt"
    path.write_text(text, encoding="ascii")
    return read_mot(path, length)
