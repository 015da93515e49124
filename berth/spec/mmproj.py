"""`inference.llamacpp.mmproj`: the projector, the file with which a model takes images.

What the plan has to know of it stands in the model's entry, so `{}` is enough where that names a file.
"""

from __future__ import annotations

from berth.spec import formats
from berth.spec.nodes import Field, Struct
from berth.spec.values import Integer, Text

MOST_IMAGE_TOKENS = 2**16
"""More than the largest image that any projector of the engine makes tokens of."""

MMPROJ = Struct(
    {
        "file": Field(
            Text(formats.GGUF_FILE),
            "Path of the projector's GGUF file in the source of the weights. Absent: the name in the model's "
            "entry.",
        ),
        "sha256": Field(Text(formats.SHA256), "SHA-256 of the file, checked before it is served."),
        "maxImageTokens": Field(
            Integer(1, MOST_IMAGE_TOKENS),
            "Tokens that one image becomes at most, for projectors whose images differ in size. Absent: as "
            "many as the projector makes.",
        ),
    },
    hints={
        "hf": "remove it: the file is in the source of the weights",
        "image": "remove it: the file is in the source of the weights",
        "pvc": "remove it: the file is in the source of the weights",
        "repository": "remove it: the file is in the source of the weights",
        "revision": "remove it: the file is in the source of the weights",
        "url": "remove it: the file is in the source of the weights",
        "imageMaxTokens": "write `maxImageTokens`",
        "name": "write `file`",
        "path": "write `file`",
    },
)
