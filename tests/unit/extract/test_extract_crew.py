"""How many actors a cluster holds, and how it is joined."""

from __future__ import annotations

import socket
from typing import ClassVar

import pytest

from kdcache.errors import ConfigError, KdcacheError
from kdcache.extract import ExtractConfig
from kdcache.extract.cluster import LOOK_EVERY, Crew, Following, connected, muster, room_for
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
    assert muster(config(**changes), units, [resources]) == crew


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
        muster(config(**changes), 50, [{"CPU": 4.0}])


@pytest.mark.parametrize(
    ("crew", "nodes", "room"),
    [
        (Crew(1, 1.0, 0.0, "cpu"), [{"CPU": 2.0}, {"CPU": 3.0}, {}], 5),
        # What an actor takes it takes of one node.
        (Crew(1, 2.0, 0.0, "cpu"), [{"CPU": 3.0}, {"CPU": 3.0}], 2),
        (Crew(1, 1.0, 1.0, "cuda"), [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}], 2),
        (Crew(1, 0.1, 0.0, "cpu"), [{"CPU": 0.3}], 3),
        (Crew(1, 1.0, 0.0, "cpu"), [], 0),
    ],
)
def test_actors_fit_node_by_node(crew, nodes, room):
    assert room_for(crew, nodes) == room


@pytest.mark.parametrize(
    ("changes", "nodes", "told"),
    [
        ({"cpus_per_actor": 3}, [{"CPU": 2.0}, {"CPU": 2.0}], "no node .* over 2"),
        (
            {"teacher": on("cuda"), "cpus_per_actor": 2},
            [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}],
            "2 CPU and 1 GPU, and no node",
        ),
    ],
)
def test_where_no_node_is_large_enough_it_is_said(changes, nodes, told):
    with pytest.raises(ConfigError, match=told):
        muster(config(**changes), 50, nodes)


class TestFollowing:
    """Nodes come and go."""

    ELSEWHERE: ClassVar[dict[str, object]] = {"ray": {"address": "auto"}}

    def sizes(self, changes, *sights):
        """What is wanted at the start, and at each further look."""
        seen, now = iter(sights), [0.0]
        settings = config(**{**self.ELSEWHERE, **changes})
        crew = muster(settings, 1000, next(seen))
        follower = Following(settings, crew, lambda: next(seen), lambda: now[0])
        wanted = [crew.actors]
        for _ in sights[1:]:
            assert follower.wanted() == wanted[-1], "it looks too often"
            now[0] += LOOK_EVERY
            wanted.append(follower.wanted())
        return wanted

    FOUR: ClassVar[dict[str, float]] = {"CPU": 4.0}

    def test_auto_follows_the_cluster(self):
        assert self.sizes({}, [self.FOUR], [self.FOUR] * 3, [self.FOUR]) == [4, 12, 4]

    def test_it_stays_within_its_bounds(self):
        sights = ([self.FOUR], [self.FOUR] * 3, [])
        assert self.sizes({"min_actors": 6, "max_actors": 9}, *sights) == [6, 9, 6]

    def test_one_is_asked_for_even_where_none_fits(self):
        assert self.sizes({}, [self.FOUR], []) == [4, 1]

    def test_what_is_asked_for_may_find_a_cluster_of_nothing(self):
        assert self.sizes({"min_actors": 2}, [], [self.FOUR]) == [2, 4]
        with pytest.raises(ConfigError, match="needs 1 CPU"):
            self.sizes({}, [])

    def test_a_number_stays_a_number(self):
        assert self.sizes({"actors": 3}, [self.FOUR], [self.FOUR] * 3, []) == [3, 3, 3]

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"actors": 3, "max_actors": 4}, "go with actors: auto"),
            ({"min_actors": 5, "max_actors": 4}, "min_actors 5 is more than max_actors 4"),
        ],
    )
    def test_bounds_that_cannot_be(self, changes, told):
        with pytest.raises(ValueError, match=told):
            config(**changes)


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
