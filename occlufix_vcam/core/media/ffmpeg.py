"""FFmpeg, through PyAV: 100 MB that only films and recordings need, so an extra brings it.

Importing this module, or one that needs it, raises ConfigError where PyAV is missing.
"""

from __future__ import annotations

from engines.installing import install_extra
from occlufix_vcam.core.errors import ConfigError

__all__ = ["av", "reformatter"]

try:
    import av
    from av.video import reformatter
except ImportError as error:
    raise ConfigError(
        f"films and recordings need PyAV, which cannot be loaded: {error}",
        f"install it: {install_extra('films')}",
        code="no_films",
        command=install_extra("films"),
    ) from error
