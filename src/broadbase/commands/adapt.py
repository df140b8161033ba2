"""The command `adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadbase.commands import work
from broadbase.commands.options import WHERE, Cached, Json, ModelFolder, not_empty

Modality = Annotated[str | None, typer.Option(help="The modality of the records.")]
Method = Annotated[
    str,
    typer.Option(
        help="The method: probe, knn, centroids, names, prompt, soft_prompt, finetune, lora,"
        " continue, retrieve, one from outside, or auto, which selects one of several."
    ),
]
TrainSize = Annotated[
    int | None,
    typer.Option(min=0, help="Labelled records to train on; by default all but the test."),
]
TestSize = Annotated[
    int | None,
    typer.Option(min=2, help="Labelled records to test on; by default a fifth, at most 500."),
]
Splits = Annotated[int, typer.Option(min=2, help="Random splits, each with its own random init.")]
OneOfData = Annotated[
    str | None, typer.Option(metavar="PATH", callback=not_empty, help=f"Labelled records: {WHERE}.")
]
Train = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Instead of --data: the records to train on, with --test."),
]
Validation = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="With --train: more of them; methods choose by CV of both."),
]
Test = Annotated[
    str | None, typer.Option(metavar="PATH", help="With --train: the records to test on.")
]
Unlabelled = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Records without labels, for centroids and continue."),
]
Group = Annotated[
    str | None, typer.Option(help="A field; records with one value stay on one side of a split.")
]
Time = Annotated[
    str | None, typer.Option(help="A field of numbers or dates; the newest records are tested on.")
]
KindName = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="What labels are: classes, numbers, several, per-token, generation; else guessed.",
    ),
]
Field = Annotated[str, typer.Option(help="The field that holds the text.")]
Second = Annotated[
    str | None,
    typer.Option(help="The field of the second text: a record is then a pair of two texts."),
]
Label = Annotated[str, typer.Option(help="The field that holds the label.")]
Regression = Annotated[bool, typer.Option(help="Predict numbers, scored by R2.")]
PerToken = Annotated[bool, typer.Option(help="A label has a letter for each token.")]
Exact = Annotated[
    bool, typer.Option(help="Generate texts, scored by exact match instead of the F1 of words.")
]
Macro = Annotated[bool, typer.Option(help="Score by macro-F1: every class counts alike.")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--class-weights",
        metavar="balanced|CLASS=WEIGHT",
        help="How much a record of a class counts in learning; repeat it for several classes.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting of the method; of finetune: steps, batch, lr, weight_decay,"
        " layer_decay, only_head, temperature; of lora: adapter (lora, dora or ia3),"
        " adapter.rank, adapter.targets, steps, batch, lr; of names: template, phrases.CLASS; of"
        " prompt: template, verbalizer.CLASS, shots, choice, orders, normalise, calibrate, by; of"
        " centroids: rounds, weight; of continue: then, objective, steps, batch, tokens, lr,"
        " hidden; of retrieve: index, then, passages, weight, least; of auto: candidates,"
        " repeats, budget.",
    ),
]
Baselines = Annotated[bool, typer.Option(help="Compare with random init and hand-made features.")]
FewLabels = Annotated[
    bool, typer.Option(help="First show the scores with no, 2, 5, 20 and all labels of a class.")
]
Out = Annotated[Path | None, typer.Option(help="The folder to save the adapted base in.")]
CopyBase = Annotated[
    bool, typer.Option(help="Copy the base into --out, instead of keeping only its path.")
]


def adapt(
    model: ModelFolder,
    data: OneOfData = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    unlabelled: Unlabelled = None,
    modality: Modality = None,
    method: Method = "probe",
    train_size: TrainSize = None,
    test_size: TestSize = None,
    splits: Splits = 5,
    field: Field = "text",
    second: Second = None,
    label: Label = "label",
    group: Group = None,
    time: Time = None,
    kind: KindName = None,
    regression: Regression = False,
    per_token: PerToken = False,
    macro: Macro = False,
    exact: Exact = False,
    class_weights: Weights = None,
    settings: Settings = None,
    baselines: Baselines = True,
    few_labels: FewLabels = False,
    out: Out = None,
    copy_base: CopyBase = False,
    cache: Cached = True,
    as_json: Json = False,
) -> None:
    """Adapt a base to a labelled task: learn, save, and say how good it is.

    The score is that of held-out records, over several splits; --out saves what is learned from all
    labelled records, for `predict`. At most 1,024 tokens of a record are read.
    """
    named = work.labelled_data.kind_named(
        kind, regression=regression, per_token=per_token, macro=macro, exact=exact
    )
    where = (data, train, validation, test, unlabelled, field, second, label, group, time)
    with work.cache.embeddings(cache):
        work.adapt.adapt(
            model,
            work.labelled_data.LabelledData(*where),
            modality,
            method,
            named,
            train_size=train_size,
            test_size=test_size,
            splits=splits,
            macro=macro,
            class_weights=class_weights or (),
            settings=settings or (),
            baselines=baselines,
            few_labels=few_labels,
            out=out,
            copy_base=copy_base,
            as_json=as_json,
        )
