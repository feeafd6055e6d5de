"""Self-contained HTML pages: of a run, from its folder, and of a comparison."""

from masa.report.comparison import write_comparison
from masa.report.page import write_report

__all__ = ["write_comparison", "write_report"]
