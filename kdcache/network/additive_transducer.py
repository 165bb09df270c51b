"""A transducer whose joint network only adds, so that its encoder has logits of its own.

    z_{t,u} = e_t + d_u,        e_t = E·h_t + c,    d_u = P·lstm_u

each as wide as the vocabulary and nothing after the sum (Graves 2012, arXiv 1211.3711, equations
15 and 16, where the sum is of logarithms). Then softmax(e_t) is what the encoder believes by
itself of frame t, which is what CoDERT (arXiv 2106.07734) distils. A joint network that bends the
sum before its output layer has no such logits.

All else is ``transformers``' ParakeetForRNNT, whose projections are made as wide as the vocabulary.

Shapes: B batch, T encoder frames, U labels, V vocabulary with blank.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import ParakeetForRNNT, ParakeetRNNTConfig

MODEL_TYPE = "kdcache_additive_rnnt"
"""In ``config.json``, so that nobody reads the weights as those of another network."""


class AdditiveTransducerConfig(ParakeetRNNTConfig):  # type: ignore[misc]
    """As ParakeetRNNTConfig; ``decoder_hidden_size`` is the width of the LSTM alone."""

    model_type = MODEL_TYPE


class AdditiveJoint(nn.Module):
    """The sum of what encoder and prediction network say, which has no weights."""

    def forward(self, decoder_hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Logits of nodes, from states and frames of width V that broadcast."""
        return encoder_hidden_states + decoder_hidden_states


class AdditiveTransducer(ParakeetForRNNT):  # type: ignore[misc]
    """A FastConformer transducer with an additive joint.

    Its ``pooler_output`` are the encoder's logits e_t, its ``decoder`` gives d_u.
    """

    config_class = AdditiveTransducerConfig
    config: AdditiveTransducerConfig

    def __init__(self, config: AdditiveTransducerConfig) -> None:
        super().__init__(config)
        classes = config.vocab_size
        self.encoder_projector = nn.Linear(config.encoder_config.hidden_size, classes)
        self.decoder.decoder_projector = nn.Linear(config.decoder_hidden_size, classes)
        self.joint = AdditiveJoint()
        self.post_init()
