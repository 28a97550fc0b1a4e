"""The one exception that the study raises for wrong input."""


class StudyError(Exception):
    """Input, parameter or environment that the study cannot work with.

    The message is one line that names the thing at fault and the remedy.
    """
