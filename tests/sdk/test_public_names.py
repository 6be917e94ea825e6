"""``import sky``: light, without effects, and with every name of the interface behind it."""

import importlib.util
import subprocess
import sys

import pytest

import sky

CALLS = """
    launch exec status start stop down autostop queue job_status cancel tail_logs download_logs cost_report
    endpoints optimize validate get stream_and_get api_status api_cancel api_info api_start api_stop
    api_server_logs api_login check enabled_clouds list_accelerators list_accelerator_counts storage_ls
    storage_delete reload_config set_preferred_workspace get_user_workspace create_debug_dump
    download_debug_dump
"""
NOUNS = """
    Task Resources Dag Storage StorageMode StoreType FileMountType ClusterStatus JobStatus ManagedJobStatus
    StatusRefreshMode OptimizeTarget DagExecution AutostopConfig CLOUD_REGISTRY __version__ jobs serve volumes
    clouds exceptions
"""
CLOUDS = """
    AWS Azure Cudo GCP IBM Kubernetes K8s SSH Lambda OCI Paperspace PrimeIntellect RunPod Vast SCP Slurm Vsphere
    Fluidstack Nebius Hyperbolic Mithril Shadeform Seeweb Yotta DO Verda Local
"""
LATER = [
    (home, name)
    for home, names in {
        "sky.jobs": ("dashboard",),
        "sky.serve": ("up", "update", "down", "status", "tail_logs"),
        "sky.volumes": ("apply", "ls", "delete", "validate"),
        "sky": ("storage_ls", "dashboard", "local_up"),
    }.items()
    for name in names
]


def child(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_loads_nothing_else_of_ours() -> None:
    loaded = "import sys, sky; print(len([name for name in sys.modules if name.split('.')[0] == 'sky']))"
    assert int(child(loaded)) < 10


def test_importing_loads_no_foreign_library() -> None:
    heavy = "import sys, sky; print({'yaml', 'click', 'msgspec', 'sqlalchemy', 'asyncio', 'httpx'} & set(sys.modules))"
    assert child(heavy) == "set()"


def test_a_task_needs_no_network_and_no_server_library() -> None:
    program = (
        "import sys, sky; sky.Task(run='x', resources=sky.Resources(infra='local'));"
        "print({'yaml', 'asyncio', 'ssl', 'http.client', 'click', 'sqlalchemy', 'uvicorn'} & set(sys.modules))"
    )
    assert child(program) == "set()"


@pytest.mark.parametrize("name", sorted({*CALLS.split(), *NOUNS.split(), *CLOUDS.split(), *sky.__all__}))
def test_names_resolve(name: str) -> None:
    home = sky._HOME_OF.get(name, f"sky.{name}")
    if importlib.util.find_spec(home) is None:
        pytest.skip(f"{home} is not there yet")
    value = getattr(sky, name)
    assert value is getattr(sky, name)
    assert name in dir(sky)
    if name in CALLS.split():
        assert callable(value)
    if name in CLOUDS.split():
        assert value() == sky.CLOUD_REGISTRY.from_str(value.NAME)


@pytest.mark.parametrize(("home", "name"), LATER)
def test_what_is_not_built_says_so_when_called(home: str, name: str) -> None:
    call = getattr(importlib.import_module(home), name)
    with pytest.raises(sky.exceptions.NotSupportedError, match=name):
        call("anything", keyword=1)


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(AttributeError, match=r"did you mean 'sky.launch'"):
        sky.lunch  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute '_hidden'"):
        sky._hidden  # noqa: B018


def test_names_of_old_tell_where_they_went() -> None:
    with pytest.raises(AttributeError, match=r"it is 'sky.jobs.launch' now"):
        sky.spot_launch  # noqa: B018


def test_other_distributions_appear_by_entry_point(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "weather_sdk.py").write_text("WIND = 7\n", encoding="utf-8")
    info = tmp_path / "weather-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weather\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[sky.client_sdks]\nweather = weather_sdk\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert sky.weather.WIND == 7
    finally:
        vars(sky).pop("weather", None)
        sys.modules.pop("weather_sdk", None)


def test_a_policy_can_be_written_and_tried() -> None:
    class OnlySpot(sky.AdminPolicy):
        @classmethod
        def validate_and_mutate(cls, user_request: sky.UserRequest) -> sky.MutatedUserRequest:
            task = user_request.task.set_resources_override({"use_spot": True})
            return sky.MutatedUserRequest(task, user_request.skypilot_config.over({"aws": {"x": 1}}))

    changed = OnlySpot.validate_and_mutate(sky.UserRequest(sky.Task(run="x"), sky.Config({"aws": {"y": 2}})))
    assert changed.task.use_spot
    assert changed.skypilot_config.get_nested(("aws", "x"), None) == 1
