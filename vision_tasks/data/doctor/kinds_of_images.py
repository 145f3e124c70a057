"""Kinds of findings about images: their entries in annotation files, and the image files."""

from __future__ import annotations

from vision_tasks.data.doctor.kind import Kind

IMAGES: dict[str, Kind] = {
    # entries of images
    "image_ambiguous": Kind(
        "hurts",
        "image ids are used for different files",
        "whose the annotations are is unknown: images and annotations are left out",
        "give each image an id of its own",
        breaks_from=0.01,
    ),
    "image_listed_twice": Kind("note", "images are listed twice", "the first entry counts", "delete the repetitions"),
    "image_file_shared": Kind(
        "hurts",
        "image files are listed under two ids",
        "each copy is trained without the other's objects",
        "make one entry of them: the patch does",
    ),
    "image_unknown": Kind(
        "hurts",
        "annotations name an image that is not listed",
        "they are left out",
        "add the images, or delete the annotations",
    ),
    "training_empty": Kind(
        "breaks",
        "images of training have no annotation, none of them",
        "there is nothing to learn",
        "annotate them, or see whether the file is the one that was meant",
    ),
    "split_empty": Kind(
        "hurts",
        "images of this split have no annotation, none of them",
        "nothing can be judged by it",
        "annotate them, or see whether the file is the one that was meant",
    ),
    "image_empty": Kind(
        "note",
        "images have no annotations",
        "they teach background, which is right if nothing is on them",
        "look at some of them",
    ),
    # image files
    "image_missing": Kind(
        "hurts",
        "image files are missing",
        "they are left out of training and of the metric",
        "copy them, or delete the entries: the patch does",
        breaks_from=0.5,
    ),
    "image_zero_bytes": Kind(
        "hurts",
        "image files hold nothing",
        "training takes another image in their place",
        "copy them again; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_truncated": Kind(
        "hurts",
        "image files are cut off",
        "training takes another image in their place",
        "copy them again; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_unreadable": Kind(
        "hurts",
        "image files are no images",
        "training takes another image in their place",
        "replace them; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_too_large": Kind(
        "hurts",
        "images have more pixels than are read",
        "they are refused before memory is taken for them; training takes another image in their place",
        "scale them down, or cut them: vision-tasks data tile; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_mis_sized": Kind(
        "hurts",
        "image files are of another size than the annotations state",
        "boxes lie elsewhere than their objects; training refuses such images",
        "see which size the boxes were drawn on; the patch scales them if the shape is the same",
        breaks_from=0.1,
    ),
    "image_rotated": Kind(
        "hurts",
        "images are turned by their EXIF entry",
        "viewers show them upright, tools that ignore EXIF do not: boxes fit one of them",
        "look at them; write the pixels upright and delete the entry",
    ),
    "image_cmyk": Kind("note", "images have CMYK colours", "they are converted, and colours shift", "save them as RGB"),
    "image_16_bit": Kind(
        "note",
        "images have 16 bits",
        "they are read with all their bits; tools that read 8 see black or noise",
        "nothing, if the range is used",
    ),
    "image_misnamed": Kind(
        "note",
        "images are of another format than their name's ending says",
        "they are read by what they hold; tools that go by the name fail",
        "rename them",
    ),
    "image_unlisted": Kind(
        "note",
        "files in the image folders are named by no annotation",
        "nothing is learned of them, not even that nothing is on them",
        "list them if they belong to the data, without annotations where nothing is on them",
    ),
    "image_mixed_channels": Kind("note", "images are grey among coloured ones", "they are read as RGB", "nothing"),
    "image_copied": Kind(
        "hurts", "images are the same as another of their split", "they count twice", "leave one out: the patch does"
    ),
    "image_leaked": Kind(
        "hurts",
        "images that should judge are in training, too, or nearly the same",
        "the model is judged by what it has learned by heart: scores are too good",
        "leave them out of training: the patch does",
    ),
}
