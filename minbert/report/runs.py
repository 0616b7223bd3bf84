"""A run as the page needs it."""

from dataclasses import dataclass
from typing import Any

from minbert.report.task_findings import TaskFindings


@dataclass(frozen=True)
class LoggedRun:
    """A run's files, as the page needs them."""

    name: str
    args: dict[str, Any]
    log: list[dict[str, Any]]
    findings: dict[str, TaskFindings]  # by task; empty without predictions

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the log's lines of one kind, as "step" or "dev"."""
        return [line for line in self.log if line["event"] == kind]
