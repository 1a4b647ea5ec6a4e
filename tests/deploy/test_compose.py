"""The Compose file and the Prometheus configuration agree with each other, with the programs' own flags, and with the images."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfiles import NAMES, ROOT, load, rest_of, services
from tests.prometheus import found

PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
COMPOSE_FOLDER = ROOT / "deploy" / "compose"


def flags(service: str) -> dict[str, str]:
    """The flags of a service's command, with their values."""
    words = list(map(str, services()[service]["command"]))
    return {word: following for word, following in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")}


@pytest.mark.parametrize("service", NAMES)
def test_every_flag_is_one_the_program_knows(service: str) -> None:
    _, command = json.loads(rest_of(service, "ENTRYPOINT")[0])
    done = subprocess.run(
        [sys.executable, "-m", "clients.cli.main", command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    assert set(flags(service)) <= known


@pytest.mark.parametrize("service", NAMES)
def test_images_are_built_from_the_dockerfiles_here(service: str) -> None:
    build = services()[service]["build"]
    context = (COMPOSE_FOLDER / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).name == f"{service}.Dockerfile"
    assert (context / build["dockerfile"]).is_file()


def test_only_loopback_ports_are_published_and_the_programs_listen_on_them() -> None:
    published = {name: list(service.get("ports", [])) for name, service in services().items()}
    assert published["daemon"] == ["127.0.0.1:8001:8001", "127.0.0.1:8002:8002"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert flags("daemon")["--grpc-address"] == "0.0.0.0:8001"
    assert flags("daemon")["--metrics-address"] == "0.0.0.0:8002"
    assert flags("control-plane")["--http-address"] == "0.0.0.0:8000"
    for service in ("daemon", "control-plane"):
        listened = {port.rpartition(":")[2] for port in published[service]}
        assert listened == set(rest_of(service, "EXPOSE")[0].split())
        assert "--insecure" in flags(service)


def test_all_share_one_registry_which_the_daemon_only_reads() -> None:
    home = rest_of("daemon", "WORKDIR")[-1]
    mounts = {name: services()[name]["volumes"][0] for name in NAMES}
    assert mounts == {"daemon": f"registry:{home}:ro", "control-plane": f"registry:{home}", "training": f"registry:{home}"}
    for name in NAMES:
        assert rest_of(name, "WORKDIR")[-1] == home
        assert f"TIDEGATE_REGISTRY={home}/" in " ".join(rest_of(name, "ENV"))


def test_daemon_writes_the_logs_by_which_the_control_plane_judges_quality() -> None:
    logs = {name: services()[name]["environment"] for name in ("daemon", "control-plane")}
    assert logs["daemon"] == logs["control-plane"]
    assert {f"TIDEGATE_{name}" for name in ("PREDICTION_LOG", "FEEDBACK_LOG")} == logs["daemon"].keys()
    folder = "/var/log/tidegate"
    assert all(path.startswith(f"{folder}/") for path in logs["daemon"].values())
    assert f"logs:{folder}" in services()["daemon"]["volumes"]
    assert f"logs:{folder}:ro" in services()["control-plane"]["volumes"]
    # A volume belongs to whom the folder in the image does.
    assert all(f"mkdir -m 0700 {folder} && chown tidegate:tidegate {folder}" in " ".join(rest_of(name, "RUN")) for name in logs)


def test_every_file_mounted_exists_and_training_finds_its_spec() -> None:
    binds = [mount.split(":") for service in services().values() for mount in service["volumes"] if mount.startswith(".")]
    assert binds
    for source, target, mode in binds:
        assert (COMPOSE_FOLDER / source).exists()
        assert mode == "ro"
        if target == "/spec":
            assert services()["training"]["command"] == [f"/spec/{name.name}" for name in (COMPOSE_FOLDER / source).glob("spec.toml")]
    assert services()["training"]["profiles"] == ["train"]


def test_alertmanager_reads_what_is_shipped_and_looks_for_no_others() -> None:
    service = services()["alertmanager"]
    command = dict(word.split("=", 1) for word in service["command"])
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in service["volumes"]}
    assert (COMPOSE_FOLDER / mounts[command["--config.file"]]).resolve() == ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    assert mounts[command["--storage.path"]] == "alertmanager"
    assert command["--cluster.listen-address"] == ""
    assert service["ports"] == ["127.0.0.1:9093:9093"]


def test_grafana_has_no_password_calls_nobody_and_finds_what_is_shipped() -> None:
    service = services()["grafana"]
    settings = service["environment"]
    assert (settings["GF_AUTH_ANONYMOUS_ENABLED"], settings["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert not [name for name in settings if "PASSWORD" in name or "SECRET" in name]
    calling = ("REPORTING_ENABLED", "CHECK_FOR", "NEWS_FEED", "EXTERNAL_ENABLED", "PREINSTALL_AUTO_UPDATE")
    assert {value for name, value in settings.items() if any(word in name for word in calling)} == {"false"}
    assert settings["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    mounts = {mount.split(":")[1]: (COMPOSE_FOLDER / mount.split(":")[0]).resolve() for mount in service["volumes"]}
    (provider,) = load(mounts["/etc/grafana/provisioning"] / "dashboards" / "tidegate.yml")["providers"]
    assert list(mounts[provider["options"]["path"]].glob("*.json"))
    (source,) = load(mounts["/etc/grafana/provisioning"] / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_no_image_follows_a_moving_tag() -> None:
    images = [service["image"] for service in services().values() if "build" not in service]
    assert images
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images)


def test_only_what_has_to_write_to_its_own_disk_is_not_read_only() -> None:
    assert {name for name, service in services().items() if not service.get("read_only")} <= {"prometheus"}
    assert all(service["cap_drop"] == ["ALL"] for service in services().values())


def test_prometheus_scrapes_both_programs_where_they_listen() -> None:
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in load(PROMETHEUS)["scrape_configs"]}
    metrics, http = flags("daemon")["--metrics-address"], flags("control-plane")["--http-address"]
    first, replicas = int(metrics.rpartition(":")[2]), int(flags("daemon").get("--replicas", 1))
    assert jobs["tidegate-daemon"] == [f"daemon:{first + number}" for number in range(replicas)]
    assert jobs["tidegate-control-plane"] == [f"control-plane:{http.rpartition(':')[2]}"]
    assert flags("control-plane")["--daemon"] == f"daemon:{flags('daemon')['--grpc-address'].rpartition(':')[2]}"
    mount = next(mount for mount in services()["prometheus"]["volumes"] if mount.startswith("."))
    assert (COMPOSE_FOLDER / mount.split(":")[0]).resolve() == PROMETHEUS


def test_prometheus_finds_its_rules_and_alertmanager() -> None:
    configuration = load(PROMETHEUS)
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in services()["prometheus"]["volumes"]}
    assert configuration["rule_files"] == ["rules/*.yml"]
    assert (COMPOSE_FOLDER / mounts["/etc/prometheus/rules"]).resolve() == PROMETHEUS.parent / "rules"
    (group,) = configuration["alerting"]["alertmanagers"][0]["static_configs"]
    assert group["targets"] == ["alertmanager:9093"]


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    command = [found("promtool"), "check", "config", str(PROMETHEUS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
