"""Read a kit, and refuse one that is incomplete, changed, or of another version."""

from dataclasses import dataclass
from pathlib import Path

from engram_ref.oracle.cases import Vectors
from engram_ref.oracle.folder import MANIFEST, read_folder
from engram_ref.oracle.structure import KIT_FIELDS
from engram_ref.oracle.vectors import as_vectors

KIT_VERSION = 3
"""Format of a kit; it increases with every change that an older reader does not understand."""


@dataclass(frozen=True)
class Kit:
    """The content of a kit.

    vectors   its cases, with noise
    digest    sha256 of SHA256SUMS, which identifies the kit
    dialect   the dialect that it was written for; empty: all
    """

    vectors: Vectors
    digest: str
    dialect: str


def read_kit(folder: Path) -> Kit:
    """Read and check a kit; raise InputError as `read_folder`, and for an invalid case."""
    folder = Path(folder)
    manifest, arrays, digest = read_folder(folder, "kit", KIT_VERSION, KIT_FIELDS)
    return Kit(as_vectors(manifest, arrays, folder / MANIFEST), digest, manifest["dialect"])
