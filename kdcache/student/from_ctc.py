"""A transducer that begins as its own CTC head, so that every label has its place at once.

From random weights an RNN-T loss must find out at the same time what is said and when, and a
small student of little speech may never align anything. A CTC head that has learnt to spell knows
both. Here the joint network

    head(ReLU(encoder + decoder)),    encoder = E·h + c,    decoder = P·lstm,

is given weights under which its logits are those of the CTC head at every node, W·h + b: E is the
identity, P is zero, and the head has W and b − W·c. The constant c lifts whatever the encoder may
say above the ReLU's bend. That is exact, because hidden states h come out of a layer norm: a
channel with scale γ and offset β stays within |γ|·√(D−1) + |β|, as D numbers of mean 0 and
variance 1 stay within √(D−1).

A path of CTC may stay on a label for some frames, one of a transducer may not. To say a label
once, and to listen to the labels before it, is what is left for the RNN-T loss to teach.

Where the joint network only adds, the encoder's logits are given the head's weights, and what is
added to them is zero.

Where the joint network is wider than the encoder, the other units keep their random weights but
the head does not listen to them yet; it learns to.

Shapes: D hidden size, J joint width, V vocabulary with blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from kdcache.student.transducer import TransducerStudent


def begin_from_ctc(student: TransducerStudent) -> None:
    """Set the weights of joint network and projections so that it says what its CTC head says.

    Encoder and CTC head stay as they are. The prediction network is not heard at first, but the
    gradient of its projection is not zero, and so it will be. Labels are embedded anew (from
    torch's global seed), a standard deviation of 1 apart: transformers draws them with 0.02, which
    an LSTM can hardly tell from each other, and training by CTC has not changed that.

    Args:
        student: changed in place.

    Raises:
        ConfigError: it has no CTC head, or its joint network is narrower than its encoder or
            bends other than a ReLU.
    """
    head = _check_head(student)
    model = student.model
    if student.is_additive:
        _add_nothing(student, head)
        return
    width = head.in_features
    with torch.no_grad():
        lift_D = _greatest_hidden(student)
        model.decoder.embedding.reset_parameters()
        _set(model.encoder_projector, torch.eye(width), lift_D)
        _set(model.decoder.decoder_projector, torch.zeros(width, model.joint.head.in_features), 0)
        model.joint.head.weight.zero_()
        model.joint.head.weight[:, :width] = head.weight
        # In float64: the two terms are large beside their difference.
        lifted_V = head.weight.double() @ lift_D.double()
        model.joint.head.bias.copy_(head.bias.double() - lifted_V)


def _add_nothing(student: TransducerStudent, head: nn.Linear) -> None:
    """Where the joint network only adds, the encoder's logits are the head's, and d_u is 0."""
    model = student.model
    with torch.no_grad():
        model.decoder.embedding.reset_parameters()
        _set(model.encoder_projector, head.weight, head.bias)
        projector = model.decoder.decoder_projector
        _set(projector, torch.zeros_like(projector.weight), 0)


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor | float) -> None:
    """The first rows of a projection; those of units that are heard of later stay."""
    rows = len(weight)
    layer.weight[:rows] = weight
    layer.bias[:rows] = bias


def _greatest_hidden(student: TransducerStudent) -> Tensor:
    """(D,) what no hidden state of the encoder exceeds, up or down."""
    norm = student.model.encoder.layers[-1].norm_out
    bound: Tensor = norm.weight.abs() * (len(norm.weight) - 1) ** 0.5 + norm.bias.abs()
    return bound


def _check_head(student: TransducerStudent) -> nn.Linear:
    if student.ctc_head is None:
        raise ConfigError(
            "Got a student without a CTC head, expected one to begin the transducer from; train "
            "one with `student.ctc_head: true` and `loss: {rnnt: 0, ctc: 1}` first."
        )
    if student.is_additive:
        return student.ctc_head
    config = student.model.config
    hidden, joint = student.ctc_head.in_features, config.decoder_hidden_size
    if joint < hidden:
        raise ConfigError(
            f"Got a joint network {joint} wide for an encoder {hidden} wide, expected one at least "
            "as wide, so that all that the CTC head hears passes through it; raise "
            "`student.joint`."
        )
    if config.hidden_act != "relu":
        raise ConfigError(
            f"Got a joint network with activation {config.hidden_act!r}, expected 'relu', which "
            "can let through unchanged what the CTC head hears."
        )
    return student.ctc_head
