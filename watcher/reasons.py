"""Every reason that a condition can give: what it means, what to do. The reference page is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    """The types of conditions, in the order in which they are written."""

    NODE_CLAIM_READY = "NodeClaimReady"
    MACHINE_READY = "MachineReady"
    RESOURCE_READY = "ResourceReady"
    INFERENCE_READY = "InferenceReady"
    WORKSPACE_READY = "WorkspaceReady"
    NOT_RENDERED = "NotRendered"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


CONDITIONS: dict[Condition, str] = {
    Condition.NODE_CLAIM_READY: "Every NodeClaim of the Workspace is ready; with `provisioning: nodeclaim`.",
    Condition.MACHINE_READY: "The same of Machines; with `provisioning: machine`.",
    Condition.RESOURCE_READY: "As many nodes as planned are ready, each with the GPUs that it should have.",
    Condition.INFERENCE_READY: "Every planned replica answers with the planned settings.",
    Condition.WORKSPACE_READY: "Both of the above; what the original calls a ready Workspace.",
    Condition.NOT_RENDERED: "There only while the Workspace has no plan that may be obeyed.",
    Condition.READY: "The same as WorkspaceReady, under the name that kubectl, Argo CD and Flux know.",
    Condition.RECONCILING: "It is not ready, and what is under way will make it so.",
    Condition.STALLED: "It is not ready, and waiting alone is not expected to help; attempts go on.",
}


class Reason(StrEnum):
    """One word for programs."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DELETING = "Deleting"
    NOT_RENDERED = "NotRendered"
    NODES_READY = "NodesReady"
    NODES_MISSING = "NodesMissing"
    NODES_NOT_READY = "NodesNotReady"
    NODE_LOST = "NodeLost"
    GPUS_MISSING = "GpusMissing"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    QUOTA_EXCEEDED = "QuotaExceeded"
    NODE_CLASS_NOT_READY = "NodeClassNotReady"
    LAUNCH_FAILED = "LaunchFailed"
    LAUNCH_TIMEOUT = "LaunchTimeout"
    REGISTRATION_TIMEOUT = "RegistrationTimeout"
    PROVISIONER_SILENT = "ProvisionerSilent"
    PROVISIONER_MISSING = "ProvisionerMissing"
    NODE_CLASS_MISSING = "NodeClassMissing"
    NODE_POOL_MISSING = "NodePoolMissing"
    NODE_POOL_NOT_READY = "NodePoolNotReady"
    CLAIM_REFUSED = "ClaimRefused"
    OVER_BUDGET = "OverBudget"
    OVER_LIMIT = "OverLimit"
    CREATES_LIMITED = "CreatesLimited"
    PAUSED = "Paused"
    DRY_RUN = "DryRun"
    PODS_READY = "PodsReady"
    PODS_NOT_READY = "PodsNotReady"
    PODS_REFUSED = "PodsRefused"
    WORKLOAD_MISSING = "WorkloadMissing"
    ROLLING_OUT = "RollingOut"
    UNSCHEDULABLE = "Unschedulable"
    POD_EVICTED = "PodEvicted"
    IMAGE_PULL_ERROR = "ImagePullError"
    CONTAINER_START_ERROR = "ContainerStartError"
    CONTAINER_OOM_KILLED = "ContainerOOMKilled"
    CONTAINER_CRASH_LOOP = "ContainerCrashLoopBackOff"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says to people."""

    means: str
    do: str
    stalls: bool = False
    """Whether it waits for a person, so that `Stalled` is true at once."""


_NOTHING = "Nothing; it passes."

MEANINGS: dict[Reason, Meaning] = {
    Reason.READY: Meaning("Every planned node is ready and every planned replica answers.", "Nothing."),
    Reason.PROGRESSING: Meaning("Something is under way; another condition says what.", _NOTHING),
    Reason.DELETING: Meaning(
        "The Workspace is being deleted, and its claims with it.",
        "Nothing. If it stays, look at what the message names.",
    ),
    Reason.NOT_RENDERED: Meaning(
        "The Workspace carries no plan, or the plan of another spec.",
        "Run `berth render`, commit what it writes, and let it sync.",
        stalls=True,
    ),
    Reason.NODES_READY: Meaning("Every planned node is ready and shows its GPUs.", "Nothing."),
    Reason.NODES_MISSING: Meaning(
        "Nodes are on their way, or no existing node matches.",
        "Give a new node a quarter of an hour. With `provisioning: none`, label a node as the message says.",
    ),
    Reason.NODES_NOT_READY: Meaning(
        "A node is there and its kubelet does not report it ready.",
        "`kubectl describe node NODE`. berth removes no node for this.",
    ),
    Reason.NODE_LOST: Meaning(
        "A node that was ready is gone, or its claim is.",
        "Nothing; another is asked for. If it happens again and again, look for spot interruptions.",
    ),
    Reason.GPUS_MISSING: Meaning(
        "A node shows fewer GPUs than planned.",
        "See if the NVIDIA device plugin runs there, and `nvidia-smi` on the node: a GPU may have failed.",
    ),
    Reason.INSUFFICIENT_CAPACITY: Meaning(
        "The cloud has no such node now; the fallback instance types are tried in their order.",
        "Name `fallbackInstanceTypes` in berth.yaml, or another instance type, or wait.",
    ),
    Reason.QUOTA_EXCEEDED: Meaning(
        "The cloud account may have no more of these nodes.",
        "Ask the cloud for quota, or take another instance type.",
    ),
    Reason.NODE_CLASS_NOT_READY: Meaning(
        "The node class is not there or not ready.",
        "`kubectl get` the class that the message names; set `nodeClass` in berth.yaml if it is another.",
    ),
    Reason.LAUNCH_FAILED: Meaning(
        "The cloud refused the node.", "Read the cloud's own words in the message."
    ),
    Reason.LAUNCH_TIMEOUT: Meaning(
        "The claim went without a node having been launched; Karpenter waits five minutes for that.",
        "Look for capacity and quota; `kubectl logs` of the provisioner says more.",
    ),
    Reason.REGISTRATION_TIMEOUT: Meaning(
        "The node was launched and never joined the cluster; Karpenter waits a quarter of an hour for that.",
        "Look at the node class: image, network, bootstrap.",
    ),
    Reason.PROVISIONER_SILENT: Meaning(
        "Nobody has taken up the claim.",
        "See if Karpenter or the gpu-provisioner runs, and whether it serves the fleet's node class.",
    ),
    Reason.PROVISIONER_MISSING: Meaning(
        "The cluster does not serve the kind that makes nodes.",
        "Install Karpenter or the gpu-provisioner, or set another `provisioning` in berth.yaml and render.",
        stalls=True,
    ),
    Reason.NODE_CLASS_MISSING: Meaning(
        "No node class is known for new nodes.", "Write `nodeClass` in berth.yaml.", stalls=True
    ),
    Reason.NODE_POOL_MISSING: Meaning(
        "The NodePool that was rendered with the Workspace is not in the cluster.", "Sync the whole folder."
    ),
    Reason.NODE_POOL_NOT_READY: Meaning(
        "Karpenter does not take the NodePool.",
        "`kubectl describe nodepool NAME`; often it is the node class.",
    ),
    Reason.CLAIM_REFUSED: Meaning(
        "The API server lets no claim be made or removed, for want of a right or by a policy.",
        "Read its own words; it is tried again. The rights are for the kind that berth.yaml names.",
        stalls=True,
    ),
    Reason.OVER_BUDGET: Meaning(
        "One more node would exceed the namespace's budget in berth.yaml.",
        "Take fewer or cheaper nodes, or raise the budget.",
        stalls=True,
    ),
    Reason.OVER_LIMIT: Meaning(
        "One more node would exceed the limits of nodes or of cost in berth.yaml.",
        "Free nodes, or raise the limit.",
        stalls=True,
    ),
    Reason.CREATES_LIMITED: Meaning(
        "As many nodes as `limits` allows were asked for within the last hour.", "Wait, or raise the limit."
    ),
    Reason.PAUSED: Meaning(
        "The annotation `berth.dev/paused` holds back a node that would be made or removed.",
        "Remove the annotation.",
        stalls=True,
    ),
    Reason.DRY_RUN: Meaning(
        "The watcher runs with `--dry-run` and only says what it would do.",
        "Run it without.",
        stalls=True,
    ),
    Reason.PODS_READY: Meaning("Every planned replica answers.", "Nothing."),
    Reason.PODS_NOT_READY: Meaning(
        "Replicas are starting: the image is pulled, the weights are loaded.",
        "Wait; `kubectl logs` shows how far it is.",
    ),
    Reason.PODS_REFUSED: Meaning(
        "The API server refuses the pods: a quota or another admission webhook.", "Read its own words."
    ),
    Reason.WORKLOAD_MISSING: Meaning(
        "The Deployment or StatefulSets of the Workspace are not in the cluster.", "Sync the whole folder."
    ),
    Reason.ROLLING_OUT: Meaning("Pods with the planned settings replace those with others.", _NOTHING),
    Reason.UNSCHEDULABLE: Meaning(
        "The nodes are ready and the scheduler places no pod on them.", "Read the scheduler's own words."
    ),
    Reason.POD_EVICTED: Meaning("A node ran out of disk or memory and gave up a pod.", "Take a larger node."),
    Reason.IMAGE_PULL_ERROR: Meaning(
        "An image cannot be pulled.", "See its name in berth.yaml, its pull secret, and the registry."
    ),
    Reason.CONTAINER_START_ERROR: Meaning(
        "A container cannot be started: a Secret or a volume is missing.", "Read the kubelet's own words."
    ),
    Reason.CONTAINER_OOM_KILLED: Meaning(
        "A container took more memory of the host than it may.",
        "Fewer slots or a smaller context; for a template, raise its own memory limit.",
    ),
    Reason.CONTAINER_CRASH_LOOP: Meaning(
        "A container stops again and again.", "`kubectl logs --previous` of the pod that the message names."
    ),
}
