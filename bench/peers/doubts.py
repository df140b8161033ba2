"""The peer's way to find label errors: cleanlab, on out-of-fold probabilities and by itself.

In the peers' environment: doubts.py FOLDER

For each file of FOLDER with labels [M], chances [M,K] of models that did not see the records, and
vectors [M,F], it writes to FILE.out.npz: `quality` of labels by the chances (self-confidence),
`wrong`, the number of label issues by the chances, and `own`, the quality by its own
cross-validation of logistic regression on the vectors.
"""

import sys
from pathlib import Path

import numpy as np
from cleanlab.classification import CleanLearning
from cleanlab.count import num_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

for file in sorted(Path(sys.argv[1]).glob("*.npz")):
    given = np.load(file)
    labels, chances = given["labels"], given["chances"]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    issues = CleanLearning(model, seed=0).find_label_issues(given["vectors"], labels)
    np.savez(
        f"{file}.out",
        quality=get_label_quality_scores(labels, chances),
        wrong=num_label_issues(labels, chances, estimation_method="off_diagonal"),
        own=issues["label_quality"].to_numpy(),
    )
