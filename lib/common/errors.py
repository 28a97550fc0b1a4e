"""The exceptions that the study raises for wrong input and for what cannot be had."""


class StudyError(Exception):
    """Input, parameter or environment that the study cannot work with.

    The message is one line that names the thing at fault and the remedy.
    """


class Skipped(StudyError):
    """What does not apply to a cell or cannot be had; its row says why."""


class Unavailable(Skipped):
    """An engine that cannot be had here and now; the next run tries again."""
