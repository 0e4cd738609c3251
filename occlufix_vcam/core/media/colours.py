"""Colours of films: between YUV as films store it and BGR, by the same matrix there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from engines.contract import Image
from occlufix_vcam.core.media.ffmpeg import av, reformatter

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

Colorspace, Interpolation = reformatter.Colorspace, reformatter.Interpolation

#: Codes of ITU-T H.273, of those matrices that the converter knows. It reads 5 and 6 (BT.601) alike.
BT709 = 1
_MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
_MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}
#: Without these, each way makes an image two levels darker.
_EXACT = Interpolation.BILINEAR.value | Interpolation.ACCURATE_RND.value | Interpolation.FULL_CHR_H_INT.value
#: Players take an untagged film of at least this height as HD.
_HD_HEIGHT = 720


@dataclass(frozen=True, slots=True)
class ColourTags:
    """How a film's numbers become light, in codes of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int

    def put_on(self, encoder: VideoCodecContext) -> None:
        encoder.colorspace, encoder.color_primaries, encoder.color_trc = self.matrix, self.primaries, self.transfer
        encoder.color_range = reformatter.ColorRange.MPEG.value


#: Of a recording, whatever its size: tagged, so that no player has to guess.
HD = ColourTags(BT709, BT709, BT709)


def tags_of(frame: av.VideoFrame) -> ColourTags:
    """Tags of a decoded frame. A missing or unknown matrix becomes the one that players assume at this height."""
    guessed = BT709 if frame.height >= _HD_HEIGHT else 6
    matrix = int(frame.colorspace)
    return ColourTags(matrix if matrix in _MATRICES else guessed, int(frame.color_primaries), int(frame.color_trc))


class ColourConverter:
    """Converts frames of one film; `tags` are those of its first frame."""

    def __init__(self, tags: ColourTags) -> None:
        self._matrix = _MATRICES[tags.matrix]
        self._from_yuv, self._to_yuv = reformatter.VideoReformatter(), reformatter.VideoReformatter()

    def to_bgr(self, frame: av.VideoFrame, size: tuple[int, int]) -> Image:
        """`frame` scaled to `size` (width, height): height x width x 3 uint8 BGR."""
        converted = self._from_yuv.reformat(
            frame, *size, format="bgr24", src_colorspace=self._matrix, interpolation=_EXACT
        )
        return cast(Image, converted.to_ndarray())

    def to_yuv(self, image: Image, pixel_format: str) -> av.VideoFrame:
        """Limited range, which every player reads right."""
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24")
        return self._to_yuv.reformat(frame, format=pixel_format, dst_colorspace=self._matrix, interpolation=_EXACT)
