"""`inference`: the preset or the pod template that runs, and what KAITO knows beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth.spec import adapters, formats, llamacpp, pods
from berth.spec.nodes import Field, Opaque, Sequence, Struct
from berth.spec.texts import quote
from berth.spec.values import Text

if TYPE_CHECKING:
    from berth.problems import Path
    from berth.spec.reports import Report


def _warn_image(image: str, path: Path, report: Report) -> None:
    reason = f"the image {quote(image)} is not used: it is KAITO's PyTorch image; berth serves GGUF"
    report.warn(
        path, image, reason, "remove it; for weights of your own use `inference.llamacpp.weights`", "not-used"
    )


def _judge_preset(preset: dict[str, Any], path: Path, report: Report) -> None:
    options = preset.get("presetOptions", {})
    if preset.get("accessMode") == "private" and "image" not in options:
        report.warn(
            (*path, "accessMode"),
            "private",
            "`accessMode` has no effect: berth serves the preset's GGUF weights",
            "remove it; for weights of your own use `inference.llamacpp.weights`",
            "not-used",
        )


PRESET_OPTIONS = Struct(
    {
        "image": Field(
            Text(longest=512),
            "Image of the original's model server.",
            use="warning",
            note="Not used: the weights come from the preset or from `inference.llamacpp.weights`.",
            verdict=_warn_image,
        ),
        "imagePullSecrets": Field(
            pods.SECRET_NAMES, "Secrets for pulling images, added to those of the pods."
        ),
        "modelAccessSecret": Field(
            Text(formats.DNS_SUBDOMAIN), "Secret whose key `HF_TOKEN` opens a gated model's repository."
        ),
    },
)
PRESET = Struct(
    {
        "name": Field(Text(longest=200), "Name of a preset in the catalogue, in any case.", required=True),
        "accessMode": Field(
            Text(choices=("public", "private")),
            "Where the original's image is pulled from.",
            use="warning",
            note="Has no effect: berth serves GGUF weights, whose source is given by "
            "the preset or `inference.llamacpp.weights`.",
        ),
        "presetOptions": Field(PRESET_OPTIONS, "Options of the preset."),
    },
    verdict=_judge_preset,
    hints={
        "image": "move it to `inference.llamacpp.weights.image` if it holds a GGUF file",
        "model": "write `name`",
        "volume": "remove it: no version of the Workspace has it; shared memory is mounted where needed",
        "volumes": "remove it: the volumes of a preset's pods are the plan's",
    },
)


def _warn_config(config: str, path: Path, report: Report) -> None:
    report.warn(
        path,
        config,
        f"the ConfigMap {quote(config)} is not read: its settings are for vLLM",
        "remove it, and set `contextSize`, `parallel` or `extraArgs` in `inference.llamacpp`",
        "not-used",
    )


SOURCE = Struct(
    {
        "name": Field(Text(formats.DNS_SUBDOMAIN), "Name."),
        "urls": Field(Sequence(Text(longest=2048), most=64), "URLs of the data."),
        "volumeSource": Field(Opaque(), "Volume that holds the data."),
        "image": Field(Text(longest=512), "Image that holds the data."),
        "imagePullSecrets": Field(pods.SECRET_NAMES, "Secrets for pulling the image."),
    }
)


def _judge_inference(inference: dict[str, Any], path: Path, report: Report) -> None:
    broken = {name for name in ("preset", "template") if (*path, name) in report.broken}
    preset, template = ("preset" in inference, "template" in inference)
    if preset and template:
        report.error(
            path,
            None,
            "`preset` and `template` are both given",
            "keep one: a preset is planned by berth, a template is a pod of your own",
            "conflict",
        )
    elif not preset and not template and not broken:
        report.error(
            path,
            None,
            "neither `preset` nor `template` is given",
            "add `preset: {name: …}` with a model of `berth presets`",
            "missing",
        )
    if template and not preset and "preset" not in broken:
        llamacpp.judge_with_template(inference.get("llamacpp", {}), (*path, "llamacpp"), report)
    adapters.judge(inference, path, report)


INFERENCE = Struct(
    {
        "preset": Field(
            PRESET, "The model that is served, by its name in the catalogue. Excludes `template`."
        ),
        "template": Field(
            pods.TEMPLATE,
            "A pod template of one's own, which runs as it is. Excludes `preset`.",
            verdict=pods.judge_template,
        ),
        "config": Field(
            Text(formats.DNS_SUBDOMAIN),
            "ConfigMap with settings of the original's server.",
            use="warning",
            note="Not read: the settings are for vLLM.",
            verdict=_warn_config,
        ),
        "adapters": Field(
            adapters.ADAPTERS,
            "LoRA adapters as GGUF files (KAITO v1beta1); each needs an entry in `llamacpp.adapters`.",
        ),
        "llamacpp": Field(llamacpp.LLAMACPP, "How llama.cpp serves the preset; berth's own fields."),
    },
    rules=(
        ("has(self.preset) != has(self.template)", "give exactly one of preset and template"),
        llamacpp.TEMPLATE_RULE,
        adapters.RULE,
    ),
    verdict=_judge_inference,
    hints={"llamaCpp": "write `llamacpp`: upper and lower case matter", "model": "write `preset: {name: …}`"},
)


def refuse_tuning(tuning: Any, path: Path, report: Report) -> None:
    """Refuse training as a whole; its fields are not judged one by one."""
    report.error(
        path,
        tuning,
        "berth serves models and does not train them",
        "remove `tuning`; serve the trained weights with `inference.llamacpp.weights`",
        "unsupported",
    )


TUNING_OUTPUT = Struct(
    {
        "volumeSource": Field(Opaque(), "Volume for the result."),
        "image": Field(Text(longest=512), "Image for the result."),
        "imagePushSecret": Field(Text(formats.DNS_SUBDOMAIN), "Secret for pushing the image."),
    }
)
TUNING = Struct(
    {
        "preset": Field(PRESET, "Model to train."),
        "method": Field(Text(longest=32), "`lora` or `qlora`."),
        "config": Field(Text(formats.DNS_SUBDOMAIN), "ConfigMap with settings of the training."),
        "input": Field(SOURCE, "Data to train on."),
        "output": Field(TUNING_OUTPUT, "Where the result goes."),
    }
)
