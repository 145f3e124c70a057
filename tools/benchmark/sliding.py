"""The semantic map of one large image from tiles: seconds and memory.

    python tools/benchmark/sliding.py [--side 10000] [--classes 19] [--tile 1024] [--overlap 256] [--stride 4]
        [--flip] [--scales 1] [--whole] [--batch 1] [--device cpu] [--threads 2]

The network is as cheap as can be (a strided convolution and a classifier), so that what is measured is cutting,
blending and deciding. `--stride 1` scores every pixel, as a U-Net does; `--whole` takes the image at once. Prints the
size of the image, of the map, of all scores at full size, and the most memory the process took beyond its start, image
included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.semantic import Decoder, SemanticHead
from vision_tasks.inference.predictor import Predictor
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories

CHANNELS = 4


class OneConvolution(Backbone):
    """A map from one strided convolution."""

    def __init__(self, stride: int) -> None:
        super().__init__({"C1": CHANNELS})
        self.layer = nn.Conv2d(3, CHANNELS, 3, stride, 1)

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        return [("C1", [self.layer])]


class Classifier(Decoder):
    """Scores of every cell."""

    levels = ("C1",)

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(CHANNELS, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        scores: Tensor = self.layer(features["C1"])
        return scores

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"layer.weight": (1, 1), "layer.bias": (1, 1)}


def most_memory(device: torch.device) -> int:
    """Bytes: of the process so far, or of a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--scales", type=float, nargs="*", default=[])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    categories = Categories.of([f"kind {i}" for i in range(options.classes)])
    head = SemanticHead(categories, Classifier(options.classes))
    model = VisionModel(Preprocess(resize="none"), OneConvolution(options.stride), None, {"semantic": head})
    tile = None if options.whole else options.tile
    looks = {"tile": tile, "overlap": options.overlap, "flip": options.flip, "scales": options.scales}
    ask = Predictor(model, options.device, batch_size=options.batch, **looks)
    ask(torch.zeros((3, 64, 64), dtype=torch.uint8))
    before = most_memory(ask.device)
    image = torch.randint(0, 256, (3, options.side, options.side), dtype=torch.uint8)
    start = time.perf_counter()
    found = ask(image)
    seconds, most = time.perf_counter() - start, most_memory(ask.device) - before
    assert found.semantic is not None
    pixels = options.side**2
    print(f"torch {torch.__version__}, {ask.device}, {options.threads} threads; {looks}, stride {options.stride}")
    print(f"image               {pixels * 3 / 1e9:8.2f} GB, {options.side} × {options.side}, {options.classes} classes")
    print(f"map                 {pixels * 2 / 1e9:8.2f} GB, labels up to {int(found.semantic.max())}")
    print(f"scores at full size {pixels * 4 * options.classes / 1e9:8.2f} GB")
    print(f"most memory         {most / 1e9:8.2f} GB beyond the start")
    print(f"time                {seconds:8.1f} s, {pixels / 1e6 / seconds:.1f} megapixels/s")


if __name__ == "__main__":
    main()
