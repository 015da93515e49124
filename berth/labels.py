"""Names that stand in Kubernetes objects: the only place of these string literals."""

from __future__ import annotations

GROUP = "kaito.sh"
VERSIONS = ("v1alpha1", "v1beta1")
KIND = "Workspace"

# The original's own names, kept so that its users' selectors and dashboards go on working.
WORKSPACE = "kaito.sh/workspace"
WORKSPACE_NAMESPACE = "kaito.sh/workspacenamespace"
ENABLE_LOAD_BALANCER = "kaito.sh/enablelb"

# Ours.
DOMAIN = "berth.dev"
PLAN = "berth.dev/plan"
"""Annotation of a Workspace: the whole plan as compact JSON."""
SERVER = "berth.dev/server"
"""Annotation of a workload and of its pods: the compact copy of the plan that admission compares."""
NODES = "berth.dev/nodes"
"""Annotation of a workload: how many replicas the plan has nodes for, and on which instance types."""
CONTAINER = "berth.dev/container"
"""Annotation of a workload: command and image of the engine's containers, which no plan holds."""
SERVER_DIGEST = "berth.dev/server-digest"
"""Annotation of a workload and of its pods: the digest of that copy; changes exactly when the pods must."""
SPEC_DIGEST = "berth.dev/spec-digest"
CATALOG_DIGEST = "berth.dev/catalog-digest"
FLEET_DIGEST = "berth.dev/fleet-digest"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
ROLE = "berth.dev/role"
"""Label of a pod of several nodes: `leader` or `worker`."""

# The watcher's.
WORKSPACE_UID = "berth.dev/workspace-uid"
"""Label of a claim: the uid of the Workspace that it was made for; only such claims are ours."""
INDEX = "berth.dev/index"
"""Annotation of a claim: which of the Workspace's nodes it is."""
ATTEMPT = "berth.dev/attempt"
"""Annotation of a claim: how often this node had to be asked for anew."""
FINALIZER = "berth.dev/nodes"
"""Finalizer of a Workspace while claims of ours may exist."""
PAUSED = "berth.dev/paused"
"""Annotation of a Workspace: `true` keeps the watcher from making and removing nodes."""
NODE_POOL = "karpenter.sh/nodepool"
KAITO_POOL = "kaito"
"""The NodePool that KAITO's claims name and nobody makes: Karpenter scales nothing up by it."""

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
HOSTNAME = "kubernetes.io/hostname"
GPU_RESOURCE = "nvidia.com/gpu"
GPU_TAINT_KEY = "sku"
GPU_TAINT_VALUE = "gpu"

PORT = 5000
"""Of the HTTP front in the pod, as in the original."""
METRICS_PORT = 9090
ENGINE_PORT = 8080
"""Of llama-server, on the pod's loopback only."""
RPC_PORT = 50052
SERVICE_PORT = 80
