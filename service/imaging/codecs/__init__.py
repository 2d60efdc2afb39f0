"""Pictures in and out: the only place that decodes, frames or encodes pixels, for serving and training alike.

Errors, all subclasses of ImageError, carry the HTTP status that the service answers with:

    ImageError
    +-- BrokenImageError       400  empty, truncated or corrupt
    +-- ImageTooLargeError     413  more pixels than allowed
    +-- UnsupportedImageError  415  not a picture, or of a kind that is not accepted
    +-- FramingError           422  a sound picture that cannot be used as a framed face
    +-- UnencodableError       422  a picture that the requested format cannot hold
"""

from service.imaging.codecs.decoding import (
    ACCEPTED_FORMATS,
    decode,
    decode_marked,
    decode_photo,
    decode_preview,
    ends_early,
    kind_of,
    may_end_early,
    size_of,
)
from service.imaging.codecs.encoding import QUALITY, OutputFormat, encode, encode_photo, format_of, marked
from service.imaging.codecs.framing import Box, Frame, crop_resize, framed_face, grid, resample
from service.imaging.codecs.photo import Photo

__all__ = [
    "ACCEPTED_FORMATS",
    "QUALITY",
    "Box",
    "Frame",
    "OutputFormat",
    "Photo",
    "crop_resize",
    "decode",
    "decode_marked",
    "decode_photo",
    "decode_preview",
    "encode",
    "encode_photo",
    "ends_early",
    "format_of",
    "framed_face",
    "grid",
    "kind_of",
    "marked",
    "may_end_early",
    "resample",
    "size_of",
]
