"""The cluster that integration tests run on."""

from __future__ import annotations

import pytest

import kdcache
from kdcache.cli.failures import exit_code_of
from kdcache.errors import AudioError, KdcacheError

pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("ray_cluster")
def test_workers_import_this_kdcache() -> None:
    import ray

    @ray.remote(num_cpus=0)
    def where() -> str:
        import kdcache

        return str(kdcache.__file__)

    assert ray.get(where.remote()) == kdcache.__file__


@pytest.mark.usefixtures("ray_cluster")
def test_an_error_crosses_the_border_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def fail() -> None:
        raise AudioError("the file is truncated")

    with pytest.raises(KdcacheError) as caught:
        ray.get(fail.remote())
    cause = caught.value.cause  # type: ignore[attr-defined]
    assert type(cause) is AudioError
    assert cause.message == "the file is truncated"

    def again() -> None:
        raise caught.value

    assert exit_code_of(again) == AudioError.exit_code
    assert capsys.readouterr().err == "Error: the file is truncated\n"


@pytest.mark.usefixtures("ray_cluster")
def test_the_cluster_is_small() -> None:
    import ray

    assert ray.cluster_resources()["CPU"] == 2
