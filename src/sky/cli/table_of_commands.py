"""Names, homes and one-line helps of all commands, so that help and completion load none of them.

Read by `sky.cli` (help before click is loaded) and by the lazy groups. Order is the order of help.
A row is `(name, "module:attribute", one-line help)`.
"""

Row = tuple[str, str, str]

CLUSTER_COMMANDS: tuple[Row, ...] = (
    ("launch", "sky.cli.launch:launch", "Run a task on a cluster, made for it if need be."),
    ("exec", "sky.cli.launch:exec_", "Run a task or a command on a cluster that is up."),
    ("status", "sky.cli.status:status", "Show the clusters."),
    ("cost-report", "sky.cli.costs:cost_report", "Show what clusters cost, those that are gone included."),
    ("ledger", "sky.cli.costs:ledger", "Show everything that is billed, line by line."),
    ("receipt", "sky.cli.receipts:cluster", "Show what a cluster has cost, and where it went."),
    ("budget", "sky.cli.groups:budget", "Budgets: how much may be spent, and what is done as it is."),
    ("queue", "sky.cli.jobs:queue", "Show the jobs of clusters."),
    ("logs", "sky.cli.jobs:logs", "Follow or fetch the log of a job."),
    ("cancel", "sky.cli.jobs:cancel", "Cancel jobs of a cluster."),
    ("stop", "sky.cli.clusters:stop", "Stop clusters; their disks are kept."),
    ("autostop", "sky.cli.clusters:autostop", "Stop or remove clusters once they are idle."),
    ("start", "sky.cli.clusters:start", "Start stopped clusters again."),
    ("down", "sky.cli.clusters:down", "Remove clusters and all that is on them."),
    ("events", "sky.cli.events:events", "Tell the story of a cluster in plain words."),
    ("mcp", "sky.cli.mcp:mcp", "Serve tools to a coding agent (Model Context Protocol)."),
    ("chaos", "sky.cli.faults:chaos", "Cause a fault, to see whether jobs recover."),
    ("port-forward", "sky.cli.forward:port_forward", "Bring ports of a node to this machine."),
)

JOBS_COMMANDS: tuple[Row, ...] = (
    ("jobs", "sky.cli.groups:jobs", "Managed jobs: on clusters of their own, recovered from every loss."),
)

INFRA_COMMANDS: tuple[Row, ...] = (
    ("check", "sky.cli.infra:check", "Show which infra can be used, and why others cannot."),
    ("gpus", "sky.cli.groups:gpus", "Accelerators and where they are sold."),
    ("optimize", "sky.cli.optimize:optimize", "Show where a task would run, and why not elsewhere."),
    (
        "simulate",
        "sky.cli.simulate:simulate",
        "Show what a job with a deadline would have cost under several policies.",
    ),
    ("catalog", "sky.cli.groups:catalog", "Prices: how good and how old they are, and newer ones."),
    ("ssh", "sky.cli.groups:ssh", "A shell on a node of a cluster; pools of machines reached by SSH."),
)

SERVER_COMMANDS: tuple[Row, ...] = (
    ("api", "sky.cli.groups:api", "The API server and the requests made to it."),
    ("workspace", "sky.cli.groups:workspace", "Workspaces: which one is used, and who works where."),
    ("users", "sky.cli.groups:users", "Users of a shared server, and tokens of service accounts."),
    ("debug-dump", "sky.cli.upkeep:debug_dump", "Collect logs and state for a bug report."),
)

LATER_COMMANDS: tuple[Row, ...] = (
    ("storage", "sky.cli.later:storage", "Buckets."),
    ("volumes", "sky.cli.later:volumes", "Volumes that outlive a cluster."),
    ("dashboard", "sky.cli.later:dashboard", "The web page of the server."),
    ("serve", "sky.cli.later:serve", "Services with replicas and autoscaling."),
)

