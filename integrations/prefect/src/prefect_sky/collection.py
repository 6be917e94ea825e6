"""What Prefect loads when it looks for collections: importing this registers the block and the worker."""

from prefect_sky.credentials import SkyCredentials
from prefect_sky.worker import SkyWorker

__all__ = ["SkyCredentials", "SkyWorker"]
