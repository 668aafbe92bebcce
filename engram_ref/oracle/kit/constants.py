"""Constants of the dialects: multipliers, primes, offsets and canonical maps as raw files, and configurations."""

import numpy as np

from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.oracle.encoding import one_per_line, resolved
from engram_ref.oracle.kit.plain import configuration_text, raw_files
from engram_ref.text.maps import KNOWN_VOCABULARIES, load_map

FOLDER = "constants"


def constant_files(configs: list[EngramConfig]) -> dict[str, bytes]:
    """Return {path: content} of the constants of some configurations; a map that begins a longer one is not stored."""
    entries = {config.name: resolved(config) for config in configs}
    files = {f"{FOLDER}/configurations.json": one_per_line(entries)}
    for config in configs:
        addressing = addressing_of(config)
        files[f"{FOLDER}/{config.name}/configuration.txt"] = configuration_text(entries[config.name])
        files |= raw_files({f"layer-{layer}.{name}": getattr(addressing, name)[layer] for layer in config.layer_ids
                            for name in ("multipliers", "primes", "offsets")}, f"{FOLDER}/{config.name}")[0]
    maps = {config.vocabulary: load_map(config.vocabulary) for config in configs
            if config.vocabulary in KNOWN_VOCABULARIES}
    for vocabulary, canonical in maps.items():
        longer = [other[: len(canonical)] for other in maps.values() if len(other) > len(canonical)]
        if not any(np.array_equal(canonical, start) for start in longer):
            files |= raw_files({"canonical": canonical}, f"{FOLDER}/{vocabulary}")[0]
    return files
