"""The sections and keys of a scene: what routers are compared on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from moeprof.recipe.schema import Count, Strategy, Strict

Celsius = Annotated[float, Field(ge=-50, le=150)]
Factor = Annotated[float, Field(ge=0.1, le=10)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=60)]
NameOrPath = Annotated[str, Field(min_length=1)]
Knob = float | int | bool | str
# One number for all GPUs, or one for each rank; TOML's lists are no tuples.
Celsiuses = Celsius | Annotated[tuple[Celsius, ...], Field(strict=False)]
Factors = Factor | Annotated[tuple[Factor, ...], Field(strict=False)]
Watts = Positive | Annotated[tuple[Positive, ...], Field(strict=False)]


class ModelSection(Strict):
    """The MoE layer that is priced: a model of the catalogue, and which of its kernels."""

    layer: NameOrPath
    weight_dtype: str | None = None
    kernel: str | None = None
    # What the cost model calls the GPU it was fitted to; None: as [gpus] does. Another one, such as
    # `cpu`, gives the seconds, and the specification all the rest.
    device: str | None = None


class TrafficSection(Strict):
    """What is routed: a trace's logits, a live model's, or logits drawn after recorded ones."""

    kind: Literal["recorded", "live", "generated"] = "recorded"
    # A folder of a model (live) or a trace's file; mini-moe is the one that ships.
    source: NameOrPath = "mini-moe"
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    # Tokens of a request before the first simulated step; they also fill the KV cache.
    context_tokens: Annotated[int, Field(ge=0, le=2**20)] = 64
    num_steps: Annotated[int, Field(ge=2, le=100_000)] = 24
    # Steps before the first that counts: telemetry and adaptation settle in them.
    num_settling_steps: Annotated[int, Field(ge=0, le=100_000)] = 8
    # MoE layers of a step; None is all that the source has, or the model's where it is generated.
    num_layers: Count | None = None


class GpuSection(Strict):
    """The GPUs of the expert-parallel group; a list has one value per rank, a number is for all."""

    specification: NameOrPath
    num_gpus: Annotated[int, Field(ge=1, le=4096)] = 4
    num_nodes: Count = 1
    ambient_celsius: Celsiuses = 28.0
    # None: the steady state under the plain router's load.
    start_celsius: Celsiuses | None = None
    # Whether dies stay at the start's temperature, whatever they do.
    is_held: bool = False
    # Against the specification: 0.85 takes 1/0.85 of the seconds.
    speed: Factors = 1.0
    leakage: Factors = 1.0
    power_limit_watts: Watts | None = None
    # Every simulated step stands for so long of the same: dies are slower than steps.
    seconds_per_simulated_step: Annotated[float, Field(gt=0, le=3600)] = 0.25
    # Memory that is left for replicas of experts, on every GPU; None: it does not limit.
    free_bytes: Annotated[int, Field(ge=0)] | None = None
    # A rank whose speed changes in the middle: to this, from this step on.
    changing_rank: Annotated[int, Field(ge=0)] | None = None
    changed_speed: Factor = 1.0
    changed_at_step: Annotated[int, Field(ge=0)] = 0


class LinkSection(Strict):
    """What dispatch and combine cost: a start-up time and a rate, alpha + bytes / beta."""

    # alpha of one all-to-all inside a node, and across nodes.
    scale_up_seconds: Seconds = 5e-6
    scale_out_seconds: Seconds = 12e-6
    # None: the specification's links.
    scale_up_bytes_per_second: Positive | None = None
    scale_out_bytes_per_second: Positive | None = None
    activation_bytes: Annotated[float, Field(gt=0, le=8)] = 2.0


class ScenePlacement(Strict):
    """Where experts sit; eplb looks at the traffic before the first simulated step."""

    strategy: Strategy = "contiguous"
    num_replicas: Annotated[int, Field(ge=0)] = 0


class TelemetrySection(Strict):
    """What GPUs tell of themselves, how late, how wrong, and how it travels."""

    transport: Literal["piggyback", "message"] = "piggyback"
    # What is told: the truth; the same of all; another rank's; what the first step had; lies.
    kind: Literal["true", "uniform", "shuffled", "frozen", "adversarial", "none"] = "true"
    age_layers: Annotated[int, Field(ge=0, le=16)] = 1
    age_seconds: Seconds = 0.0
    # Standard deviation of the log of each figure.
    noise: Annotated[float, Field(ge=0, le=1)] = 0.02
    # What a told temperature is rounded to.
    celsius_step: Annotated[float, Field(ge=0, le=10)] = 1.0
    lost_fraction: Share = 0.0
    nan_fraction: Share = 0.0


class PolicySection(Strict):
    """One policy to judge: a router, a dispatcher and a placement, with settings of its knobs."""

    name: Name
    router: Name = "top-k"
    dispatcher: Name = "first"
    # None: the scene's placement; `gem`: the balancer for unequal GPUs that knows their speed.
    placement: Literal["scene", "contiguous", "round-robin", "random", "eplb", "gem"] = "scene"
    num_replicas: Annotated[int, Field(ge=0)] | None = None
    # Each a point of this policy's front; the first one stands in the table.
    settings: Annotated[tuple[dict[str, Knob], ...], Field(strict=False, min_length=1)] = ({},)


class BudgetSection(Strict):
    """What quality a setting may cost to be compared with others at equal quality."""

    # Upper end of the 95 % interval; live traffic only.
    cross_entropy_nats: Annotated[float, Field(ge=0, le=10)] = 0.01
    gate_mass_fraction: Share = 0.95


class Scene(Strict):
    """One comparison of routers."""

    kind: Literal["scene"] = "scene"
    # One sentence for the report: what is asked.
    question: Annotated[str, Field(min_length=1)]
    # Policies that drop rows are left out of power against performance.
    has_constant_compute: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    num_seeds: Annotated[int, Field(ge=1, le=10_000)] = 10
    # Time of a router or dispatcher that looks at the batch, per MoE layer; plain top-k has none.
    router_seconds: Seconds = 1e-5
    model: ModelSection
    traffic: TrafficSection = TrafficSection()
    gpus: GpuSection
    links: LinkSection = LinkSection()
    placement: ScenePlacement = ScenePlacement()
    telemetry: TelemetrySection = TelemetrySection()
    budget: BudgetSection = BudgetSection()
    # The policy that differences are taken to; `top-k` on the scene's placement where not named.
    baseline: Name = "top-k"
    # None: the policies that every scene has (see `moeprof.evaluation.policies`).
    policies: Annotated[tuple[PolicySection, ...], Field(strict=False)] | None = None

    @field_validator("policies")
    @classmethod
    def _named_once(
        cls, policies: tuple[PolicySection, ...] | None
    ) -> tuple[PolicySection, ...] | None:
        names = [policy.name for policy in policies or ()]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"must not name two policies {repeated!r}")
        return policies

    @model_validator(mode="after")
    def _one_value_per_gpu(self) -> Self:
        gpus = self.gpus
        for key in ("ambient_celsius", "start_celsius", "speed", "leakage", "power_limit_watts"):
            found = getattr(gpus, key)
            if isinstance(found, tuple) and len(found) != gpus.num_gpus:
                raise ValueError(
                    f"gpus.{key} must be one number, or {gpus.num_gpus} (gpus.num_gpus), "
                    f"got {len(found)}"
                )
        if gpus.changing_rank is not None and gpus.changing_rank >= gpus.num_gpus:
            raise ValueError(
                f"gpus.changing_rank must lie in 0..{gpus.num_gpus - 1}, got {gpus.changing_rank}"
            )
        if gpus.num_gpus % gpus.num_nodes:
            raise ValueError(
                f"gpus.num_nodes must divide gpus.num_gpus {gpus.num_gpus}, got {gpus.num_nodes}"
            )
        return self
