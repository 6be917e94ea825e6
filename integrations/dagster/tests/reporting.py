"""The program that runs as a task: it tells Dagster about the asset through Pipes. An argument makes it fail."""

import sys

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    print("an ordinary line")
    print("no end of line", end="")
    pipes.log.info(f"trains for {pipes.get_extra('epochs')} epochs")
    if pipes.is_partition_step:
        pipes.log.info(f"partition {pipes.partition_key}")
    if len(sys.argv) > 1:
        raise SystemExit("the disk is full")
    pipes.report_custom_message({"model": "m.bin"})
    pipes.report_asset_materialization(metadata={"rows": {"raw_value": 42, "type": "int"}}, data_version="v7")
    pipes.report_asset_check("sane", passed=True)
