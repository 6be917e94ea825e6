"""check and gpus list against a real server whose places are those of the registry."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sky import cli

HERE = Path(__file__).parent
#: The code under test, wherever the command is run.
SOURCE = str(Path(cli.__file__).parents[2])
SECRET = "do-not-tell-77ab"
Run = subprocess.CompletedProcess[str]
Sky = Callable[..., Run]


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    root = Path(tempfile.mkdtemp(prefix="sky-gpus-"))  # sockets need a short path
    (root / ".lambda_cloud").mkdir()
    (root / ".lambda_cloud" / "lambda_keys").write_text(f"api_key = {SECRET}\n")
    env = {
        key: value for key, value in os.environ.items() if not re.match("SKY|AWS|GOOGLE|.*_(API_)?(KEY|TOKEN)$", key)
    }
    env |= {"HOME": str(root), "SKY_STATE_DIR": str(root / "s")}
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [sys.executable, "-m", "sky.server", "--plane", "market_plane:build", "--ready-fd", str(writer)],
        env=env | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "server"), SOURCE])},
        pass_fds=(writer,),
        stdin=subprocess.DEVNULL,
    )
    os.close(writer)

    def run(*words: str) -> Run:
        return subprocess.run(
            [sys.executable, "-m", "sky.cli", *words],
            capture_output=True,
            text=True,
            env=env | {"PYTHONPATH": SOURCE},
            cwd=root,
            timeout=60,
        )

    try:
        assert os.read(reader, 16), "the server did not start"
        yield run
    finally:
        os.close(reader)
        server.terminate()
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)


def lines(run: Run) -> list[str]:
    assert run.returncode == 0, run.stdout + run.stderr
    return [" ".join(line.split()) for line in run.stdout.splitlines()]


# --- check -----------------------------------------------------------------------------------------------------------


def test_enabled_places_come_first_and_those_without_credentials_are_one_line(sky: Sky) -> None:
    shown = sky("check")
    text = shown.stdout
    assert text.index("local: enabled [compute]") < text.index("lambda: disabled") < text.index("Without credentials:")
    assert "credentials found in ~/.lambda_cloud/lambda_keys; this version cannot rent machines there yet" in text
    assert SECRET not in text + shown.stderr
    assert "aws" in re.search("Without credentials: (.*)", text).group(1).split(", ")  # type: ignore[union-attr]
    assert "sky check aws" in text and "1. " not in text
    assert text.rstrip().endswith("Enabled infra: local")


def test_the_steps_are_told_for_a_place_that_is_named(sky: Sky) -> None:
    shown = sky("check", "hetzner")
    assert shown.returncode == 1
    assert "reason: no credentials: looked in $HCLOUD_TOKEN, ~/.config/hcloud/cli.toml" in shown.stdout
    assert re.search(r"to enable:\n +1\. Make an API token", shown.stdout)
    assert "None of these is enabled." in shown.stderr
    assert "to enable:" in sky("check", "-v").stdout


def test_other_words_for_a_place_and_misspelt_ones(sky: Sky) -> None:
    assert "  do: disabled" in sky("check", "DigitalOcean").stdout
    assert "did you mean azure?" in sky("check", "azurre").stdout


def test_the_shape_for_programs(sky: Sky) -> None:
    told = json.loads(sky("check", "-o", "json").stdout)["default"]
    assert len(told) == 30
    assert set(told["aws"]) == {"enabled", "capabilities", "reason", "hint", "account"}


def test_only_what_can_be_used_is_enabled(sky: Sky) -> None:
    told = json.loads(sky("check", "-o", "json").stdout)["default"]
    assert [cloud for cloud, access in told.items() if access["enabled"]] == ["local"]


# --- gpus ------------------------------------------------------------------------------------------------------------


def test_the_common_list(sky: Sky) -> None:
    assert lines(sky("gpus", "list")) == [
        "COMMON_GPU AVAILABLE_QUANTITIES",
        "H100 8",
        "",
        "GOOGLE_TPU AVAILABLE_QUANTITIES",
        "tpu-v5e-8 1",
        "",
        "OTHER_GPU AVAILABLE_QUANTITIES",
        "RTX4090 0.5",
    ]


def test_one_accelerator_from_its_cheapest_regions(sky: Sky) -> None:
    shown = sky("show-gpus", "h100")
    assert lines(shown) == [
        "GPU QTY CLOUD INSTANCE_TYPE DEVICE_MEM vCPUs HOST_MEM HOURLY_PRICE HOURLY_SPOT_PRICE REGION",
        "H100 8 lambda gpu_8x_h100 80GB 192 2048GB $ 23.920 - us-east-1",
        "H100 8 aws p5.48xlarge 80GB 192 2048GB $ 55.040 $ 17.500 us-east-1",
    ]
    assert "Prices were seen 2 days ago" in shown.stderr
    assert "1 of 2 prices are computed or estimated" in shown.stderr


def test_all_regions_of_one_cloud_with_where_the_prices_are_from(sky: Sky) -> None:
    head, *rows = lines(sky("gpus", "list", "H100:8", "--infra", "aws", "--all-regions", "-v"))
    assert head.endswith("REGION QUALITY AGE SOURCE")
    assert [row.split("GB ")[-1] for row in rows] == [
        "$ 55.040 $ 17.500 us-east-1 list 2 days ago https://prices.example/aws",
        "$ 61.000 - eu-north-1 list 2 days ago https://prices.example/aws",
    ]


def test_everything(sky: Sky) -> None:
    assert [line.split()[0] for line in lines(sky("gpus", "list", "-a"))[1:]] == [
        "H100",
        "H100",
        "RTX4090",
        "tpu-v5e-8",
    ]
    told = json.loads(sky("gpus", "list", "-a", "-o", "json").stdout)
    assert told[1]["source"] == "https://prices.example/aws" and told[1]["quality"] == "list"


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (("H10O",), "No H10O.", "Did you mean H100?"),
        (("h100:4",), "No h100:4.", "H100 is sold in the quantities 8."),
        (("H100", "--infra", "vast"), "No H100 in vast.", "H100 is sold elsewhere in the quantities 8."),
        (("qqqq",), "No qqqq.", "shows the names that are known"),
        (("--infra", "seeweb"), "No accelerators in seeweb.", "without a filter"),
    ],
)
def test_nothing_found_says_what_was_probably_meant(sky: Sky, words: tuple[str, ...], says: str, hint: str) -> None:
    shown = sky("gpus", "list", *words)
    assert (shown.returncode, shown.stdout) == (0, f"{says}\n")
    assert hint in shown.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--infra", "asw"), "did you mean 'aws'"),
        (("--infra", "aws/us-east-1/us-east-1a"), "listed by region"),
        (("--infra", "aws", "--cloud", "aws"), "drop --cloud"),
        (("H100:many",), "whole number"),
    ],
)
def test_wrong_usage(sky: Sky, words: tuple[str, ...], says: str) -> None:
    shown = sky("gpus", "list", *words)
    assert shown.returncode == 2
    assert says in shown.stderr
