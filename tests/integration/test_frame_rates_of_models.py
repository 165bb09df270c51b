"""Lengths that real architectures give: convolutions that pad, and some that do not.

A student's frames must fit each teacher's at every ratio and for any number of samples, with no
more to bear than rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcache.errors import SpecMismatchError
from kdcache.loss import check_frames, parse_ratio, ratio_of_shifts
from kdcache.student import build_student
from kdcache.student.settings import StudentSettings
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_ctc, save_small_wav2vec2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from kdcache.teacher import Teacher

SAMPLES = (4000, 7999, 8001, 16_000, 16_159, 16_160, 23_456, 31_999)
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture(scope="module", params=[save_small_wav2vec2, save_small_ctc])
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    save: Callable[..., Path] = request.param
    return load_teacher(save(tmp_path_factory.mktemp("teacher"), ["one two"]))


def frames_of_teacher(teacher: Teacher) -> Tensor:
    audio = [np.random.RandomState(n).randn(n).astype(np.float32) for n in SAMPLES]
    return torch.tensor([teacher.forward([one], [()])[0].frames for one in audio])


@pytest.mark.parametrize("subsampling", [2, 4, 8])
def test_only_rounding_is_left_to_bear(teacher: Teacher, subsampling: int) -> None:
    settings = StudentSettings.model_validate({**SMALL, "subsampling": subsampling})
    student = build_student(settings, teacher.tokenizer).eval()
    ratio = ratio_of_shifts(teacher.spec.frame_shift, student.frame_shift)
    lengths = torch.tensor(SAMPLES)
    with torch.no_grad():
        features, mask = student.features(torch.randn(len(SAMPLES), max(SAMPLES)), lengths)
        frames = student.encode(features, mask)[2]
    expected = frames_of_teacher(teacher)
    check_frames(expected, frames, ratio)
    other = "1/4" if str(ratio) != "1/4" else "1/1"
    with pytest.raises(SpecMismatchError):
        check_frames(expected, frames, parse_ratio(other))
