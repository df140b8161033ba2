"""The run folders of a root: what a client asks for is one of them, or is not there."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException

from broadbase.run.summary import changed


class Folders:
    """The runs in `root`; a link that leads out of it is none, nor is a file behind one."""

    def __init__(self, root: Path) -> None:
        """Take the folder that holds the runs; it need not be there yet."""
        self.root = root

    def newest_first(self) -> list[Path]:
        """Return the folders of all runs, the one that wrote something last before the others."""
        runs = [path.parent for path in self.root.glob("*/config.yaml") if self._is_inside(path)]
        return sorted((run for run in runs if self._is_safe(run)), key=changed, reverse=True)

    def run(self, name: str) -> Path:
        """Return the folder of a run; HTTPException 404 where there is none of that name."""
        folder = self.root / name
        is_name = name not in ("", ".", "..") and "\0" not in name and Path(name).name == name
        if not is_name or not self._is_inside(folder / "config.yaml") or not self._is_safe(folder):
            raise HTTPException(404, f"no run is called {name[:100]!r}")
        return folder

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.is_file() and path.resolve().is_relative_to(self.root.resolve())
        except (OSError, ValueError):
            return False

    def _is_safe(self, folder: Path) -> bool:
        """Return whether no file of a run that pages read is a link out of the root."""
        root = self.root.resolve()
        links = (path for path in map(folder.joinpath, READ) if path.is_symlink())
        return all(path.resolve().is_relative_to(root) for path in links)


READ = (
    *("metrics.jsonl", "env.json", "last_error.json", "process.json", "evaluation.json", "lock"),
    *("samples.jsonl", "model", "data", "studio.log"),
)
