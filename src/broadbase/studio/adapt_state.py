"""What the pages of Adapt show: tables, jobs and what is kept, read from the files of the root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import UploadFile
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from broadbase.core.errors import ConfigError
from broadbase.studio.bases import Bases
from broadbase.studio.jobs import Job, Jobs
from broadbase.studio.kept import KeptBases, predicted_rows
from broadbase.studio.tables import OPTION
from broadbase.studio.uploads import Upload, Uploads

UNSAID = ("--data NEW", "(--no-cache computes them)")  # ends of lines for those at a terminal
SHOWN = 20  # predicted rows on the page


class Adapting:
    """What the pages share: the tables, the jobs, and what is kept."""

    def __init__(self, root: Path, bases: Bases, templates: Jinja2Templates) -> None:
        """Take the root of the studio, and the bases to adapt."""
        self.root, self.bases, self.templates = root, bases, templates
        self.uploads = Uploads(root / ".studio" / "uploads")
        self.jobs = Jobs(root / ".studio" / "jobs")
        self.kept = KeptBases(root, bases.device)

    async def keep(self, file: UploadFile) -> Upload:
        """Keep a table that was sent."""
        if not file.filename:
            raise ConfigError("no file was chosen; choose one, or drop it on the page")
        return await run_in_threadpool(self.uploads.keep, file.filename, file.file)

    def job(self, name: str) -> Job | None:
        """Return the job that makes, or made, an adapted base."""
        try:
            return self.jobs.get(f"adapt-{name}")
        except HTTPException:
            return None

    def task(self, name: str) -> dict[str, Any]:
        """Return what the page of an adapted base, or of one in the making, shows."""
        job, card = self.job(name), self.kept.get(name)
        if job is None and card is None:
            raise HTTPException(404, "nothing of this name is kept")
        rows = [] if job is None else job.rows()
        few = [row["few_labels"] for row in rows if isinstance(row, dict) and "few_labels" in row]
        running = job is not None and job.running
        return {
            "name": name,
            "card": None if running else card,
            "running": running,
            "few": few,
            "classed": any(row["labels"] in (2, 5) for row in few)
            or bool(few and not few[0]["train"]),
            "results": [
                each
                for each in self.jobs.all()
                if each.about.get("of") == name and each.about["what"] != "adapt"
            ],
            **self.state(job),
        }

    def state(self, job: Job | None) -> dict[str, Any]:
        """Return how far a job is, in words without paths."""
        if job is None:
            return {"job": None, "lines": [], "progress": "", "error": ""}
        return {
            "job": job,
            "lines": [self.said(job, line) for line in job.said() if not line.endswith(UNSAID)],
            "progress": self.said(job, job.progress()),
            "error": self.said(job, job.error()),
        }

    def said(self, job: Job, words: str) -> str:
        """Return the words of a job with the names of files in place of their paths."""
        for path in job.about.get("files", ()):
            words = words.replace(path, Path(path).name)
        words = OPTION.sub("", words)
        return words.replace(f"{self.root.resolve()}/", "").replace(f"{self.root}/", "")

    def result(self, name: str) -> dict[str, Any]:
        """Return what the page of predictions, doubts or suggestions shows."""
        job = self.jobs.get(name)
        about, rows = job.about, job.rows()
        shown: Sequence[Any] = []
        if about.get("what") == "predict" and not job.running and self.predicted(job).is_file():
            stream = predicted_rows(Path(about["table"]), self.predicted(job))
            shown = [row for row, _ in zip(stream, range(SHOWN), strict=False)]
        elif about.get("what") == "doubts" and rows:
            shown = rows[-1]["doubts"]
        elif about.get("what") == "suggest" and rows:
            shown = rows[-1]
        columns = list(dict.fromkeys(key for row in shown for key in row if key != "origin"))
        running = job.running
        return {"shown": shown, "columns": columns, "running": running, **self.state(job)}

    def predicted(self, job: Job) -> Path:
        """Return the file of predictions of a job."""
        return job.folder / "predicted.csv"
