"""One self-contained HTML page from a run folder."""

from masa.report.page import write_report

__all__ = ["write_report"]
