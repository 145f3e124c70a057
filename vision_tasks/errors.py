"""The one exception for what a user can mend."""

from __future__ import annotations


class VisionTasksError(Exception):
    """Bad input: the message says what is wrong, where, and what to do.

    The command line prints it without a traceback and ends with exit code 2 (`--debug` shows the traceback).
    """
