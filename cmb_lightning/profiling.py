"""Where the time of a training step goes: `--trainer.profiler cmb_lightning.profiling.StepTimes`."""

import copy
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler
from torch import nn

from cmb_lightning.data.publish import replace
from cmb_lightning.sphere import HealpixConv2d, IsotropicConv2d, ReachingConv2d

PARTS = ("loading", "transfer", "scaling", "forward", "backward", "optimizer", "logging and callbacks")
PART_OF = {
    "train_dataloader_next": "loading",
    "batch_to_device": "transfer",
    "training_step": "scaling",
    "network": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
}
"""The part that each of Lightning's actions is."""
WARM_UP = 2
"""Steps that are not counted: memory is got, kernels are chosen."""


def zero_padded(network: nn.Module) -> nn.Module:
    """The network, changed to ordinary convolutions that see zeros beyond the edges of faces: a floor for its time."""
    for module in [*network.modules()]:
        for name, part in module.named_children():
            if isinstance(part, IsotropicConv2d | ReachingConv2d):
                conv = nn.Conv2d(part.in_channels, part.out_channels, 3, padding=1, bias=False)
                setattr(module, name, conv.to(memory_format=torch.channels_last))
        if isinstance(module, HealpixConv2d):
            module.conv.padding = tuple(side // 2 for side in module.conv.kernel_size)
            module.pad = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # Blocks with hooks do not go face by face, which needs a rim around each.
            module.register_forward_hook(lambda *_: None)
    return network


class StepTimes(Profiler):
    """Splits training steps into loading, transfer, scaling, forward, backward, optimizer and the rest.

    Loading is how long a step waits for its batch; scaling is what stands around the network: the method's scaling of
    inputs and outputs, and the loss; the rest is logging, callbacks and the loop. One epoch is counted, without
    validation. On a GPU each part waits for what it started, so that steps take longer than without.

    What it finds stands in `times.json` in the run's folder, and in `times_RANK.json` for further processes: seconds of
    a step, by the clock and of the process's processors, the peak memory of a GPU, and for one process the floor, the
    network alone on numbers in memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[str, tuple[float, float]] = {}
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._steps, self._begun = 0, (0.0, 0.0)
        self._cuda, self._path, self._batch = False, Path(), 1

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Also time the network by itself."""
        super().setup(stage, local_rank, log_dir)
        module = self._lightning_module
        if stage != "fit" or module is None:
            return
        rank = module.trainer.global_rank
        self._path = Path(module.trainer.default_root_dir) / (f"times_{rank}.json" if rank else "times.json")
        self._cuda = module.trainer.strategy.root_device.type == "cuda"
        method = module.method
        self._batch = module.trainer.datamodule.batch_size
        method.inputs = self._after(method.inputs, lambda: self.start("network"))
        method.cleaned = self._before(method.cleaned, lambda: self.stop("network"))

    def start(self, action_name: str) -> None:
        """Note when an action begins."""
        if action_name.endswith("train_dataloader_next"):
            if self._steps == WARM_UP:
                self._spent.clear()
                self._begun = self._now()
                if self._cuda:
                    torch.cuda.reset_peak_memory_stats()
            self._steps += 1
        self._started[action_name] = self._now()

    def stop(self, action_name: str) -> None:
        """Add what an action took."""
        if action_name in self._started:
            before, now = self._started.pop(action_name), self._now()
            spent = [after - then for after, then in zip(now, before, strict=True)]
            self._add(PART_OF.get(action_name.rpartition(".")[2]) if action_name[1:9] != "Callback" else None, spent)
        if action_name == "run_training_epoch" and self._steps > WARM_UP:
            replace(self._path, json.dumps(self._summary(), indent=2).encode())

    def _add(self, part: str | None, spent: list[float]) -> None:
        """Count what an action took as a part, and not as that which it is inside of."""
        if part is None:
            return
        inside = {"forward": "scaling"}.get(part)
        if part in ("scaling", "backward") and any(name.endswith(".optimizer_step") for name in self._started):
            inside = "optimizer"  # Lightning computes the gradients in the optimizer's step, if it makes one
        for clock in range(2):
            self._spent[part][clock] += spent[clock]
            if inside is not None:
                self._spent[inside][clock] -= spent[clock]

    def _now(self) -> tuple[float, float]:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def _summary(self) -> dict[str, Any]:
        """Of the steps and, where there is one process, of the network alone."""
        steps = self._steps - WARM_UP
        whole = [now - begun for now, begun in zip(self._now(), self._begun, strict=True)]
        summary: dict[str, Any] = {"steps": steps, "batch": self._batch, "device": _device(self._cuda)}
        for clock, name in enumerate(("clock", "processor")):
            parts = {part: self._spent[part][clock] / steps for part in PARTS[:-1]}
            summary[name] = parts | {PARTS[-1]: whole[clock] / steps - sum(parts.values())}
        summary["memory"] = torch.cuda.max_memory_allocated() / 2**30 if self._cuda else None
        if self._lightning_module.trainer.world_size == 1:
            summary["floor"] = dict(zip(("clock", "processor"), self._floor(steps), strict=True))
        return summary

    def _floor(self, steps: int) -> tuple[float, ...]:
        """Seconds of a step of the network alone, as it is trained, on numbers that are there already."""
        task = self._lightning_module
        network = copy.deepcopy(task.network).train()
        optimizer = task.optimizer(network.parameters())
        shape = (self._batch, task.method.network_channels[0], task.layout.npix)
        maps = torch.randn(shape, device=task.device)
        begun = self._now()
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                begun = self._now()
            with task.trainer.precision_plugin.forward_context():
                loss = network(maps).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return tuple((now - then) / steps for now, then in zip(self._now(), begun, strict=True))

    @staticmethod
    def _after(work: Callable[..., Any], then: Callable[[], None]) -> Callable[..., Any]:
        def both(*arguments: Any) -> Any:
            result = work(*arguments)
            then()
            return result

        return both

    @staticmethod
    def _before(work: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
        def both(*arguments: Any) -> Any:
            first()
            return work(*arguments)

        return both


def _device(cuda: bool) -> str:
    return torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
