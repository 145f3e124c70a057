"""Moved to `vision_tasks.inference.outputs.label_png`."""

from vision_tasks.inference.outputs.label_png import mask_type as mask_type
from vision_tasks.inference.outputs.label_png import palette_of as palette_of
from vision_tasks.inference.outputs.label_png import write_mask as write_mask
