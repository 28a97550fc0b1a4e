"""Where the repository is, and what relative paths in the parameters mean."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def resolve(path: Path | str) -> Path:
    """Return a path from the parameters; a relative one starts at the repository's root."""
    return ROOT / Path(path).expanduser()
