"""The timings of kernels, kept in a file from one build to the next: a build that finds them takes a fraction."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sennet_engine.tensorrt.products import Product


@dataclass(frozen=True)
class TimingCache:
    """The cache of one build; without a `path` nothing is kept."""

    config: Any
    path: Path | None
    warnings: tuple[str, ...] = ()

    def save(self) -> None:
        """Write what the build has timed. The file appears whole. Raises OSError where it cannot be written."""
        if self.path is None:
            return
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            partial.write_bytes(bytes(self.config.get_timing_cache().serialize()))
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)


def open_timing_cache(config: Any, path: Path | None, *, product: Product) -> TimingCache:
    """Give the builder's `config` the timings in the file `path`, if there are any.

    A file that is damaged, or from another version or GPU, is not used and will be replaced: a warning says so.
    """
    if path is None:
        return TimingCache(config, None)
    if not product.kind.has_timing_cache:
        return TimingCache(config, None, (f"{product.kind.title} has no timing cache: {path} is not used",))
    kept = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(kept)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return TimingCache(config, path)
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    warning = f"{path}: is damaged, or from another version or GPU; kernels are timed anew and it is replaced"
    return TimingCache(config, path, (warning,))
