"""The list of areas, and the plans of all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from splatdag.captures.area import Captures
from splatdag.driving.area import Driving
from splatdag.hub.area import Sharing
from splatdag.humans.area import Humans
from splatdag.workflow.area import Area, Context, CpuResources, GpuResources, Plan, PlannedStage, StageRule
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.options import flags

if TYPE_CHECKING:
    from splatdag.workflow.backend import Backend


NETS = ("alex", "vgg")
"""Networks of LPIPS."""


class House(Area):
    """Stages that all areas share: bundled samples, compiled kernels and the weights of LPIPS."""

    name = "house"
    rules: ClassVar[Mapping[str, StageRule]] = {
        "make_sample": StageRule(
            "sample",
            "samples.{sample}",
            "samples/{sample}.log",
            "samples/{sample}/sample.json",
            CpuResources(mem_mb=4_000, runtime=60),
            throttled=False,
        ),
        "compile_kernels": StageRule(
            "kernels",
            "splats.kernels",
            "kernels/any.log",
            "kernels/any.json",
            GpuResources(threads=8, mem_mb=16_000),
            throttled=False,
        ),
        "fetch_lpips": StageRule(
            "fetch",
            "splats.fetch_lpips",
            "weights/lpips_{net}.log",
            "weights/lpips_{net}.json",
            CpuResources(threads=1),
            throttled=False,
        ),
    }

    def plan(self, config: Any, context: Context) -> HousePlan:
        """Return the plan of these stages."""
        return HousePlan(config, context)


class HousePlan(Plan):
    """Plan of samples, kernels and weights; `status` shows a stage once it has been started."""

    def __init__(self, config: Any, context: Context) -> None:
        self._config, self._context = config, context

    def sample_flags(self, wildcards: Any) -> list[str]:
        """Return the command-line flags that give a bundled sample's options."""
        return flags(getattr(self._config.samples, wildcards.sample))

    def sample_code(self, wildcards: Any) -> str:
        """Return the digest of the code that makes a bundled sample."""
        return code_digest(f"samples.{wildcards.sample}")

    def stages(self) -> Iterator[PlannedStage]:
        """Return the stages that have been started, or whose output exists."""
        rules = House.rules
        planned = [self._context.stage("house", "compile_kernels", rules["compile_kernels"], "kernels")]
        planned += [
            self._context.stage("house", "make_sample", rules["make_sample"], name, sample=name)
            for area in AREAS
            for name in area.samples
        ]
        planned += [
            self._context.stage("house", "fetch_lpips", rules["fetch_lpips"], f"lpips/{net}", net=net) for net in NETS
        ]
        return filter(self._context.begun, planned)


AREAS: tuple[Area, ...] = (House(), Captures(), Driving(), Humans(), Sharing())
"""All areas. To add one, add its folder, `rules/<area>.smk` with an include in the Snakefile, and its class here,
before Sharing, which publishes the recordings of all others."""


class Plans(Mapping[str, Plan]):
    """The plans of all areas by name; each is made when it is first looked up."""

    def __init__(self, config: Any, context: Context) -> None:
        self._config = config
        self._context = replace(context, plans=lambda: self)
        self._areas = {area.name: area for area in AREAS}
        self._made: dict[str, Plan] = {}

    def __getitem__(self, name: str) -> Plan:
        if name not in self._made:
            self._made[name] = self._areas[name].plan(self._config, self._context)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._areas)

    def __len__(self) -> int:
        return len(self._areas)

    def backends(self, rules: Collection[str] | None = None) -> list[Backend]:
        """Return the backends that the config names, of areas that have one of these rules, or of all areas."""
        names = [name for name, area in self._areas.items() if rules is None or not area.rules.keys().isdisjoint(rules)]
        return [backend for name in names for backend in self[name].backends()]


def all_rules() -> dict[str, tuple[Area, StageRule]]:
    """Return every rule that runs a stage, by name, with its area."""
    return {name: (area, rule) for area in AREAS for name, rule in area.rules.items()}
