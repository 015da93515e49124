"""The node-watcher: plans become GPU nodes, and Workspaces get their status."""
