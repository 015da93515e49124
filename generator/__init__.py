"""The CLI: a git tree of Workspaces becomes plans and manifests."""
