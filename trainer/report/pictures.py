"""Pictures inside the page: as data URIs, and no larger than a page can show."""

import base64
import io
from pathlib import Path

from PIL import Image

LARGEST_WIDTH_PX, LARGEST_HEIGHT_PX = 1600, 2400
# Files up to this size go in as they are.
SMALL_BYTES = 400_000
JPEG_QUALITY = 85


def data_uri_from_picture(path: Path) -> tuple[str, int, int]:
    """The picture `path` as a data URI, with its width and height in pixels.

    A large one is averaged down to at most 1600 px in width, and written as JPEG.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no picture.
    """
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.format == "PNG" and picture.width <= LARGEST_WIDTH_PX and len(content) <= SMALL_BYTES:
                picture.load()  # a damaged one is found here, not by the reader of the page
                return _uri("png", content), picture.width, picture.height
            return _as_jpeg(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is damaged, or no picture") from error


def _as_jpeg(picture: Image.Image) -> tuple[str, int, int]:
    rgba = picture.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    opaque.thumbnail((LARGEST_WIDTH_PX, LARGEST_HEIGHT_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    # Without subsampling, since thin coloured outlines are what is to be seen.
    opaque.save(content, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return _uri("jpeg", content.getvalue()), opaque.width, opaque.height


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