#: Found when typed, shown nowhere.
HIDDEN_COMMANDS: tuple[Row, ...] = (
    ("show-gpus", "sky.cli.gpus:gpus_list", "Old name of `gpus list`."),
    ("volume", "sky.cli.later:volumes", "Same as volumes."),
    ("progress", "sky.cli.faults:progress", "Inside of a job: say how far it is."),
    ("ui", "sky.cli.later:dashboard", "Same as dashboard."),
    ("status-kubernetes", "sky.cli.later:status_kubernetes", "Resources of all users in a Kubernetes context."),
    ("local", "sky.cli.later:local", "A Kubernetes cluster on this machine."),
)

SECTIONS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    ("Clusters and their jobs", CLUSTER_COMMANDS),
    ("Managed jobs", JOBS_COMMANDS),
    ("Infra", INFRA_COMMANDS),
    ("Server", SERVER_COMMANDS),
    ("Not supported yet in this version", LATER_COMMANDS),
)

API_ROWS: tuple[Row, ...] = (
    ("start", "sky.cli.server:start", "Start the API server of this machine."),
    ("stop", "sky.cli.server:stop", "Stop the API server of this machine."),
    ("info", "sky.cli.server:info", "Show the server that commands talk to."),
    ("status", "sky.cli.requests:status", "Show requests made to the server."),
    ("logs", "sky.cli.requests:logs", "Follow a request, or the log of the server itself."),
    ("cancel", "sky.cli.requests:cancel", "Cancel requests."),
    ("backup", "sky.cli.upkeep:backup", "Copy the server's records to a file."),
    ("restore", "sky.cli.upkeep:restore", "Put a back-up in the place of the records."),
    ("rotate-key", "sky.cli.upkeep:rotate_key", "Encrypt the records with a new key."),
    ("login", "sky.cli.login:login", "Use a shared server."),
    ("logout", "sky.cli.login:logout", "Stop using a shared server."),
    ("audit", "sky.cli.users:audit", "Show who changed what on the server."),
)

JOBS_ROWS: tuple[Row, ...] = (
    ("launch", "sky.cli.managed_jobs:launch", "Run one or several tasks as a managed job."),
    ("queue", "sky.cli.managed_jobs:queue", "Show managed jobs, and why they are as they are."),
    ("cancel", "sky.cli.managed_jobs:cancel", "End managed jobs and their clusters."),
    ("logs", "sky.cli.managed_jobs:logs", "Follow or fetch the log of a managed job."),
    ("receipt", "sky.cli.receipts:job", "Show what a managed job has cost, and where it went."),
    ("schedule", "sky.cli.groups:schedule", "Managed jobs at the times of a cron expression."),
    ("pool", "sky.cli.groups:pool", "Workers that are set up once and run one job after another."),
    ("dashboard", "sky.cli.later:jobs_dashboard", "The web page of the server (not supported yet)."),
)

POOL_ROWS: tuple[Row, ...] = (
    ("apply", "sky.cli.pools:apply", "Make a pool of workers, or change one."),
    ("status", "sky.cli.pools:status", "Show pools and their workers."),
    ("down", "sky.cli.pools:down", "Take pools and their workers down."),
    ("logs", "sky.cli.pools:logs", "Show how workers were set up, or what was decided about a pool."),
)

BUDGET_ROWS: tuple[Row, ...] = (
    ("set", "sky.cli.budgets:set_", "Set a budget, or change one."),
    ("list", "sky.cli.budgets:list_", "Show budgets, what is spent and what is reserved."),
    ("rm", "sky.cli.budgets:remove", "Forget budgets."),
)

SCHEDULE_ROWS: tuple[Row, ...] = (
    ("add", "sky.cli.schedules:add", "Launch a managed job at the times of a cron expression."),
    ("list", "sky.cli.schedules:list_", "Show schedules, and their next times."),
    ("rm", "sky.cli.schedules:remove", "Forget schedules."),
    ("pause", "sky.cli.schedules:pause", "Launch nothing more for a schedule, or go on."),
)

