"""What the endpoints need besides the daemon: sessions, preview, events, builds; made and closed together."""

from __future__ import annotations

from dataclasses import dataclass

from occlufix_vcam.control.builds import Builds
from occlufix_vcam.control.events import Events, Topic
from occlufix_vcam.control.preview_stream import PreviewStream
from occlufix_vcam.control.sessions import Sessions
from occlufix_vcam.runtime.daemon import Daemon

#: What of the status is told when it changes; the rest are figures, which always do.
STATUS_SIGNS = (
    *("state", "enabled", "camera", "camera_open", "size", "sinks"),
    *("faces", "restoring", "recognised", "recording", "readers", "trouble", "engine"),
)


@dataclass(frozen=True, slots=True)
class Services:
    """Used in the event loop's thread."""

    sessions: Sessions
    pictures: PreviewStream
    events: Events
    builds: Builds

    @classmethod
    def of(cls, daemon: Daemon, sessions: Sessions) -> Services:
        builds = Builds()
        topics = {
            "status": Topic(lambda: dict(daemon.status()), STATUS_SIGNS),
            "settings": Topic(lambda: daemon.settings.model_dump(mode="json")),
            "builds": Topic(lambda: dict(builds.status())),
            "enrolment": Topic(lambda: {"enrolment": daemon.enrollments.status()}),
        }
        return cls(sessions, PreviewStream(daemon.broadcast, daemon.watched), Events(topics), builds)

    def close(self) -> None:
        """Ends the streams, and deletes links that were never opened."""
        self.sessions.close()
        self.events.close()
        self.pictures.close()
