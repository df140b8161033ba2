"""Proteins of known structure: PDB files with their secondary structure, a letter a residue.

The letters are DSSP's in three classes (Kabsch & Sander 1983): H a helix, E a strand, - neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from upath import UPath

from broadbase.core.sources import Record, Reject, SourceChunk
from broadbase.data.sources.compressed import opened
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.sequences import grouped

CODES = (
    "ALA:A ARG:R ASN:N ASP:D CYS:C GLN:Q GLU:E GLY:G HIS:H ILE:I LEU:L LYS:K MET:M PHE:F PRO:P"
    " SER:S THR:T TRP:W TYR:Y VAL:V MSE:M"
)
LETTERS = dict(code.split(":") for code in CODES.split())
LONGEST = 1 << 20  # bytes of a list of states, and of a line of a PDB file
STATES = frozenset("HE-")


class StructuresConfig(FilesConfig):
    """Chains NAME.pdb.gz (or NAME.pdb) with NAME.pdb.dssp; the label has a letter a residue.

    Chains of common descent are one group (data/sources/homology.py).
    """

    name: Literal["structures"] = "structures"
    pattern: str = "**/*.pdb.dssp"

    def parts(self) -> Sequence[SourceChunk]:
        """Return the pieces that are read apart."""
        return (SourceChunk(""),)

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the records and rejects of one piece."""
        files = super().parts()
        return grouped(
            [item for file in files for item in super(StructuresConfig, self).read(file)]
        )

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        with path.open("rb") as file:
            states = file.read(LONGEST).decode("utf-8-sig", "replace").split()[:1]
        plain = path.with_suffix("")
        residues = _residues(plain if plain.is_file() else plain.with_name(f"{plain.name}.gz"))
        if not states or not set(states[0]) <= STATES:
            yield Reject(str(path), f"no line of {', '.join(sorted(STATES))}, a letter a residue")
        elif len(states[0]) != len(residues):
            yield Reject(str(path), f"{len(states[0])} letters for {len(residues)} residues")
        else:
            yield Record(residues, str(path), states[0])


def _residues(path: UPath) -> str:
    """Return the residues that have a C-alpha, in order; X where they are none of the 20."""
    residues: dict[str, str] = {}
    with opened(path) as file:
        while line := file.readline(LONGEST):
            text = line.decode("latin-1")
            if text.startswith(("ATOM", "HETATM")) and text[12:16] == " CA ":
                residues.setdefault(text[21:27], LETTERS.get(text[17:20], "X"))
            elif text.startswith("ENDMDL"):
                break
    return "".join(residues.values())
