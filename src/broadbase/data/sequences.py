"""Files of sequences: FASTA, SMILES and SDF."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from upath import UPath

from broadbase.core.contracts import Record, Reject
from broadbase.core.optional import chemistry
from broadbase.data.sources import FilesConfig, LinesConfig, as_text, opened


class SmilesFilesConfig(LinesConfig):
    """A molecule a line: its SMILES first, what follows a blank (a name) is left out."""

    name: Literal["smiles"] = "smiles"
    pattern: str = "**/*.smi **/*.smiles **/*.smi.gz **/*.smi.zst"

    def _line(self, place: str, line: bytes) -> Record | Reject:
        text = as_text(place, line)
        return text if isinstance(text, Reject) else Record(text.raw.split()[0], place)


class FastaConfig(FilesConfig):
    """Sequences under '>' lines; the label is the header's first word."""

    name: Literal["fasta"] = "fasta"
    pattern: str = "**/*.fasta **/*.fa **/*.faa **/*.fasta.gz **/*.fa.gz **/*.fasta.zst"

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        header, place, residues = "", "", list[str]()
        with opened(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode("latin-1").strip()
                if text.startswith(">"):
                    if place:
                        yield _entry(place, header, residues)
                    header, place, residues = text[1:], f"{path}:{number}", []
                elif text and not place:
                    yield Reject(f"{path}:{number}", "a sequence before the first '>' line")
                    return
                else:
                    residues.append(text)
        if place:
            yield _entry(place, header, residues)


class SdfConfig(FilesConfig):
    """Molecules of SD files as SMILES; the label is the property `label`."""

    name: Literal["sdf"] = "sdf"
    pattern: str = "**/*.sdf **/*.sdf.gz"
    label: str | None = None

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        chem = chemistry()
        with opened(path) as file:
            for number, found in enumerate(chem.ForwardSDMolSupplier(file), 1):
                place = f"{path}:molecule {number}"
                if found is None:
                    yield Reject(place, "not a molecule that RDKit can read")
                elif self.label and not found.HasProp(self.label):
                    yield Reject(place, f"no property `{self.label}`")
                else:
                    label = found.GetProp(self.label) if self.label else None
                    yield Record(chem.MolToSmiles(found), place, label)


def _entry(place: str, header: str, residues: list[str]) -> Record | Reject:
    if not (sequence := "".join(residues)):
        return Reject(place, f"no sequence under {header[:40]!r}", empty=True)
    return Record(sequence, place, header.split()[0] if header.split() else None)
