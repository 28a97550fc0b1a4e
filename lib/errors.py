"""The exceptions that the study raises for wrong input and for what cannot be had."""


class StudyError(Exception):
    """Input, parameter or environment that the study cannot work with.

    The message is one line that names the thing at fault and the remedy.
    """


class Skipped(StudyError):
    """An engine that cannot be had here; its cells are reported with the reason."""
