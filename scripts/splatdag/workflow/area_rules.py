"""Parameters, resources and targets that the rules files take of each area."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from splatdag.workflow.area import Area, GpuResources, Plan
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.options import Options
from splatdag.workflow.site import GPU_CLASSES, Site, request
from splatdag.workflow.snakefile import one_line_errors, tell

F = TypeVar("F", bound=Callable[..., Any])


def for_every_job(function: F) -> F:
    """Store a function's signature on it: Snakemake looks it up several times for every job that it plans."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class AreaRules:
    """Templates, resources and parameters for the rules of an area; parameters are methods of its plan.

    The plan is made when a job is first planned, not when the rules are read: a job's own Snakemake, which reads the
    rules of all areas, plans its own area alone. An error ends Snakemake with its line.
    """

    def __init__(
        self,
        area: Area,
        plan: Callable[[], Plan],
        asked: Options,
        site: Site,
        results: str,
        job_rules: frozenset[str] | None,
        one_class: frozenset[str] = frozenset(),
    ) -> None:
        """Store the arguments; the plan is made later.

        Args:
            area: area of the rules.
            plan: function that returns its plan.
            asked: section `resources` of the config.
            site: settings of the cluster.
            results: folder of the results.
            job_rules: rules of the jobs that this process runs; None where it plans a whole run.
            one_class: rules of which all jobs get a node of the same class of GPU, whatever their scene or run says.
        """
        self._one_class = one_class
        self._area, self._plan, self._asked, self._site = area, plan, asked, site
        self._results, self._job_rules = results, job_rules

    def runs(self, rule: str) -> bool:
        """Tell whether this process plans or runs jobs of a rule."""
        return self._job_rules is None or rule in self._job_rules

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        def of_job(wildcards: Any) -> Any:
            with one_line_errors():
                return getattr(self._plan(), name)(wildcards)

        setattr(self, name, for_every_job(of_job))
        return of_job

    def target(self, name: str) -> Callable[[Any], list[str]]:
        """Return the input function of a target rule: its files, after the kernels and downloads that they need."""
        return self._asking(name, lambda plan: plan.targets()[name]())

    def everything(self) -> Callable[[Any], list[str]]:
        """Return the input function for this area's part of the target `all`."""
        return self._asking("all", lambda plan: plan.asked())

    def _asking(self, target: str, files_of: Callable[[Plan], list[str]]) -> Callable[[Any], list[str]]:
        @functools.cache
        def asked() -> list[str]:
            with one_line_errors():
                plan = self._plan()
                files = files_of(plan)
                if self._job_rules is None:
                    tell(plan.lines(target))
                return [f"{self._results}/kernels/any.json", *plan.fetched(), *files] if plan.renders(files) else files

        def files(wildcards: Any) -> list[str]:
            return asked()

        return files

    def log(self, rule: str, **wildcards: str) -> str:
        """Return the path of a rule's log, with some wildcards filled in."""
        return f"<logs>/{_filled(self._area.rules[rule].log, wildcards)}"

    def benchmark(self, rule: str, **wildcards: str) -> str:
        """Return the path of a rule's benchmark, which is like that of its log."""
        return f"<benchmarks>/{_filled(self._area.rules[rule].log, wildcards).removesuffix('.log')}.tsv"

    def output(self, rule: str, **wildcards: str) -> str:
        """Return the path of the output that a rule publishes last."""
        return f"<results>/{_filled(self._area.rules[rule].output, wildcards)}"

    def code(self, rule: str) -> str:
        """Return the digest of the code of a rule's stage."""
        return code_digest(self._area.rules[rule].module)

    def threads(self, rule: str) -> int | Callable[[Any], int]:
        """Return the number of CPUs of a rule's jobs, or a function that gives it for a job."""
        return self._amount(rule, "threads")

    def resources(self, rule: str, times: Callable[[Any], int] | None = None) -> dict[str, Any]:
        """Return the resources of a rule's jobs at this site: those of their scene or run, else those of the config.

        Args:
            rule: name of the rule.
            times: factor on the time of a job.
        """
        asks = self._area.rules[rule]
        asked = getattr(self._asked, rule)
        own = self._has_own(rule)
        gpus = self._amount(rule, "gpus") if isinstance(asked, GpuResources) else 0
        node = self._amount(rule, "gpu_class") if isinstance(asked, GpuResources) else "cpu"
        found = _nodes(self._site, node, gpus) if own and gpus else request(self._site, node, gpus)
        if asks.throttled:
            found |= {f"{self._area.name}_jobs": 1}
        runtime = self._amount(rule, "runtime")
        if times is not None:
            runtime = _product(runtime, times, lambda wildcards: self._own(rule, wildcards, "runtime") is not None)
        limit = functools.partial(_limit, self._site, node)
        found["mem_mb"] = _growing(self._amount(rule, "mem_mb"), lambda wildcards: limit(wildcards).max_mem_mb)
        found["runtime"] = _growing(runtime, lambda wildcards: _share(limit(wildcards).max_runtime, asks.share))
        return found

    def _has_own(self, rule: str) -> bool:
        if not self.runs(rule):
            return False
        with one_line_errors():
            return self._plan().has_own_resources(rule)

    def _own(self, rule: str, wildcards: Any, name: str) -> Any:
        with one_line_errors():
            own = self._plan().own_resources(rule, wildcards)
        return None if own is None else getattr(own, name, None)

    def _amount(self, rule: str, name: str) -> Any:
        usual = getattr(getattr(self._asked, rule), name)
        if not self._has_own(rule) or (name == "gpu_class" and rule in self._one_class):
            return usual

        def of_job(wildcards: Any) -> Any:
            own = self._own(rule, wildcards, name)
            return usual if own is None else own

        return for_every_job(of_job)


