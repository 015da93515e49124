"""The engine's flags as `extraArgs` may use them, for the pinned llama-server.

The plan decides what takes memory and where the engine listens; a flag that would change that behind the
plan's back is refused with the field to use instead. The engine exits on a flag that it does not know, so
an unknown one is refused here, with the nearest that exists, instead of in a pod that never gets ready.
Spellings and numbers of values follow `common/arg.cpp` of the pinned llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from berth.spec.texts import code, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Fault(NamedTuple):
    """What is wrong with the argument at `index`."""

    position: int
    reason: str
    fix: str
    rule: str


_FIELD = "use `inference.llamacpp.{}`"
_MEMORY = "remove it: it changes how much memory the engine takes, which the plan has to know"
_SOUND = "remove it: films and sounds are not served, since the plan counts nothing for them"
_PLAN = "remove it: the plan sets it"
_SOURCE = "use `inference.llamacpp.weights`"
_FRONT = "remove it: the HTTP front of the pod listens, checks keys and serves metrics"
_TOOLS = "remove it: it would let requests run programs or read files in the pod"
_FILES = "remove it: the pod's file system is read-only and holds no file of this kind"
_EXITS = "remove it: with it the engine prints something and exits"

_OWNED: dict[str, str] = {
    "-m --model": _SOURCE,
    "-mu --model-url": _SOURCE,
    "-dr --docker-repo": _SOURCE,
    "-hf -hfr --hf-repo": _SOURCE,
    "-hff --hf-file": _SOURCE,
    "-hft --hf-token": "use `inference.llamacpp.weights.tokenSecret`: a token has no place in git",
    "--models-dir --models-preset --models-max --models-autoload --no-models-autoload": _SOURCE,
    "-c --ctx-size": _FIELD.format("contextSize"),
    "-np --parallel": _FIELD.format("parallel"),
    "-ctk --cache-type-k": _FIELD.format("cacheTypeK"),
    "-ctv --cache-type-v": _FIELD.format("cacheTypeV"),
    "-b --batch-size -ub --ubatch-size": _PLAN,
    "-kvu --kv-unified -no-kvu --no-kv-unified --kv-unified-per-slot": _PLAN,
    "-fa --flash-attn": _PLAN,
    "-ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu": _PLAN,
    "-dev --device --rpc": _PLAN,
    "-fit --fit -fitt --fit-target -fitc --fit-ctx": _PLAN,
    "-cb --cont-batching -nocb --no-cont-batching": _PLAN,
    "-cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints": _PLAN,
    "--embedding --embeddings --rerank --reranking --jinja --no-jinja --offline": _PLAN,
    "--swa-full -kvo --kv-offload -nkvo --no-kv-offload --override-kv": _MEMORY,
    "-ot --override-tensor -cmoe --cpu-moe -ncmoe --n-cpu-moe -ncffn --n-cpu-ffn": _MEMORY,
    "-lm --load-mode -lzm --lazy-mode --no-host --repack -nr --no-repack": _MEMORY,
    "--op-offload --no-op-offload -bs --backend-sampling": _MEMORY,
    "-mm --mmproj -mmu --mmproj-url --mmproj-auto --no-mmproj --no-mmproj-auto": _FIELD.format("mmproj"),
    "--image-max-tokens": _FIELD.format("mmproj.maxImageTokens"),
    "--mmproj-offload --no-mmproj-offload -mmdev --mmproj-device --image-min-tokens": _PLAN,
    "--mtmd-batch-max-tokens": _PLAN,
    "--video-fps --video-timestamp-interval --video-ffmpeg-dir": _SOUND,
    "--lora --lora-scaled": "use `inference.adapters`, which the plan counts",
    "--lora-init-without-apply": 'write `strength: "0"` in `inference.adapters`',
    "--control-vector --control-vector-scaled --control-vector-layer-range": _MEMORY,
    "--spec-draft-hf -hfd -hfrd --hf-repo-draft --spec-draft-model -md --model-draft": _MEMORY,
    "--spec-draft-type-k -ctkd --cache-type-k-draft --spec-draft-type-v -ctvd --cache-type-v-draft": _MEMORY,
    "--spec-draft-override-tensor -otd --override-tensor-draft --spec-draft-cpu-moe -cmoed": _MEMORY,
    "--cpu-moe-draft --spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft": _MEMORY,
    "--spec-draft-device -devd --device-draft --spec-draft-ngl -ngld --gpu-layers-draft": _MEMORY,
    "--n-gpu-layers-draft --spec-draft-backend-sampling --no-spec-draft-backend-sampling": _MEMORY,
    "--threads-batch-draft --spec-type --spec-default --spec-draft-threads -td --threads-draft": _MEMORY,
    "--spec-draft-threads-batch -tbd --spec-draft-cpu-mask -Cd --cpu-mask-draft -dt --defrag-thold": _MEMORY,
    "--spec-draft-cpu-range -Crd --cpu-range-draft --spec-draft-cpu-strict --cpu-strict-draft": _MEMORY,
    "--spec-draft-prio --prio-draft --spec-draft-poll --poll-draft --spec-draft-cpu-mask-batch": _MEMORY,
    "-Cbd --cpu-mask-batch-draft --spec-draft-cpu-strict-batch --cpu-strict-batch-draft": _MEMORY,
    "--spec-draft-prio-batch --prio-batch-draft --spec-draft-poll-batch --poll-batch-draft": _MEMORY,
    "--spec-draft-n-max --spec-draft-n-min --spec-synth-len --spec-synth-rates": _MEMORY,
    "--spec-draft-p-split --draft-p-split --spec-draft-p-min --draft-p-min": _MEMORY,
    "--spec-ngram-mod-n-min --spec-ngram-mod-n-max --spec-ngram-mod-n-match": _MEMORY,
    "--spec-ngram-simple-size-n --spec-ngram-simple-size-m --spec-ngram-simple-min-hits": _MEMORY,
    "--spec-ngram-map-k-size-n --spec-ngram-map-k-size-m --spec-ngram-map-k-min-hits": _MEMORY,
    "--spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m --spec-ngram-map-k4v-min-hits": _MEMORY,
    "--draft --draft-n --draft-max --draft-min --draft-n-min": _MEMORY,
    "--spec-ngram-size-n --spec-ngram-size-m --spec-ngram-min-hits": _MEMORY,
    "--embd-gemma-default --fim-qwen-1.5b-default --fim-qwen-3b-default": _SOURCE,
    "--fim-qwen-7b-default --fim-qwen-7b-spec --fim-qwen-14b-spec --fim-qwen-30b-default": _SOURCE,
    "--gpt-oss-20b-default --gpt-oss-120b-default": _SOURCE,
    "--vision-gemma-4b-default --vision-gemma-12b-default": _SOURCE,
    "--host --port --reuse-port --path --api-prefix": _FRONT,
    "--api-key --api-key-file --ssl-key-file --ssl-cert-file": _FRONT,
    "--cors-origins --cors-methods --cors-headers --cors-credentials --no-cors-credentials": _FRONT,
    "--ui --webui --no-ui --no-webui --ui-config --webui-config": _FRONT,
    "--ui-config-file --webui-config-file --metrics --props -a --alias": _FRONT,
    "--ui-mcp-proxy --webui-mcp-proxy --no-ui-mcp-proxy --no-webui-mcp-proxy": _TOOLS,
    "--tools --tools-runtime --mcp-servers-config --mcp-servers-json": _TOOLS,
    "-ag --agent -no-ag --no-agent --media-path": _TOOLS,
    "--slot-save-path --log-file --log-prompts-dir --grammar-file -jf --json-schema-file": _FILES,
    "--chat-template-file -lcs --lookup-cache-static -lcd --lookup-cache-dynamic": _FILES,
    "-h --help --usage --version -cl --cache-list --completion-bash --list-devices": _EXITS,
}

OWNED_FLAGS: dict[str, str] = {flag: fix for flags, fix in _OWNED.items() for flag in flags.split()}
"""Every spelling of a flag that `extraArgs` must not hold, with what to do instead."""

_WITHOUT_VALUE = """
--context-shift --no-context-shift --perf --no-perf -e --escape --no-escape -sp --special --warmup --no-warmup
--spm-infill --ignore-eos --cache-prompt --no-cache-prompt --slots --no-slots --reasoning-preserve
--no-reasoning-preserve --skip-chat-parsing --no-skip-chat-parsing --prefill-assistant --no-prefill-assistant
--cache-idle-slots --no-cache-idle-slots --check-tensors --log-disable --log-jsonl --no-log-jsonl -v --verbose
--log-verbose --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps
"""
_WITH_VALUE = """
-t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll -Cb --cpu-mask-batch
-Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch -n --predict --n-predict --keep
-cms --checkpoint-min-step -r --reverse-prompt --samplers -s --seed --sampler-seq --sampling-seq --temp
--temperature --top-k --top-p --min-p --top-nsigma --top-n-sigma --xtc-probability --xtc-threshold --typical
--typical-p --repeat-last-n --repeat-penalty --presence-penalty --frequency-penalty --dry-multiplier
--dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker --adaptive-target
--adaptive-decay --dynatemp-range --dynatemp-exp --mirostat --mirostat-lr --mirostat-ent -l --logit-bias
--grammar -j --json-schema --pooling --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale
--yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast --numa --tags
--embd-normalize --chat-template-kwargs -to --timeout --sse-ping-interval --threads-http --cache-reuse
--reasoning-format -rea --reasoning --reasoning-effort --reasoning-budget --reasoning-budget-message
--chat-template -sps --slot-prompt-similarity --sleep-idle-seconds --log-colors -lv --verbosity
--log-verbosity
"""

FREE_FLAGS: dict[str, int] = {
    **dict.fromkeys(_WITHOUT_VALUE.split(), 0),
    **dict.fromkeys(_WITH_VALUE.split(), 1),
}
"""Every spelling of a flag that `extraArgs` may hold, with its number of values."""


def faults(arguments: Sequence[str]) -> Iterator[Fault]:
    """Judge `extraArgs`; every fault is reported, in order."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        name, equals, _ = argument.partition("=")
        flag = name.replace("_", "-") if name.startswith("--") else name
        if flag in OWNED_FLAGS:
            yield Fault(index, f"{code(flag)} is not free to set", OWNED_FLAGS[flag], "owned-flag")
            has_value = not equals and index + 1 < len(arguments) and not _is_flag(arguments[index + 1])
            index += 2 if has_value else 1
        elif flag not in FREE_FLAGS:
            yield _unknown(index, argument, flag)
            has_value = _is_flag(flag) and index + 1 < len(arguments) and not _is_flag(arguments[index + 1])
            index += 2 if has_value else 1
        elif equals:
            yield Fault(index, f"{code(argument)}: the engine does not read `flag=value`",
                        f"write {code(flag)} and its value as two entries", "flag-value")  # fmt: skip
            index += 1
        elif index + FREE_FLAGS[flag] >= len(arguments):
            yield Fault(index, f"{code(flag)} has no value", "add its value as the next entry", "flag-value")
            index += 1
        else:
            index += 1 + FREE_FLAGS[flag]


def _unknown(index: int, argument: str, flag: str) -> Fault:
    if " " in argument.strip() and argument.lstrip().startswith("-"):
        reason = f"{code(argument)} holds a flag and its value"
        return Fault(index, reason, "write them as two entries of the list", "flag-value")
    if not _is_flag(flag):
        reason = f"{code(argument)} is no flag, and no flag before it takes it as its value"
        return Fault(index, reason, "remove it, or put its flag before it", "unknown-flag")
    found = nearest(flag, [*FREE_FLAGS, *OWNED_FLAGS])
    fix = f"write `{found}`" if found in FREE_FLAGS else "remove it"
    return Fault(index, f"the engine knows no flag {code(flag)}", fix, "unknown-flag")


def _is_flag(argument: str) -> bool:
    return len(argument) > 1 and argument[0] == "-" and not argument[1:].replace(".", "", 1).isdigit()
