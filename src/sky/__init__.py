"""Sky Computing: run workloads where they are cheapest and available."""
