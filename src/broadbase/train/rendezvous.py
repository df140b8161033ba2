"""Ranks find one another or say who is missing; a rank that is lost is named by the others."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store

from broadbase.core.errors import RankError

SOON = 60.0  # seconds, at most, that the first words between ranks may take
BEAT = 1.0  # seconds between two signs of life
# Gloo's threads let go of their last tensors after the others know the result, and need the
# interpreter for it: once it is gone, that aborts the process (pytorch/pytorch#179291)
BREATH = 0.25  # seconds


@cache
def join_world(device: torch.device, timeout: float) -> Rendezvous:
    """Return the one Rendezvous of this process."""
    return Rendezvous(device, timeout)


class Rendezvous:
    """The ranks of `torchrun`, met: the process group is there when this returns.

    A thread of every rank writes a sign of life to the rendezvous' store once a second, so that the
    others can tell who does not. RankError where a rank does not come, or cannot be talked to.
    """

    def __init__(self, device: torch.device, timeout: float) -> None:
        """Meet the other ranks; RankError names those that do not come in `timeout` seconds."""
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.host = socket.gethostname()
        self.address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        self.timeout, self.soon = timeout, min(SOON, timeout)
        self._calls = 0
        faulthandler.enable()  # a rank that its libraries abort says where it was
        backend = "nccl" if device.type == "cuda" else "gloo"
        self._say(f"meeting the others at {self.address} ({backend})")
        store = self._store()
        self._gather(store)
        self._talk(store, backend, device)
        dist.init_process_group(
            backend,
            store=PrefixStore("run", store),
            rank=self.rank,
            world_size=self.world,
            timeout=timedelta(seconds=timeout),
        )
        # of their own, as checkpoints are written while the loop talks in the main group
        self.peers = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self.device, self._meshes = device, dict[int, DeviceMesh]()
        self.store = store
        own = store.clone()  # type: ignore[attr-defined]  # a store talks to one thread at a time
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._live, args=(own,), daemon=True)
        self._beating.start()
        atexit.register(self._leave)  # a thread inside a store when Python ends aborts the process

    def mesh(self, tensor: int) -> DeviceMesh:
        """Return the mesh of all ranks: `tensor` neighbours share matrices, others rows.

        Every group of ranks has threads of its own, so a mesh is made only once.
        """
        if tensor not in self._meshes:
            shape, names = (self.world // tensor, tensor), ("data", "tensor")
            self._meshes[tensor] = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        return self._meshes[tensor]

    def wait(self) -> None:
        """Wait until every rank is here, however long; RankError where one gives no sign."""
        self._calls += 1
        self.store.set(f"wait/{self._calls}/{self.rank}", "")
        here = [f"wait/{self._calls}/{r}" for r in range(self.world)]
        patience = timedelta(seconds=max(self.timeout, 4 * BEAT))
        with self.watched():
            while True:
                before = self._beats()
                try:
                    return self.store.wait(here, patience)
                except dist.DistStoreError:  # not yet: one may be at work, or lost
                    if any(a == b for a, b in zip(before, self._beats(), strict=True)):
                        raise

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn errors in this context, as a rank is gone, into a RankError that names it."""
        try:
            yield
        except RankError:
            raise
        except RuntimeError:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's; it gives us 30 s
            lost = self._lost()
            if not lost:
                raise
            raise RankError(
                f"lost {lost} of the {self.world} ranks at {self.address}; rank {self.rank} on"
                f" {self.host} stops. Look at what the lost one said last (memory, a"
                " node that went down); `broadbase resume`, with any number of ranks, goes on from"
                " the last checkpoint"
            ) from None

    def _store(self) -> Store:
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun holds it
        try:
            store = dist.TCPStore(  # type: ignore[attr-defined]
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=self.rank == 0 and not agent,
                timeout=timedelta(seconds=self.soon),
                wait_for_workers=False,
            )
        except RuntimeError as error:
            raise RankError(
                f"rank {self.rank} on {self.host} cannot reach {self.address} within"
                f" {self.soon:g} s: {str(error).splitlines()[0]}. Check that this is an address of"
                " the first node that the others can reach, and that no firewall closes the port"
            ) from None
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(f"broadbase/{again}", store)

    def _gather(self, store: Store) -> None:
        store.set(f"beat/{self.rank}", "0")
        store.set(f"here/{self.rank}", self.host)
        try:
            store.wait([f"here/{r}" for r in range(self.world)], timedelta(seconds=self.soon))
        except dist.DistNetworkError:
            raise RankError(
                f"rank {self.rank} on {self.host}: the rendezvous at {self.address} was closed"
                " before all had come; see what rank 0 said"
            ) from None
        except dist.DistStoreError:
            missing = [r for r in range(self.world) if not store.check([f"here/{r}"])]
            raise RankError(
                f"{_ranks(missing)} of {self.world} did not come to {self.address} within"
                f" {self.soon:g} s. Check that every node runs the same command, with the same"
                " --nnodes, --nproc-per-node and --rdzv-endpoint, and what the missing ones said"
            ) from None

    def _talk(self, store: Store, backend: str, device: torch.device) -> None:
        """Make a first sum over all ranks, in a group that soon gives up."""
        start, soon = time.monotonic(), timedelta(seconds=self.soon)
        try:
            dist.init_process_group(
                backend,
                store=PrefixStore("first", store),
                rank=self.rank,
                world_size=self.world,
                timeout=soon,
            )
            total = torch.ones(1, device=device)
            dist.all_reduce(total)
            answered = int(total.item())
            dist.destroy_process_group()
        except RuntimeError as error:
            raise RankError(
                f"all ranks came to {self.address}, but rank {self.rank} on {self.host} could not"
                f" talk to them within {self.soon:g} s: {str(error).splitlines()[0]}. Check the"
                " network between the nodes; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names the"
                " interface to use"
            ) from None
        if answered != self.world:
            raise RankError(f"{answered} ranks answered, {self.world} were expected")
        if self.rank == 0:
            hosts = {store.get(f"here/{r}") for r in range(self.world)}
            took = time.monotonic() - start
            self._say(f"{answered} ranks on {len(hosts)} hosts answered in {took:.1f} s")

    def _live(self, store: Store) -> None:
        """Give signs of life, as long as there is a store to write them to."""
        beats = 0
        try:
            while not self._over.wait(BEAT):
                beats += 1
                store.set(f"beat/{self.rank}", str(beats))
        except RuntimeError:
            return

    def _leave(self) -> None:
        self._over.set()
        self._beating.join(timeout=BEAT)
        time.sleep(BREATH)

    def _lost(self) -> str:
        """Name the ranks without signs of life, by host; the first to look informs the others."""
        try:
            before = self._beats()
            time.sleep(4 * BEAT)
            after = self._beats()
            silent = [r for r in range(self.world) if before[r] == after[r]]
            hosts = ", ".join(sorted({self.store.get(f"here/{r}").decode() for r in silent}))
            lost = f"{_ranks(silent)} on {hosts}" if silent else ""
            # later ones would also miss those that left because of the first
            return self.store.compare_set("lost", "", lost).decode() if lost else ""
        except RuntimeError:
            return f"the rendezvous itself, on {self.address.partition(':')[0]},"

    def _beats(self) -> list[bytes]:
        return [self.store.get(f"beat/{r}") for r in range(self.world)]

    def _say(self, words: str) -> None:
        print(f"rank {self.rank} of {self.world} on {self.host}: {words}", file=sys.stderr)


def _ranks(numbers: list[int]) -> str:
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