def rules_of(
    areas: Iterable[Area],
    plans: Mapping[str, Plan],
    asked: Any,
    site: Site,
    results: str,
    job_rules: frozenset[str] | None,
    one_class: frozenset[str] = frozenset(),
) -> dict[str, AreaRules]:
    """Return the `AreaRules` of each area, by its name."""

    def plan_of(name: str) -> Callable[[], Plan]:
        return lambda: plans[name]

    return {
        area.name: AreaRules(area, plan_of(area.name), asked, site, results, job_rules, one_class) for area in areas
    }


def everything(rules: Iterable[AreaRules]) -> list[Callable[[Any], list[str]]]:
    """Return the input functions of the target `all`, one per area."""
    return [area.everything() for area in rules]


def _filled(template: str, wildcards: Mapping[str, str]) -> str:
    for name, value in wildcards.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _nodes(site: Site, node: Any, gpus: Any) -> dict[str, Any]:
    """Return resources, as functions of a job, that get a node of the job's class with its number of GPUs."""

    def of(amount: Any, wildcards: Any) -> Any:
        return amount(wildcards) if callable(amount) else amount

    asked = functools.cache(functools.partial(request, site))
    keys = dict.fromkeys(key for name in GPU_CLASSES for key in asked(name, 1))

    def of_job(key: str) -> Callable[[Any], Any]:
        return for_every_job(lambda wildcards: asked(of(node, wildcards), of(gpus, wildcards)).get(key))

    return {key: of_job(key) for key in keys}


def _limit(site: Site, node: Any, wildcards: Any) -> Any:
    return site.node_class(node(wildcards) if callable(node) else node)


def _share(longest: int | None, share: float) -> int | None:
    return None if longest is None else int(longest * share)


def _product(amount: Any, times: Callable[[Any], int], as_it_is: Callable[[Any], bool]) -> Callable[[Any], int]:
    def of_job(wildcards: Any) -> int:
        wanted = amount(wildcards) if callable(amount) else amount
        return wanted if as_it_is(wildcards) else wanted * times(wildcards)

    return for_every_job(of_job)


def _growing(amount: Any, limit: Callable[[Any], int | None]) -> Callable[[Any, int], int]:
    """Return a function that gives a resource which grows with each attempt, up to a limit."""

    def asked(wildcards: Any, attempt: int) -> int:
        wanted = attempt * (amount(wildcards) if callable(amount) else amount)
        most = limit(wildcards)
        return wanted if most is None else min(wanted, most)

    return for_every_job(asked)
