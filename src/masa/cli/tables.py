"""Tables in the terminal, in one style."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from masa.evaluation.log_probe import percent
from masa.evaluation.log_summary import Share


def table(title: str, *columns: str, tight: bool = False) -> Table:
    """An empty table; its first column is text, the others are numbers."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, collapse_padding=tight
    )
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    return made


def share_text(share: Share) -> str:
    """A share with its interval, `-` where there is none."""
    if share.share is None or share.low is None or share.high is None:
        return "-"
    low, high = (percent(bound).removesuffix(" %") for bound in (share.low, share.high))
    return f"{percent(share.share)} ({low}..{high})"


def printable(text: str) -> str:
    """One line without what could move a terminal's cursor or turn its text around: a model may write anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def wide_console(*, stderr: bool = False) -> Console:
    """Standard output, or error, wide enough for every column even where a pipe says 80."""
    console = Console(highlight=False, stderr=stderr)
    return console if console.width >= 120 else Console(highlight=False, stderr=stderr, width=120)
