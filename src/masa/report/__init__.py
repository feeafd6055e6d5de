"""Self-contained HTML pages: of a run, from its folder, of a comparison and of a probe."""

from masa.report.comparison import write_comparison
from masa.report.page import write_report
from masa.report.probe import write_probe

__all__ = ["write_comparison", "write_probe", "write_report"]
