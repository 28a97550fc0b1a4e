"""Run every benchmark of this folder in turn."""

from importlib import import_module
from pathlib import Path

for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
    module = import_module(f"benchmarks.{path.stem}")
    if hasattr(module, "main"):
        print(f"\n{module.__doc__.splitlines()[0]}\n", flush=True)
        module.main()
