"""`sky mcp`: serves the tools of `mcp_tools` to a coding agent, by the Model Context Protocol. Loaded when it runs."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, Any

import click

from sky.cli import exit_codes, options
from sky.cli.mcp_tools import ADDING, ENDING, INSTRUCTIONS, LOOKING, Tools, answer
from sky.core.errors import NotSupportedError
from sky.version import __version__

if TYPE_CHECKING:
    from mcp.server import MCPServer


@options.command("mcp", help="Serve tools to a coding agent on standard input and output (Model Context Protocol).")
@click.option("--read-only", is_flag=True, help="Offer the tools that only look.")
@click.option("--allow-hourly", type=click.FloatRange(min=0), default=0.0, metavar="USD",
              help="What a launch may cost an hour without anybody's consent; 0, so only what is free.")  # fmt: skip
def mcp(*, read_only: bool, allow_hourly: float) -> int:
    """Serve until standard input ends."""
    served(Tools(allowance=allow_hourly), read_only=read_only).run("stdio")
    return exit_codes.OK


def served(tools: Tools, *, read_only: bool = False) -> "MCPServer[Any]":
    """A server with these tools. Raises NotSupportedError where the library is not installed."""
    try:
        from mcp.server import MCPServer  # noqa: PLC0415 - an extra
        from mcp.types import ToolAnnotations  # noqa: PLC0415
    except ImportError as error:
        raise NotSupportedError("sky mcp needs a library: pip install 'altostratus[mcp]'") from error
    server: MCPServer[Any] = MCPServer("sky", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    for names, hints in (
        (LOOKING, ToolAnnotations(read_only_hint=True)),
        (ADDING, ToolAnnotations(read_only_hint=False, destructive_hint=False)),
        (ENDING, ToolAnnotations(read_only_hint=False, destructive_hint=True)),
    ):
        for name in names if not read_only or names is LOOKING else ():
            tool = getattr(tools, name)
            server.add_tool(_asking(tools, tool) if name in ("launch", "jobs_launch") else _plain(tool),
                            name=name, description=inspect.getdoc(tool), annotations=hints,
                            structured_output=False)  # fmt: skip
    return server


def _plain(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool in a thread of its own: others are answered meanwhile."""

    @wraps(tool)
    async def call(**given: Any) -> str:
        return await _in_thread(partial(answer, partial(tool, **given)))

    return call


def _asking(tools: Tools, tool: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but where the agent's program can ask its user, it is the user who agrees to the price."""
    from mcp.server.mcpserver import Context, Elicit, Resolve  # noqa: PLC0415 - an extra
    from pydantic import BaseModel, Field  # noqa: PLC0415 - comes with it

    class Agreement(BaseModel):
        """What the user is asked."""

        agree: bool = Field(description="Launch it")

    class Unasked(Agreement):
        """Nobody was asked: what the agent says counts."""

    def consent(ctx: Context[Any, Any], plan: str) -> Agreement | Elicit[Agreement]:
        price, able = tools.price_of(plan), ctx.client_capabilities
        if price is None or able is None or able.elicitation is None:
            return Unasked(agree=False)
        return Elicit(f"This will cost {price:.2f} USD an hour. Launch it?", Agreement)

    async def call(consent: Agreement, **given: Any) -> str:
        if not isinstance(consent, Unasked):
            if not consent.agree:
                return '{"error": "Refused", "message": "the user does not want it"}'
            given["confirm_hourly_cost"] = tools.price_of(given["plan"])
        return await _in_thread(partial(answer, partial(tool, **given)))

    # The library reads a tool's parameters off its signature, and asks by what the parameter's type says.
    own, asked = inspect.signature(tool), Annotated[Agreement, Resolve(consent)]
    parameter = inspect.Parameter("consent", inspect.Parameter.KEYWORD_ONLY, annotation=asked)
    call.__signature__ = own.replace(parameters=[*own.parameters.values(), parameter])  # type: ignore[attr-defined]
    call.__annotations__ = {**tool.__annotations__, "consent": asked}
    call.__name__ = tool.__name__
    return call


async def _in_thread(call: Callable[[], str]) -> str:
    import anyio.to_thread  # noqa: PLC0415 - comes with the library

    return await anyio.to_thread.run_sync(call)
