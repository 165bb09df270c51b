"""Arrays ↔ bytes: how decoded targets are packed for a store. numpy only."""

from kdcache.codec.codebooks import Codebooks
from kdcache.codec.hypotheses import Fp32HypothesesCodec
from kdcache.codec.ids import MAX_VOCABULARY, check_vocabulary
from kdcache.codec.lattice import LatticeCodec
from kdcache.codec.logprob import Fp16LogProb, Log8LogProb, LogProbQuantiser
from kdcache.codec.posterior import PosteriorCodec
from kdcache.codec.protocol import ColumnSpec, RecordCodec
from kdcache.codec.quantised import CodebookVectorCodec
from kdcache.codec.ragged import RaggedPosteriorCodec
from kdcache.codec.records import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    Record,
    ScoreRecord,
    VectorRecord,
)
from kdcache.codec.registry import codec_names, make_codec
from kdcache.codec.root_lattice import RootLatticeCodec
from kdcache.codec.scale import CountScale, RootScale, Scale
from kdcache.codec.score import Fp32ScoreCodec
from kdcache.codec.tail import TailModel
from kdcache.codec.vector import Fp16VectorCodec, Int8VectorCodec

__all__ = [
    "MAX_VOCABULARY",
    "CodebookVectorCodec",
    "Codebooks",
    "ColumnSpec",
    "CountScale",
    "Fp16LogProb",
    "Fp16VectorCodec",
    "Fp32HypothesesCodec",
    "Fp32ScoreCodec",
    "HypothesesRecord",
    "Int8VectorCodec",
    "LatticeCodec",
    "LatticeRecord",
    "Log8LogProb",
    "LogProbQuantiser",
    "PosteriorCodec",
    "PosteriorRecord",
    "RaggedPosteriorCodec",
    "Record",
    "RecordCodec",
    "RootLatticeCodec",
    "RootScale",
    "Scale",
    "ScoreRecord",
    "TailModel",
    "VectorRecord",
    "check_vocabulary",
    "codec_names",
    "make_codec",
]
