"""vision_tasks: object detection, instance and semantic segmentation."""

__version__ = "0.1.0"
