"""Text tasks with more than a thousand labelled records, fixed before the first measurement.

    task      records                                                classes  at most  records
    subject   questions of medical examinations (MedMCQA's test)     6        400      2,100 or so
    who       contexts of StereoSet: whom they are about             4        400      1,357
    mail      e-mails of 2002, spam or not                           2        400      800

Neither is on the card of all-MiniLM-L6-v2. Mails are long: the first 512 tokens are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broadbase.adapt.task import Task
from broadbase.core.sources import Record
from broadbase.data.samples.sets import SAMPLES
from broadbase.demo.tasks import SUBJECTS
from broadbase.demo.text_tasks import limited, lines
from broadbase.demo.text_tasks import who as few_who

MOST = 400


def subject() -> Task:
    """Return the task: which subject a question of a medical examination is about."""
    rows = {
        name: {row["question"] for row in lines(f"MedMCQA/MedMCQA-Test/{name}.jsonl")}
        for name in SUBJECTS
    }
    return limited("subject", rows, MOST)


def who() -> Task:
    """Return the task: whether a sentence is about a gender, a profession, a race or a religion."""
    return few_who(MOST)


def mail() -> Task:
    """Return the task: whether an e-mail is spam."""
    rows: dict[str, set[str]] = {}
    for record in SAMPLES["spam"].source.records():
        if isinstance(record, Record):
            rows.setdefault(str(record.label), set()).add(record.raw)
    return limited("mail", rows, MOST)


TASKS: Mapping[str, Callable[[], Task]] = {"subject": subject, "who": who, "mail": mail}
