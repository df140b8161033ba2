"""1, 2 and 4 gloo ranks (FSDP2) give one process's losses, from the same samples.

Two launches are torchrun's; all other processes begin where their imports are done.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from broadbase.run.run import Run
from support.programs import ranks, run
from support.recipes import small

WORLDS = (1, 2, 4)
MANY = [2, pytest.param(4, marks=pytest.mark.slow)]
EXPERTS = {"name": "experts", "hidden_width": 64, "num_experts": 4}
PARTS: dict[str, Any] = {
    "causal": {"objective": {"name": "causal"}, "sources": ["text", "code"]},
    "masked": {
        "objective": {"name": "masked"},
        "sources": ["text", "code", "molecule", "image"],
        "scale": 0.5,
    },
}
CASES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "causal": ("bytes", None),
    "masked": ("bert", None),
    "denoising": ("t5", None),  # with experts in its encoder
    "mae": ("mae", None),
    "dino": ("dino", None),  # with a twin that is sharded too
    "bf16": ("bytes", None),
    "contrastive": ("clip", None),
    "sigmoid": ("siglip", None),
    "modalities": ("mixed", {"name": "mixture", "components": PARTS}),
}

# every run of one world in one launch
TRAIN = """
import sys
from pathlib import Path
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
for folder in sys.argv[2:]:
    config = RunConfig.read(Path(folder) / "config.yaml")
    Run.create(config, Path(folder) / sys.argv[1]).train()
"""


def torchrun(folder: Path, world: int, script: str, *words: object, fails: bool = False) -> str:
    """What torchrun's ranks print, or what they say where they fail as they should."""
    (folder / "script.py").write_text(script)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    done = subprocess.run(
        [sys.executable, *start, str(folder / "script.py"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    # who failed first says so first, what torchrun makes of it comes last
    assert (done.returncode != 0) == fails, f"{done.stderr[:8000]}\n...\n{done.stderr[-3000:]}"
    return done.stderr if fails else done.stdout


def launch(world: int, script: str, *words: object, fails: bool = False) -> str:
    """The same of ranks that begin where their imports are done; of one, a process of its own."""
    every = ranks(world, script, *words) if world > 1 else []
    done = [rank.done() for rank in every] or [run(script, *words)]
    said = "\n...\n".join(each.stderr[:8000] for each in done)
    assert [each.returncode != 0 for each in done] == [fails] * world, said
    return said if fails else "".join(each.stdout for each in done)


def losses(run: Path, of: str = "loss") -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[of] for row in rows if of in row]


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CASE/WORLD: every case trained for 20 steps by one process; see `trained` for more."""
    folder = tmp_path_factory.mktemp("runs")
    for case, (recipe, objective) in CASES.items():
        tree = small(recipe, corpus).tree()
        if objective is not None:
            tree["objective"] = objective
        if case == "denoising":
            block = tree["model"]["towers"]["encoder"]["layers"][0]["block"]
            block["feedforward"] = EXPERTS
        if case == "bf16":
            tree["machine"]["precision"] = "bf16"
        if case == "sigmoid":  # at the full rate its steps multiply rounding by 200
            tree["schedule"]["warmup"] = 100
        tree["data"] |= {"validation_rows": 4, "final_rows": 4}
        tree["data"]["store"] = str(folder / case / "data")
        (folder / case).mkdir()
        (folder / case / "config.yaml").write_text(yaml.safe_dump(tree))
    trained(folder, 1)
    return folder


def trained(folder: Path, world: int) -> None:
    """Train every case by so many ranks, where that was not done yet."""
    cases = [folder / case for case in CASES]
    if not (cases[0] / str(world)).exists():
        if world == 2:
            torchrun(folder, world, TRAIN, world, *cases)
        else:
            launch(world, TRAIN, world, *cases)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("world", MANY)
def test_many_ranks_equal_one(runs: Path, case: str, world: int) -> None:
    """Muon and AdamW, 20 steps over all sources: all losses within 1e-5, held out too.

    In bf16, whose sums have 8 bits, within 1e-3.
    """
    trained(runs, world)
    bar = 1e-3 if case == "bf16" else 1e-5
    one, many = losses(runs / case / "1"), losses(runs / case / str(world))
    assert len(one) == len(many) == 20
    for ours, reference in zip(one, many, strict=True):
        assert ours == pytest.approx(reference, rel=bar)
    (ours,) = losses(runs / case / "1", "validation")
    (reference,) = losses(runs / case / str(world), "validation")
    assert ours == pytest.approx(reference, rel=bar)
    assert ("encoder/balance" in one[0]) == (case == "denoising")
    weights = load_file(runs / case / "1" / "model" / "model.safetensors")
    others = load_file(runs / case / str(world) / "model" / "model.safetensors")
    for name, value in weights.items():
        assert (value - others[name]).abs().max() < 100 * bar, name


@pytest.mark.parametrize("world", WORLDS)
def test_the_global_order_of_samples_knows_no_ranks(runs: Path, world: int) -> None:
    """Row i of a step belongs to rank i mod world, with the chance that belongs to it."""
    mixture = Run.open(runs / "modalities" / "1").mixture()
    full = list(mixture.batches(3, 6))
    parts = [list(mixture.batches(3, 6, rank=r, world=world)) for r in range(world)]
    for step, batch in enumerate(full):
        for source, segment in batch.segments.items():
            noise = batch.rng.uniform(source, len(segment.values), 5)
            for rank, part in enumerate(parts):
                ours = part[step].segments[source].values
                assert ours is not None
                assert torch.equal(ours, segment.values[rank::world])
                chance = part[step].rng.uniform(source, len(ours), 5)
                assert torch.equal(chance, noise[rank::world])


# a rank is killed, or all are told to stop, before a step; "": to the end
STOPPED = """
import os, signal, sys
from pathlib import Path
from broadbase.data.batches import MixedBatches
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
folder, how, rank, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
every = MixedBatches.batches
def batches(self, start, *rest, **more):
    for batch in every(self, start, *rest, **more):
        if batch.step == step and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), signal.Signals[how])
        yield batch
