"""Animations, several pictures in one file with their times: GIF, WebP and PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from occlufix_vcam.core.errors import ConfigError, DeviceError
from occlufix_vcam.core.media.picture_facts import ANIMATED, LARGEST_PX, READABLE, PictureFacts, picture_facts, quiet
from occlufix_vcam.core.media.picture_writer import KINDS, options_of, to_pillow
from occlufix_vcam.core.media.pictures import Pixels, pixels_of


@dataclass(frozen=True, slots=True)
class Animation:
    """Upright images as BGR or BGRA, each with its time in milliseconds; `loops` is 0 for ever, None for once.

    `has_still`: the first image is what programs show that know no animations, and no part of it.
    """

    images: Sequence[Pixels]
    times: Sequence[float]
    loops: int | None
    has_still: bool
    facts: PictureFacts


def is_animation(path: Path) -> bool:
    """Whether it is one by its content. Raises CameraNotFound, DeviceError."""
    return picture_facts(path).is_animation


def read_animation(path: Path) -> Animation:
    """Raises CameraNotFound, or DeviceError if it is unreadable or too large to decode."""
    facts = picture_facts(path)
    if facts.size[0] * facts.size[1] * facts.frames > LARGEST_PX:
        raise DeviceError(
            f"{path} holds {facts.frames} images of {facts.size[0]}x{facts.size[1]} pixels, more than can be read at "
            f"once ({LARGEST_PX / 1e6:.0f} million)",
            "convert it to a film first",
        )
    images, times = [], []
    try:
        with quiet(), Pillow.open(path, formats=READABLE) as file:
            for number in range(facts.frames):
                file.seek(number)
                file.load()
                images.append(facts.upright(pixels_of(file)))
                times.append(float(file.info.get("duration", 0)))
            told: dict[Any, Any] = dict(file.info)
            return Animation(images, times, told.get("loop"), bool(told.get("default_image")), facts)
    except Exception as error:
        raise DeviceError(f"{path} is not a readable animation", "convert it to a film") from error


def check_animation_name(path: Path) -> None:
    """Raises ConfigError unless it names a file that can store an animation."""
    if KINDS.get(path.suffix.lower()) not in ANIMATED:
        raise ConfigError(f"{path} cannot store an animation", "use an OUT that ends in .gif, .webp or .png")


def encode_animation(animation: Animation, suffix: str) -> bytes:
    """In the format of `suffix`, lossless except for GIF's 256 colours an image."""
    kind = KINDS[suffix.lower()]
    first, *others = (to_pillow(image) for image in animation.images)
    options = options_of(kind, animation.facts)
    if animation.loops is not None:
        options["loop"] = animation.loops
    if kind == "PNG" and animation.has_still:
        options["default_image"] = True
    if kind == "GIF" and any(image.ndim == 3 and image.shape[2] == 4 for image in animation.images):
        options["disposal"] = 2  # else the image before shows where one is transparent
    data = io.BytesIO()
    times = list(animation.times[1:] if options.get("default_image") else animation.times)
    first.save(data, kind, save_all=True, append_images=others, duration=times, **options)
    return data.getvalue()
