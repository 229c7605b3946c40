"""Where the training of a network starts."""

from torch import nn


def start_at_zero(layer: nn.Module) -> None:
    """Set weights and biases to zero: of a last layer, so that a network starts from no correction at all.

    Gradients reach that layer alone at first, and all others from the second step on (as in Goyal et al. 2017,
    arXiv:1706.02677, which starts the last batch norm of a block so).

    Args:
        layer: Whose output is the network's, or the batch norm that its last activation follows.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
