"""The manifests for KubeRay: that they are what KubeRay reads, and ask for what kdcache needs.

Checked against ``tests/data/kuberay.yaml``, and against the published definitions as well where
``KDCACHE_KUBERAY_CRDS`` names a folder with them (of KubeRay's ``config/crd/bases`` the files
``ray.io_rayjobs.yaml`` and ``ray.io_rayclusters.yaml``).
"""

from __future__ import annotations

import copy
import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from kdcache.config import load_config
from kdcache.extract import ExtractConfig
from kdcache.extract.cluster import muster
from kdcache.train import TrainSettings
from tests.command_lines import check_command

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
MANIFESTS = {"rayjob.yaml": "RayJob", "raycluster.yaml": "RayCluster"}
SPOT = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


def manifest(repository: Path, name: str) -> Json:
    loaded: Json = yaml.safe_load((repository / "cluster" / "kubernetes" / name).read_text())
    return loaded


def cluster_of(repository: Path, name: str) -> Json:
    spec: Json = manifest(repository, name)["spec"]
    cluster: Json = spec.get("rayClusterSpec", spec)
    return cluster


def groups(cluster: Json) -> list[Json]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pod(group: Json) -> Json:
    spec: Json = group["template"]["spec"]
    return spec


def own_schema(repository: Path, kind: str) -> Json:
    schemas = yaml.safe_load((repository / "tests" / "data" / "kuberay.yaml").read_text())
    return strict(schemas[kind])


def published_schema(kind: str) -> Json:
    folder = os.environ.get("KDCACHE_KUBERAY_CRDS")
    if not folder:
        pytest.skip(
            "the published definitions are not here; KDCACHE_KUBERAY_CRDS names their folder"
        )
    definition = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    (schema,) = (
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["name"] == "v1"
    )
    schema["properties"].pop("status", None)
    schema["properties"].pop("metadata", None)
    return strict({**schema, "properties": {**schema["properties"], "metadata": {}}})


def strict(schema: Any) -> Any:
    """The schema of a custom resource, with fields that it does not name forbidden: a server
    drops those without a word."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found


def misspelt(node: Any) -> Iterator[tuple[str, Any]]:
    """Every copy of ``node`` with one key misspelt, and that key."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(node, dict):
            yield str(key), {**{k: v for k, v in node.items() if k != key}, f"{key}X": value}
        if isinstance(value, dict | list):
            for name, changed in misspelt(value):
                other = copy.copy(node)
                other[key] = changed
                yield name, other


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_a_manifest_is_of_the_shape(repository: Path, name: str, kind: str) -> None:
    jsonschema.validate(manifest(repository, name), own_schema(repository, kind))


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_a_manifest_fits_the_published_definition(repository: Path, name: str, kind: str) -> None:
    jsonschema.validate(manifest(repository, name), published_schema(kind))


