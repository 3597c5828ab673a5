"""Pages of TIFF files by their place, read one at a time and kept by nobody."""

import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import tifffile

from sennet_engine.errors import VolumeError

# What a truncated or damaged file makes tifffile and the codecs raise.
DECODE_ERRORS = (
    tifffile.TiffFileError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
    ZeroDivisionError, OSError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class PagePlace:
    """The file that a page lies in and its number there, from 0."""

    file: Path
    number: int


class PageFiles:
    """A context manager. One file is held open at a time, since an OME-TIFF may be spread over thousands."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._tiff: tifffile.TiffFile | None = None

    def page(self, place: PagePlace) -> tifffile.TiffPage:
        """The page with all its tags. Raises one of DECODE_ERRORS."""
        return self._opened(place.file).pages[place.number]

    def page_count(self, file: Path) -> int:
        """How many pages the chain in `file` has. Raises one of DECODE_ERRORS."""
        return len(self._opened(file).pages)

    def size(self, file: Path) -> int:
        """Bytes of `file`."""
        return int(self._opened(file).filehandle.size)

    def close(self) -> None:
        """Let go of the file that is held open."""
        if self._tiff:
            self._tiff.close()
            self._tiff = self._file = None

    def _opened(self, file: Path) -> tifffile.TiffFile:
        if self._tiff is None or file != self._file:
            self.close()
            self._tiff = tifffile.TiffFile(file)
            self._file = file
        return self._tiff

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_other_than_grey(path: Path, page: tifffile.TiffPage) -> None:
    """Raise VolumeError unless `page` is one plane of one channel in which 0 is black."""
    if page.dtype is None or page.bitspersample == 1:
        raise VolumeError(
            f"{path}: got voxels of {page.bitspersample} bit in sample format {page.sampleformat}, expected uint8, "
            f"uint16 or float32; convert the volume first"
        )
    # The tag may be missing, which tifffile reads as 0: then nothing is said, and black is what everybody means.
    photometric = page.photometric if "PhotometricInterpretation" in page.tags else tifffile.PHOTOMETRIC.MINISBLACK
    name = getattr(photometric, "name", photometric)
    if page.samplesperpixel == 1 and photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise VolumeError(
            f"{path}: says that 0 is white ({name}), expected 0 to be black; invert its grey levels, or save it with a "
            f"grey lookup table (ImageJ: Image > Lookup Tables > Grays)"
        )
    if page.samplesperpixel > 1 or photometric != tifffile.PHOTOMETRIC.MINISBLACK:
        raise VolumeError(
            f"{path}: got a colour image ({name}, {page.samplesperpixel} samples a pixel), expected one grey channel; "
            f"convert it first"
        )
    if page.imagedepth > 1:
        raise VolumeError(f"{path}: holds {page.imagedepth} planes a page, expected one; write it plane by plane")


def chain_is_whole(tiff: tifffile.TiffFile) -> bool:
    """Whether the last page found says that it is the last: tifffile stops in silence at an offset past the end."""
    form, stream = tiff.tiff, tiff.filehandle
    last = tiff.pages[-1].offset
    stream.seek(last)
    (tag_count,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
    stream.seek(last + form.tagnosize + tag_count * form.tagsize)
    (next_offset,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
    return bool(next_offset == 0)