MixedBatches.batches = batches
exists = (folder / "run" / "config.yaml").exists()
run = Run.open(folder / "run") if exists else Run.create(
    RunConfig.read(folder / "config.yaml"), folder / "run"
)
run.train()
"""


def test_killed_and_resumed_by_other_numbers_of_ranks(runs: Path, tmp_path: Path) -> None:
    """2 ranks, one killed; 1 process, told to stop; 4 ranks to the end: one process's losses."""
    tree = yaml.safe_load((runs / "causal" / "config.yaml").read_text())
    tree["train"]["save_every"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    words = {2: ("SIGKILL", "1", "7"), 1: ("SIGTERM", "0", "12"), 4: ("SIGTERM", "0", "99")}
    result = {}
    for world, how in words.items():
        if world > 2:
            launch(world, STOPPED, tmp_path, *how)
        elif world == 1:
            launch(world, STOPPED, tmp_path, *how, fails=True)
        else:
            said = torchrun(tmp_path, world, STOPPED, tmp_path, *how, fails=True)
            assert re.search(r"rank 0 of 2 on \S+: meeting the others at \S+:\d+ \(gloo\)", said)
            assert re.search(r"RankError: lost rank 1 on \S+ of the 2 ranks at \S+:\d+", said)
        folder = max((tmp_path / "run" / "checkpoints").glob("step-*"))
        result[world] = (folder.name, len(list(folder.glob("*.safetensors"))))
    # what was being written when the rank was killed is not there, or whole
    assert result.pop(2) in [("step-000003", 4), ("step-000006", 4)]
    assert result == {1: ("step-000013", 2), 4: ("step-000020", 8)}
    one, many = losses(runs / "causal" / "1"), losses(tmp_path / "run")
    assert len(one) == len(many) == 20
    for ours, reference in zip(one, many, strict=True):
        assert ours == pytest.approx(reference, rel=1e-5)


@pytest.fixture(scope="module")
def split(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of causal text on one process whose heads two ranks can share."""
    folder = tmp_path_factory.mktemp("split")
    tree = yaml.safe_load((runs / "causal" / "config.yaml").read_text())
    attention = tree["model"]["towers"]["main"]["layers"][0]["block"]["attention"]
    norm = {"name": "rms"}
    attention |= {"heads": 4, "kv_heads": 2, "head_dim": 16, "qk_norm": norm}
    tree["train"]["save_every"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    launch(1, TRAIN, "1", folder)
    return folder


@pytest.mark.parametrize("world", MANY)
def test_ranks_that_share_matrices_equal_one(split: Path, tmp_path: Path, world: int) -> None:
    """Tensor parallel by 2, alone and with rows divided by 2: stopped, resumed by one process."""
    tree = yaml.safe_load((split / "config.yaml").read_text())
    tree["machine"]["tensor_parallel"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    launch(world, STOPPED, tmp_path, "SIGTERM", world - 1, "10", fails=True)
    saved = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert saved.name == "step-000011"
    assert len(list(saved.glob("*.safetensors"))) == 2 * world
    said = launch(1, STOPPED, tmp_path, "SIGTERM", "0", "99", fails=True)
    assert "machine.tensor_parallel=2 does not divide the 1 ranks" in said
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("tensor_parallel: 2", "tensor_parallel: 1"))
    launch(1, STOPPED, tmp_path, "SIGTERM", "0", "99")
    one, many = losses(split / "1"), losses(tmp_path / "run")
    assert len(one) == len(many) == 20
    for ours, reference in zip(one, many, strict=True):
        assert ours == pytest.approx(reference, rel=1e-5)


CUT = """
import torch
from broadbase.core.errors import ConfigError
from broadbase.model.model import ModelConfig
from broadbase.train.machine import MachineConfig
from broadbase.train.ranks import Ranks
from broadbase.train.tensor_parallel import split
ranks = Ranks(torch.device("cpu"), MachineConfig(tensor_parallel=2))
mesh = ranks.mesh["tensor"]
def model(heads, **more):
    attention = {"name": "grouped", "heads": heads, "kv_heads": heads, "head_dim": 8, **more}
    block = {"attention": attention, "feedforward": {"name": "mlp", "hidden_width": 32}}
    tower = {"name": "transformer", "width": 16, "layers": [{"repeat": 1, "block": block}]}
    return ModelConfig.from_tree({"modalities": {}, "towers": {"main": tower}}).build()
split(whole := model(2), mesh)
held = {name: tuple(p.to_local().shape) for name, p in whole.named_parameters()
        if hasattr(p, "to_local")}
for wrong in (model(3), model(2, softmax={"name": "sinks"})):
    try:
        split(wrong, mesh)
    except ConfigError as error:
        print(error)
print("held", held["towers.main.blocks.0.attention.branch.q.weight"],
      held["towers.main.blocks.0.attention.branch.out.weight"])
ranks.close()
"""


def test_what_cannot_be_split_is_refused() -> None:
    said = launch(2, CUT)
    assert "machine.tensor_parallel=2 does not divide the 3 heads of towers.main.blocks.0" in said
    assert "softmax learns numbers for every head and cannot be split" in said
    assert "(8, 16) (16, 8)" in said  # each rank has one of two heads


MEET = """
import os, sys, time, torch
from broadbase.train.machine import MachineConfig
from broadbase.train.ranks import Ranks
from broadbase.core.errors import RankError
if os.environ["RANK"] in sys.argv[2:]:
    time.sleep(float(sys.argv[1]) + 3)
    sys.exit()
try:
    Ranks(torch.device("cpu"), MachineConfig(timeout=float(sys.argv[1])))
except RankError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_who_does_not_come_is_named() -> None:
    first, *_ = [rank.done(120) for rank in ranks(3, MEET, "4", "2")]
    assert first.returncode == 6
    missing = r"rank 2 of 3 did not come to 127\.0\.0\.1:\d+ within 4 s\. Check that"
    assert re.search(missing, first.stdout)


def test_an_address_where_nobody_is() -> None:
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9", "WORLD_SIZE": "2", "RANK": "1"}
    done = run(MEET, "2", timeout=120, env={**os.environ, **there})
    assert done.returncode == 6
    assert "cannot reach 127.0.0.1:9 within 2 s" in done.stdout
    assert "firewall" in done.stdout


PAIRS = """
import json, os, sys, torch, torch.distributed as dist
from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.view import MaskedSegment, Output, Stream, View
if "RANK" in os.environ:
    dist.init_process_group("gloo")
rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
data = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
mine = data[:, rank::world].clone().requires_grad_()
objective = ObjectiveConfig.from_tree({"name": sys.argv[1]}).build()
segment = MaskedSegment("image", torch.zeros(8 // world, 1, 3))
view = View((Stream("image", "image", (segment,)),), ranks=world)
output = Output({}, {}, {"image": mine[0].unsqueeze(1), "text": mine[1].unsqueeze(1)})
total = objective.loss([output], [view])["pairs"]
total.backward()
both = torch.cat([total.detach()[None], torch.zeros(80, dtype=torch.float64)])
both[1:].view(2, 8, 5)[:, rank::world] = mine.grad
if world > 1:
    dist.all_reduce(both)
if rank == 0:
    print(json.dumps(both.tolist()))
if world > 1:
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("objective", ["infonce", "sigmoid"])
def test_pairs_of_all_ranks_are_reported_apart(objective: str) -> None:
    """The loss and the gradient of every vector, gathered over 2 and 4 ranks, are one process's."""
    result = [json.loads(launch(world, PAIRS, objective).splitlines()[-1]) for world in WORLDS]
    assert result[1] == pytest.approx(result[0], rel=1e-10)
    assert result[2] == pytest.approx(result[0], rel=1e-10)