def test_a_published_definition_is_held_to(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A definition as KubeRay ships it: several versions, and a status that no manifest has."""
    own = yaml.safe_load((repository / "tests" / "data" / "kuberay.yaml").read_text())["RayJob"]
    own = {**own, "properties": {**own["properties"], "status": {"type": "object"}}}
    versions = [
        {"name": "v1", "schema": {"openAPIV3Schema": own}},
        {"name": "v1alpha1", "schema": {"openAPIV3Schema": {"type": "object"}}},
    ]
    definition = yaml.safe_dump({"spec": {"versions": versions}})
    (tmp_path / "ray.io_rayjobs.yaml").write_text(definition)
    monkeypatch.setenv("KDCACHE_KUBERAY_CRDS", str(tmp_path))
    job = manifest(repository, "rayjob.yaml")
    jsonschema.validate(job, published_schema("RayJob"))
    for wrong in ({"spec": {**job["spec"], "entryPoint": "x"}}, {"status": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**job, **wrong}, published_schema("RayJob"))


def test_any_misspelt_field_would_be_noticed(repository: Path) -> None:
    validator = jsonschema.Draft7Validator(own_schema(repository, "RayJob"))
    free = {"num-cpus", "object-store-memory", "cpu", "memory", "nvidia.com/gpu"}
    changed = list(misspelt(manifest(repository, "rayjob.yaml")))
    assert len(changed) > 100
    assert {name for name, job in changed if validator.is_valid(job)} == free


def test_the_cluster_of_both_is_the_same(repository: Path) -> None:
    job, cluster = (cluster_of(repository, name) for name in MANIFESTS)
    for group in groups(job):
        inside = pod(group)
        inside["volumes"] = [v for v in inside["volumes"] if v["name"] != "config"]
        (container,) = inside["containers"]
        mounts = container["volumeMounts"]
        container["volumeMounts"] = [m for m in mounts if m["name"] != "config"]
    assert job == cluster


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_has_the_image_and_what_it_mounts(repository: Path, name: str) -> None:
    pods = [pod(group) for group in groups(cluster_of(repository, name))]
    assert len({inside["containers"][0]["image"] for inside in pods}) == 1
    for inside in pods:
        mounts = {m["name"]: m["mountPath"] for m in inside["containers"][0]["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in inside["volumes"]}
        assert mounts["shared"] == "/shared"


def test_the_ray_of_image_and_manifests_is_one(repository: Path) -> None:
    recipe = (repository / "cluster" / "Dockerfile").read_text()
    (version,) = re.findall(r"^ARG RAY_VERSION=(.+)$", recipe, re.MULTILINE)
    assert {cluster_of(repository, name)["rayVersion"] for name in MANIFESTS} == {version}


def test_groups_grow_from_nothing(repository: Path) -> None:
    cluster = cluster_of(repository, "rayjob.yaml")
    assert cluster["enableInTreeAutoscaling"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] == 0


def test_teachers_may_be_on_spot_machines_and_the_head_may_not(repository: Path) -> None:
    head, *workers = groups(cluster_of(repository, "rayjob.yaml"))
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "tolerations" not in pod(head)
    for group in workers:
        assert {t["key"] for t in pod(group)["tolerations"]} >= SPOT


def test_one_group_has_gpus_and_is_kept_for_those_who_need_them(repository: Path) -> None:
    gpu, cpu = cluster_of(repository, "rayjob.yaml")["workerGroupSpecs"]
    (container,) = pod(gpu)["containers"]
    gpus = {container["resources"][part]["nvidia.com/gpu"] for part in ("requests", "limits")}
    assert gpus == {"1"}
    assert "nvidia.com/gpu" in {t["key"] for t in pod(gpu)["tolerations"]}
    assert "nvidia.com/gpu" not in pod(cpu)["containers"][0]["resources"]["limits"]


def entrypoint(repository: Path) -> list[str]:
    return shlex.split(manifest(repository, "rayjob.yaml")["spec"]["entrypoint"])


def test_the_job_runs_a_command_that_exists(repository: Path) -> None:
    words = entrypoint(repository)
    check_command(words)
    inside = pod(groups(cluster_of(repository, "rayjob.yaml"))[0])
    mounts = {m["name"]: m["mountPath"] for m in inside["containers"][0]["volumeMounts"]}
    assert Path(words[2]).parent == Path(mounts["config"])


def test_the_job_asks_for_actors_while_there_is_no_machine(repository: Path) -> None:
    words = entrypoint(repository)
    overrides = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    config = load_config(repository / "cluster" / "extract.yaml", ExtractConfig, overrides)
    crew = muster(config, 1000, [{"memory": 1e9}])  # a head without CPUs
    gpu = cluster_of(repository, "rayjob.yaml")["workerGroupSpecs"][0]
    assert (crew.device, crew.gpus) == ("cuda", 1)
    assert 1 < crew.actors <= gpu["maxReplicas"]


def test_the_page_makes_a_training_of_the_manifest(repository: Path) -> None:
    folder = repository / "cluster" / "kubernetes"
    (edit,) = re.findall(r"^(sed -e .*?rayjob\.yaml) \|", (folder / "README.md").read_text(),
                         re.DOTALL | re.MULTILINE)  # fmt: skip
    made = subprocess.run(
        ["bash", "-c", edit], cwd=repository, capture_output=True, text=True, check=True
    )
    job = yaml.safe_load(made.stdout)
    jsonschema.validate(job, own_schema(repository, "RayJob"))
    assert job["metadata"]["name"] == "kdcache-train"
    assert "kdcache-extract" not in made.stdout
    command, _, file, *settings = shlex.split(job["spec"]["entrypoint"])
    check_command([command, "train", file, *settings])
    assert Path(file) == Path("/config/train.yaml")
    student = load_config(repository / "cluster" / "train.yaml", TrainSettings, settings[1::2])
    gpus = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]
    assert student.gpu
    assert student.ray_address == "auto"
    assert student.workers <= gpus
