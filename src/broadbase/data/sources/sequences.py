"""Files of sequences: FASTA, SMILES and SDF."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any, Literal

from upath import UPath

from broadbase.core.extras import chemistry
from broadbase.core.sources import Record, Reject, SourceChunk
from broadbase.data.sources.compressed import opened
from broadbase.data.sources.files import MEBI, FilesConfig
from broadbase.data.sources.homology import families
from broadbase.data.sources.isolated import apart
from broadbase.data.sources.searching import Pattern, searched
from broadbase.data.sources.texts import LinesConfig, as_text

BLANKS = " \t\r\n"  # other marks that Python takes for blanks are damage
BOM = "\ufeff".encode().decode("latin-1")
LONGEST = 256 * MEBI  # letters of a sequence
ATOMS = 2000  # of a molecule


class SmilesFilesConfig(LinesConfig):
    """A molecule a line: its SMILES first, what follows a blank (a name) is left out."""

    name: Literal["smiles"] = "smiles"
    pattern: str = "**/*.smi **/*.smiles **/*.smi.gz **/*.smi.zst"

    def _line(self, origin: str, line: bytes) -> Record | Reject:
        text = as_text(origin, line)
        if isinstance(text, Reject):
            return text
        return Record(re.split("[ \t]", text.raw.strip(BLANKS), maxsplit=1)[0], origin)


class FastaConfig(FilesConfig):
    """Sequences under '>' lines; the label is what the pattern `label` finds in the header.

    A header in which it finds nothing is passed over. With `homologs` sequences of common descent
    are one group (data/sources/homology.py).
    """

    name: Literal["fasta"] = "fasta"
    pattern: str = "**/*.fasta **/*.fa **/*.faa **/*.fas **/*.fasta.gz **/*.fa.gz **/*.fasta.zst"
    label: Pattern = r"^(\S*)"
    """A pattern that is searched for in a header: its first group, or all of it, is the label."""
    homologs: bool = False
    """Whether sequences of common descent fall on one side of the split."""

    def parts(self) -> Sequence[SourceChunk]:
        """Return the pieces that are read apart."""
        return (SourceChunk(""),) if self.homologs else super().parts()

    def read(self, part: SourceChunk) -> Iterator[Record | Reject]:
        """Yield the records and rejects of one piece."""
        if not self.homologs:
            return super().read(part)
        files = super().parts()
        return grouped([item for file in files for item in super(FastaConfig, self).read(file)])

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        header, origin, residues = "", "", list[str]()
        number, length, none = 0, 0, True
        with opened(path) as raw, io.TextIOWrapper(raw, encoding="latin-1") as file:
            while line := file.readline(LONGEST + 1):  # line ends of any system
                number += 1
                text = (line.removeprefix(BOM) if number == 1 else line).strip(BLANKS)
                if text.startswith(">"):
                    yield from self._entry(origin, header, residues)
                    header, origin, residues, length = text[1:], f"{path}:{number}", [], 0
                    none = False
                elif text and none:
                    yield Reject(f"{path}:{number}", "a sequence before the first '>' line")
                    none = False
                elif origin:
                    residues.append(text)
                    length += len(text)
                if length > LONGEST:
                    yield Reject(origin, f"a sequence of over {LONGEST:,} letters")
                    origin, length = "", 0
            yield from self._entry(origin, header, residues)
        if none:
            yield Reject(str(path), "no sequence in it", empty=True)

    def _entry(self, origin: str, header: str, residues: list[str]) -> Iterator[Record | Reject]:
        if not origin:
            return
        if not (sequence := "".join(residues)):
            yield Reject(origin, f"no sequence under {header[:40]!r}", empty=True)
        elif match := searched(self.label, header):
            yield Record(sequence, origin, (match[1] if match.re.groups else match[0]) or None)


class SdfConfig(FilesConfig):
    """Molecules of SD files as SMILES; the label is the property `label`."""

    name: Literal["sdf"] = "sdf"
    pattern: str = "**/*.sdf **/*.sdf.gz **/*.sd **/*.mol"
    label: str | None = None
    """The property that is the label; None: no labels."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        chemistry()
        return apart(self.decoded, path, self.wait, (__name__, "rdkit.Chem"))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the molecules of a file, read by this process."""
        chem, number = chemistry(), 0
        with opened(path) as file:
            for number, molecule in enumerate(chem.ForwardSDMolSupplier(_Lines(file)), 1):
                origin = f"{path}:molecule {number}"
                try:
                    yield self._molecule(chem, origin, molecule)
                except (ValueError, RuntimeError) as error:  # what RDKit finds out late
                    yield Reject(origin, f"not a molecule that RDKit can read: {error}")
        if not number:
            yield Reject(str(path), "no molecule in it", empty=not path.stat().st_size)

    def _molecule(self, chem: Any, origin: str, molecule: Any) -> Record | Reject:
        if molecule is None:
            return Reject(origin, "not a molecule that RDKit can read")
        if molecule.GetNumAtoms() > ATOMS:
            return Reject(origin, f"{molecule.GetNumAtoms():,} atoms, more than {ATOMS:,}")
        has_label = self.label and molecule.HasProp(self.label)
        label = molecule.GetProp(self.label).strip() if has_label else None
        return Record(chem.MolToSmiles(molecule), origin, label or None)


class _Lines:
    """A file whose lines end in LF, also where they end in CR alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.old: bool | None = None

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        if self.old is None:
            self.old = b"\r" in block and b"\n" not in block
        return block.replace(b"\r", b"\n") if self.old else block


def grouped(items: Sequence[Record | Reject]) -> Iterator[Record | Reject]:
    """Yield the same records, each with its family as its group."""
    records = [item for item in items if isinstance(item, Record)]
    family = dict(zip((r.origin for r in records), families([r.raw for r in records]), strict=True))
    for item in items:
        yield replace(item, group=str(family[item.origin])) if isinstance(item, Record) else item
