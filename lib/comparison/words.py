"""Lists and counts in words."""


def listed(names: list[str]) -> str:
    """Return `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(n: int, noun: str) -> str:
    """Return `1 model`, `2 models`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def capitalized(text: str) -> str:
    """Return the text with a capital first letter and the rest as it is."""
    return text[:1].upper() + text[1:]
