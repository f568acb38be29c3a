"""Events: a run's log, one JSON object a line, written as things happen."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


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

    def read(self) -> list[dict[str, Any]]:
        """Return the events so far; a line that is none (cut by a full disk) is passed over."""
        events = []
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    events.append(json.loads(line))
                except ValueError:
                    continue
        return [event for event in events if isinstance(event, dict)]
