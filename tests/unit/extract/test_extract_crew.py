"""How many actors a cluster holds, and signals that end a run."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from kdcache.errors import ConfigError, KdcacheError
from kdcache.extract import ExtractConfig
from kdcache.extract.cluster import Crew, connected, muster
from kdcache.extract.signals import stop_signals
from kdcache.session import refuse_unreachable


def config(**changes):
    least = {"corpus": "c", "cache": {"path": "k"}, "targets": "lattice", "teacher": {"path": "t"}}
    return ExtractConfig.model_validate({**least, **changes})


def on(device):
    return {"path": "t", "device": device}


@pytest.mark.parametrize(
    ("changes", "units", "resources", "crew"),
    [
        ({}, 50, {"CPU": 4.0}, Crew(4, 1.0, 0.0, "cpu")),
        ({}, 3, {"CPU": 4.0}, Crew(3, 1.0, 0.0, "cpu")),
        ({"cpus_per_actor": 2}, 50, {"CPU": 5.0}, Crew(2, 2.0, 0.0, "cpu")),
        ({"actors": 2}, 50, {"CPU": 4.0}, Crew(2, 1.0, 0.0, "cpu")),
        ({}, 50, {"CPU": 16.0, "GPU": 2.0}, Crew(2, 1.0, 1.0, "cuda")),
        ({"gpus_per_actor": 0.5}, 50, {"CPU": 16.0, "GPU": 2.0}, Crew(4, 1.0, 0.5, "cuda")),
        ({"gpus_per_actor": 0}, 50, {"CPU": 16.0, "GPU": 2.0}, Crew(16, 1.0, 0.0, "cpu")),
        ({"teacher": on("cpu")}, 50, {"CPU": 16.0, "GPU": 2.0}, Crew(16, 1.0, 0.0, "cpu")),
        # A cluster elsewhere may yet grow.
        (
            {"actors": 8, "teacher": on("cuda"), "ray": {"address": "auto"}},
            50,
            {"CPU": 1.0},
            Crew(8, 1.0, 1.0, "cuda"),
        ),
    ],
)
def test_the_crew_fits(changes, units, resources, crew):
    assert muster(config(**changes), units, resources) == crew


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cpus_per_actor": 8}, "needs 8 CPU, and the Ray cluster has 4"),
        ({"teacher": on("cuda")}, "needs 1 GPU, and the Ray cluster has 0"),
        ({"teacher": on("cuda"), "ray": {"address": "auto"}}, "needs 1 GPU"),
    ],
)
def test_where_no_actor_fits_it_is_said(changes, told):
    with pytest.raises(ConfigError, match=told):
        muster(config(**changes), 50, {"CPU": 4.0})


class TestAddress:
    @pytest.mark.parametrize("form", ["{host}:{port}", "ray://{host}:{port}"])
    def test_nobody_at_home_is_said_at_once(self, form):
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            refuse_unreachable(form.format(host=host, port=port))
        with pytest.raises(ConfigError, match="ray start --head"):
            refuse_unreachable(form.format(host=host, port=port))

    @pytest.mark.parametrize("address", ["auto", "local", "nonsense"])
    def test_what_names_no_port_is_left_to_ray(self, address):
        refuse_unreachable(address)


class TestStart:
    """Ray's own start is replaced, so that nothing is started."""

    @pytest.fixture
    def inits(self, monkeypatch):
        import ray

        calls = []
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))

        def fail(times, error):
            failures = iter([error] * times)

            def init(**settings):
                calls.append(settings)
                if found := next(failures, None):
                    raise found

            monkeypatch.setattr(ray, "init", init)
            return calls

        return fail

    def test_a_given_number_of_actors_always_fits(self, inits):
        calls = inits(0, None)
        with connected(config(actors=3, cpus_per_actor=1.5)):
            assert calls[0]["num_cpus"] == 5
            assert calls[0]["address"] == "local"
            assert calls[0]["include_dashboard"] is False
        assert calls[1:] == ["shutdown"]

    def test_a_busy_machine_gets_a_second_chance(self, inits):
        calls = inits(1, Exception("the node timed out during startup"))
        with connected(config()):
            assert [call for call in calls if call != "shutdown"] == [calls[0]] * 2

    def test_a_start_that_fails_is_one_sentence(self, inits):
        inits(9, Exception("the node timed out during startup"))
        with (
            pytest.raises(KdcacheError, match="timed out during startup") as caught,
            connected(config()),
        ):
            pytest.fail("it did not start")
        assert caught.value.exit_code == 1

    def test_another_cluster_is_joined_as_it_is(self, inits):
        calls = inits(0, None)
        with connected(config(ray={"address": "auto"})):
            assert calls[0]["address"] == "auto"
            assert "num_cpus" not in calls[0]

    def test_no_cluster_to_join_is_one_sentence(self, inits):
        inits(1, ConnectionError("Could not find any running Ray instance."))
        with (
            pytest.raises(ConfigError, match="No Ray cluster could be reached at 'auto'"),
            connected(config(ray={"address": "auto"})),
        ):
            pytest.fail("there was none")


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_is_noted_and_handlers_come_back(self, number):
        before = signal.getsignal(number)
        with stop_signals() as stopped:
            assert stopped() is None
            os.kill(os.getpid(), number)
            assert stopped() == number
            assert signal.getsignal(number) == signal.SIG_DFL, "a second one ends the program"
        assert signal.getsignal(number) == before

    def test_other_threads_hear_nothing(self):
        heard = []

        def listen():
            with stop_signals() as stopped:
                heard.append(stopped())

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        assert heard == [None]
