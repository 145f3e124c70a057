"""Options of semantic data: where the maps lie and what their values mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from vision_tasks.config.base import FilePath, Strict

if TYPE_CHECKING:
    from vision_tasks.data.formats.semantic_files import SemanticFiles

_Byte = Annotated[int, Field(ge=0, le=255)]
_Color = tuple[_Byte, _Byte, _Byte]


class SemanticCategory(Strict):
    """One category: its value in the masks, or its colour."""

    id: Annotated[
        int | None,
        Field(
            ge=0, description="its value in masks of numbers, or its id in the JSON file; with a color: by its place"
        ),
    ] = None
    name: Annotated[str, Field(description="what it is called")]
    color: Annotated[_Color | None, Field(description="red, green, blue in masks of colours, and in drawings")] = None
    isthing: Annotated[bool, Field(description="countable things, not stuff such as sky")] = False
    values: Annotated[list[int], Field(description="more values that mean the same")] = []
    colors: Annotated[list[_Color], Field(description="more colours that mean the same")] = []

    @model_validator(mode="before")
    @classmethod
    def _is_told(cls, given: Any) -> Any:
        if isinstance(given, dict):
            unknown = [str(key) for key in given if key not in cls.model_fields]
            if unknown:
                raise ValueError(f"a category has no {', '.join(unknown)}; it has {', '.join(cls.model_fields)}")
            if given.get("name") is None:
                raise ValueError("a category needs a name")
            if given.get("id") is None and not given.get("color") and not given.get("colors"):
                raise ValueError("a category needs an id, its value in the masks, or a color")
        return given


def _form(given: Any) -> str:
    """Which form is meant, so that a mistake in one is not told as one in the others, too."""
    return (
        "list" if isinstance(given, list | tuple) else "dict" if isinstance(given, dict | SemanticCategory) else "str"
    )


_Entry = Annotated[
    Annotated[str, Tag("str")] | Annotated[SemanticCategory, Tag("dict")],
    Discriminator(lambda given: "dict" if _form(given) == "dict" else "str"),
]
_Table = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[_Entry], Tag("list")],
    Discriminator(lambda given: "list" if _form(given) == "list" else "str"),
]


class SemanticConfig(Strict):
    """Where semantic maps lie and what their values mean. A layout fills in what is not given."""

    layout: Annotated[
        Literal[
            "scenes", "folders", "camvid", "voc", "cityscapes", "cityscapes_train_ids", "ade20k", "nuclei",
            "coco_panoptic", "coco_stuff",
        ] | None,
        Field(description="a published layout, whose settings the other options replace"),
    ] = None  # fmt: skip
    path: Annotated[
        FilePath | None, Field(description="folder that all patterns start from; data.path if left out")
    ] = None
    images: Annotated[
        str | None, Field(description="pattern of the images, such as images/{split}/{stem}.* (any ending)")
    ] = None
    masks: Annotated[
        str | None,
        Field(
            description="pattern of the masks, such as masks/{split}/{stem}.png; with * several binary ones per image, "
            "with {category} one per category"
        ),
    ] = None
    panoptic: Annotated[
        str | None, Field(description="pattern of COCO panoptic JSON files; the PNG lie in a folder of the same name")
    ] = None
    annotations: Annotated[
        str | None, Field(description="pattern of COCO instances or stuff JSON files, whose objects become maps")
    ] = None
    splits: Annotated[
        dict[str, str | list[str] | Annotated[float, Field(gt=0, le=1)]] | None,
        Field(description="train, val and test: what {split} is (one or several), a list file (.txt), or a share"),
    ] = None
    categories: Annotated[
        _Table | None,
        Field(description="names in the order of their values, entries with id, name, color, ..., or a file of them"),
    ] = None
    ignore: Annotated[
        list[int | _Color] | None, Field(description="values, or colours, that count as nothing; 255 if left out")
    ] = None
    first_value: Annotated[
        int | None, Field(ge=0, description="value of the first name, 0 if left out; ADE20K counts from 1")
    ] = None
    unknown: Annotated[
        Literal["error", "ignore"] | None,
        Field(description="values that no category has: error (if left out) stops training, ignore ignores them"),
    ] = None
    reading: Annotated[
        Literal["auto", "index", "color"] | None,
        Field(description="pixels by number or by colour; auto (if left out): by colour where there are 3 channels"),
    ] = None
    background: Annotated[
        str | bool | None,
        Field(
            description="name of the category of what no object covers, made if need be; true is background, and so it "
            "is if left out; false ignores such pixels"
        ),
    ] = None
    things: Annotated[
        Literal["keep", "merge"] | None,
        Field(description="keep (if left out), or merge: all things of panoptic maps are one category, things"),
    ] = None
    multi_label: Annotated[
        bool | None, Field(description="categories may overlap: each is decided on its own; false if left out")
    ] = None

    @model_validator(mode="after")
    def _complete(self) -> SemanticConfig:
        from vision_tasks.errors import VisionTasksError

        try:
            self.files()
        except VisionTasksError as error:
            raise ValueError(str(error)) from error
        return self

    def files(self) -> SemanticFiles:
        """The settings as the reader takes them, the layout's and these together."""
        from vision_tasks.data.formats.semantic_files import semantic_files

        # None is "not given" for all: any other value replaces the layout's, also from a recipe that was written.
        given: dict[str, Any] = {
            name: value for name, value in self if name not in ("layout", "path") and value is not None
        }
        if isinstance(self.background, bool):
            given["background"] = "background" if self.background else None
        if isinstance(self.categories, list):
            given["categories"] = [
                c if isinstance(c, str) else c.model_dump(exclude_defaults=True) for c in self.categories
            ]
        return semantic_files(self.layout, **given)
