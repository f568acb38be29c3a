"""Events: a run's log, one JSON object a line, written as things happen."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TAIL = 4096  # bytes, which hold the last line of nearly all logs


class RunLog:
    """Appends to ``path`` (None: nowhere); a line is written at once, so that a killed run leaves whole lines."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Add a line with the time, in UTC, what happened, and ``values``."""
        if self.path is None:
            return
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    def last(self) -> dict[str, Any]:
        """Return the last event, reading no more of the file than it takes; empty if there is none."""
        try:
            with open(self.path or os.devnull, "rb") as file:  # noqa: PTH123
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                lines = file.read().splitlines()
        except OSError:
            return {}
        events = (_event(line) for line in reversed(lines))
        return next((event for event in events if event), None) or (self.read() or [{}])[-1]

    def read(self) -> list[dict[str, Any]]:
        """Return the events so far; a line that is none (cut by a full disk) is passed over."""
        if self.path is None or not self.path.is_file():
            return []
        events = map(_event, self.path.read_bytes().splitlines())
        return [event for event in events if event is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line.decode(errors="replace"))
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