WORKSPACE_ROWS: tuple[Row, ...] = (
    ("use", "sky.cli.workspace:use", "Work in a workspace from now on."),
    ("info", "sky.cli.workspace:info", "Show in which workspace launches work."),
    ("list", "sky.cli.workspace:list_", "Show the workspaces."),
    ("create", "sky.cli.workspace:create", "Make a workspace."),
    ("update", "sky.cli.workspace:update", "Replace the configuration of a workspace."),
    ("delete", "sky.cli.workspace:delete", "Remove an empty workspace."),
    ("add-user", "sky.cli.workspace:add_user", "Let users work in a workspace."),
    ("remove-user", "sky.cli.workspace:remove_user", "Let users work there no longer."),
)

USERS_ROWS: tuple[Row, ...] = (
    ("list", "sky.cli.users:list_", "Show the users."),
    ("create", "sky.cli.users:create", "Let somebody in."),
    ("set-role", "sky.cli.users:set_role", "Make a user admin, user or viewer."),
    ("set-password", "sky.cli.users:set_password", "Give a user another password."),
    ("disable", "sky.cli.users:disable", "Shut a user out."),
    ("enable", "sky.cli.users:enable", "Let a user in again."),
    ("delete", "sky.cli.users:delete", "Forget a user and their tokens."),
    ("import", "sky.cli.users:import_", "Let in and change the users of a table."),
    ("export", "sky.cli.users:export", "Write all users as a table."),
    ("token", "sky.cli.groups:token", "Tokens of service accounts."),
)

TOKEN_ROWS: tuple[Row, ...] = (
    ("list", "sky.cli.users:token_list", "Show tokens, without their secrets."),
    ("create", "sky.cli.users:token_create", "Make a service account and its token."),
    ("rotate", "sky.cli.users:token_rotate", "Put a new token in a token's place."),
    ("delete", "sky.cli.users:token_delete", "End a token."),
)

GPUS_ROWS: tuple[Row, ...] = (
    ("list", "sky.cli.gpus:gpus_list", "Show accelerators, where they are sold and at what price."),
    ("label", "sky.cli.later:gpus_label", "Label the GPU nodes of Kubernetes (not supported yet)."),
)

CATALOG_ROWS: tuple[Row, ...] = (
    ("status", "sky.cli.catalog:status", "Show what the catalog holds of each cloud."),
    ("refresh", "sky.cli.catalog:refresh", "Ask clouds for their prices."),
)

SSH_ROWS: tuple[Row, ...] = (
    ("up", "sky.cli.ssh:up", "Look at the machines of pools."),
    ("down", "sky.cli.ssh:down", "Forget what is known of pools."),
)

#: What `sky ssh` is when its first word is the name of a cluster; a word that none can have.
SSH_NODE: Row = ("(node)", "sky.cli.nodes:ssh", "A shell or a command on a node.")

ROOT_OPTIONS: tuple[tuple[str, str], ...] = (
    ("--install-shell-completion SHELL", "bash, zsh, fish or auto: completion for your shell."),
    ("--uninstall-shell-completion SHELL", "Take it away again."),
    ("-v, --version", "Show the version."),
    ("-c, --commit", "Show the commit this was built from."),
    ("-h, --help", "Show this text."),
)


def _block(rows: tuple[tuple[str, str], ...], width: int) -> list[str]:
    return [f"  {left:<{width}}  {right}" for left, right in rows]


def root_help() -> str:
    """Return the text of `sky --help`."""
    lines = ["Usage: sky [OPTIONS] COMMAND [ARGS]...", "", "  Run workloads where they are cheapest and available.", ""]
    lines += ["Options:", *_block(ROOT_OPTIONS, 34)]
    for title, rows in SECTIONS:
        lines += ["", f"{title}:", *_block(tuple((name, text) for name, _, text in rows), 12)]
    lines += ["", "`sky COMMAND --help` explains a command. `sky launch 'echo hi'` is a first try."]
    return "\n".join(lines) + "\n"
