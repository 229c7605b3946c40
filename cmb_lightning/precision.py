"""The precision of networks, where a processor could not do what is asked for in any reasonable time."""

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision, Precision


def computes_bf16() -> bool:
    """Whether this processor has fast convolutions in bfloat16: those that oneDNN makes with AVX-512, AMX or on Arm.

    Elsewhere torch falls back to loops: with AVX2 alone, a step of the trial's default takes nine times as long as in
    float32, and a convolution of 32 channels 26 times.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is None or bool(supported())  # a build without oneDNN has convolutions of its own


def avoid_slow_bf16(trainer: L.Trainer) -> bool:
    """Let a trainer of `bf16-mixed` compute in float32 on a processor that is slow in bfloat16.

    Weights are float32 in both, so that checkpoints are the same in kind and a run can go on elsewhere.

    Returns:
        Whether it had to be.
    """
    plugin = trainer.strategy.precision_plugin
    if not isinstance(plugin, MixedPrecision) or plugin.precision != "bf16-mixed":
        return False
    if trainer.strategy.root_device.type != "cpu" or computes_bf16():
        return False
    trainer.strategy.precision_plugin = Precision()
    return True
