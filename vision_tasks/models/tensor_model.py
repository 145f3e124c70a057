"""A model as a function of tensors alone, with outputs of fixed shape: what `torch.export` takes and others run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.models.vision_model import VisionModel


class TensorModel(nn.Module):
    """Resized images in, the best detections in tensors of fixed shape out; normalising and padding are inside.

    Made for `torch.export.export(TensorModel(model), (images, image_sizes))`, of one image size or of any: with
    `dynamic_shapes={"images": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, "image_sizes": None}` and an example of which the
    coarsest map has at least two cells each way (more than 128 pixels with P7), as a length of 1 is taken for fixed.
    SSD has one size by design. Resizing stays outside: do it as `model.preprocess` says (`network_size`), then put the
    images on one canvas.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: VisionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """Predictions in pixels of the canvas.

        Args:
            images: (B, C, H, W), uint8 or float in 0..255, RGB, already resized; each starts in the top left corner,
                also if the network wants it in the middle.
            image_sizes: (B, 2) height and width of each image on the canvas; what lies beyond counts as padding.

        Returns:
            boxes (B, D, 4), labels (B, D) int64, scores (B, D), count (B,) int64, and masks (B, D, 28, 28) of models
            that have them; zeros after the first `count`. Of a model that draws maps, semantic (B, H, W) int16 or
            (B, L, H, W) bool on the canvas, padding included.
        """
        preprocess = self.model.preprocess
        stride, channels = preprocess.stride, images.shape[1]
        pixels = F.pad(images.float(), (0, -images.shape[-1] % stride, 0, -images.shape[-2] % stride))
        if preprocess.channel_order == "bgr":
            pixels = pixels.flip(1)
        pixels = preprocess.normalise(pixels, 255.0)
        padding = torch.zeros((channels, 1, 1), device=pixels.device)
        if preprocess.pad_value is not None:
            padding = preprocess.normalise(padding + preprocess.pad_value)
        y = torch.arange(pixels.shape[-2], device=images.device)[:, None] < image_sizes[:, 0, None, None]
        x = torch.arange(pixels.shape[-1], device=images.device) < image_sizes[:, 1, None, None]
        pixels = torch.where((y & x)[:, None], pixels, padding)
        centred = preprocess.resize == "letterbox" and preprocess.place == "center"
        found = self._centred(pixels, image_sizes) if centred else self.model.tensors(pixels, image_sizes)
        if "boxes" not in found:
            return found
        # As `VisionModel.predict` does at its end: some heads leave boxes that pass the border.
        height, width = image_sizes.unbind(dim=1)
        edge = torch.stack((width, height, width, height), dim=1)[:, None].to(found["boxes"])
        return {**found, "boxes": torch.minimum(found["boxes"].clamp(min=0), edge)}

    def _centred(self, pixels: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """For networks that know their images from the middle of the canvas: there and back."""
        height, width = pixels.shape[-2:]
        top, left = (height - image_sizes[:, 0]) // 2, (width - image_sizes[:, 1]) // 2
        rows = (torch.arange(height, device=pixels.device) - top[:, None]) % height
        columns = (torch.arange(width, device=pixels.device) - left[:, None]) % width
        images = torch.arange(len(pixels), device=pixels.device)[:, None, None]
        moved = pixels.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
        found = self.model.tensors(moved, image_sizes)
        real = torch.arange(found["boxes"].shape[1], device=pixels.device) < found["count"][:, None]
        boxes = found["boxes"] - torch.stack((left, top, left, top), dim=1)[:, None]
        return {**found, "boxes": boxes.where(real[..., None], 0)}
