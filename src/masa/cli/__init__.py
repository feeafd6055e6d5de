"""The command line: composes training, evaluation and report, which know nothing of each other."""

from masa.cli.app import main

__all__ = ["main"]
