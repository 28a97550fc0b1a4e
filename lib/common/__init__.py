"""What every room uses: errors, files, seeds, progress, processes, fingerprints, statistics."""

import lazy_loader

EXPORTS = {
    "errors": ["StudyError"],
    "files": ["read_json", "read_named", "resolve"],
    "machine": ["cpu_flags"],
    "openvino": ["read_ir"],
    "processes": ["launch"],
    "progress": ["person_watches"],
    "statistics": ["holm", "wilson_interval"],
    "tensors": ["load_tensors"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
