"""The ways in which an image file cannot be used."""

from __future__ import annotations

from vision_tasks.errors import VisionTasksError


class ImageError(VisionTasksError):
    """An image file that cannot be used. Training counts and skips it, prediction reports it."""


class ImageMissingError(ImageError):
    """There is no such file, or it may not be read."""


class ImageEmptyError(ImageError):
    """The file has no bytes."""


class ImageFormatError(ImageError):
    """No image, or of a kind that is not read (float pixels)."""


class ImageTruncatedError(ImageError):
    """The file is cut off or damaged."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed."""


class ImageSizeError(ImageError):
    """The image has another size than the annotations state."""


class MaskValueError(ImageError):
    """A mask has values that its table of categories lacks.

    Attributes:
        values: the values, or colours, in words.
    """

    def __init__(self, message: str, values: tuple[str, ...]) -> None:
        super().__init__(message)
        self.values = values

    def __reduce__(self) -> tuple[type[MaskValueError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.values)  # workers send it
