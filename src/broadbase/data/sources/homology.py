"""Families: sequences that share words on one diagonal, as MMseqs2 finds them (Steinegger & Soeding
2017): two words of six residues at the same distance in both are rarely there by chance.

Legend: M sequences, W words of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

WORD = 6
HITS = 2  # words on one diagonal that make two sequences relatives
LETTERS = 4  # different ones in a word: repeats (QQQQQQ) are in proteins of any descent
COMMON = 200  # a word that more sequences have tells little: only its neighbours in order are tried

Ints = NDArray[np.int64]


def families(sequences: Sequence[str]) -> Ints:
    """Return the number of each sequence's family, [M]: relatives of relatives are in it too."""
    M = len(sequences)
    word, owner, position = _words(sequences)
    order = np.lexsort((position, owner, word))
    word, owner, position = word[order], owner[order], position[order]
    seen = [np.zeros(0, np.int64)]
    for step in range(1, COMMON):
        same = np.flatnonzero(word[step:] == word[:-step])
        if not len(same):
            break
        one, other = same, same + step
        diagonal = position[one] - position[other] + (1 << 20)
        pairs = (owner[one] * M + owner[other]) * (1 << 21) + diagonal
        seen.append(pairs[owner[one] != owner[other]])
    pairs, hits = np.unique(np.concatenate(seen), return_counts=True)
    relatives = pairs[hits >= HITS] >> 21
    edges = np.stack([relatives // M, relatives % M])
    graph = coo_array((np.ones(len(relatives), bool), edges), shape=(M, M))
    components: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return components


def _words(sequences: Sequence[str]) -> tuple[Ints, Ints, Ints]:
    """Return words as numbers, whose sequence each is, and where it begins: [W] each.

    Repeats left out.
    """
    codes = [np.frombuffer(s.upper().encode(), np.uint8).astype(np.int64) % 32 for s in sequences]
    lengths = np.array([max(0, len(c) - WORD + 1) for c in codes])
    windows = [np.lib.stride_tricks.sliding_window_view(c, WORD) for c in codes if len(c) >= WORD]
    letters = np.concatenate(windows) if windows else np.zeros((0, WORD), np.int64)
    position = np.concatenate([np.arange(n) for n in lengths]) if windows else np.zeros(0, np.int64)
    word, owner = letters @ (32 ** np.arange(WORD)), np.repeat(np.arange(len(codes)), lengths)
    mixed = (np.diff(np.sort(letters, axis=1), axis=1) > 0).sum(axis=1) + 1 >= LETTERS
    return word[mixed], owner[mixed], position[mixed]
