"""What webhook and watcher share of Kubernetes."""
