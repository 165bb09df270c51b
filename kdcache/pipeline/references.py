"""What ``${…}`` stands for in one job: variables, parameters, outputs of jobs above it.

${seed} ${arm} ${arm.beta}             a variable of for_each, and what its name stands for
${params.steps}                        a parameter of the recipe
${teacher} ${teacher.run}              an output of a stage, the first where none is named
${student.student}                     of the job with the same values of shared variables
${cache[kind=full,seed=0].cache}       of the job with these values
${score[*].report}                     of all jobs of the stage, in a list
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, did_you_mean
from kdcache.pipeline.substitute import follow, substituted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.pipeline.plan import Job
    from kdcache.pipeline.recipe import Recipe

_EXPRESSION = re.compile(r"(?P<name>\w+)(\[(?P<chosen>[^\]]*)\])?(\.(?P<rest>.+))?")


class References:
    """The lookup of one job; it notes which outputs were referred to, as (job, output).

    Args:
        recipe: with its parameters.
        variables: of the job.
        inner: by variable, what stands behind a dot.
        earlier: the jobs that come before it.
    """

    def __init__(
        self,
        recipe: Recipe,
        variables: Mapping[str, Any],
        inner: Mapping[str, Any],
        earlier: Sequence[Job],
    ) -> None:
        self._recipe, self._variables, self._inner = recipe, variables, inner
        self._earlier = earlier
        self._open: list[str] = []
        self.reads: dict[tuple[str, str], None] = {}

    def lookup(self, expression: str) -> Any:
        """The value of what stands between the braces.

        Raises:
            ConfigError: it stands for nothing.
        """
        match = _EXPRESSION.fullmatch(expression)
        if match is None:
            raise ConfigError(
                f"${{{expression}}} cannot be read; expected ${{stage.output}}, ${{variable}} or "
                "${params.name}."
            )
        name, chosen, rest = match["name"], match["chosen"], match["rest"]
        if name == "params":
            return self._inside(expression, follow(self._recipe.params, rest or "", "params"))
        if name in self._variables and rest:
            return self._inside(expression, follow(self._inner[name], rest, name))
        if name in self._variables:
            return self._variables[name]
        return self._output(expression, name, chosen, rest)

    def _inside(self, expression: str, value: Any) -> Any:
        """A value in which expressions may stand as well, though not the one that led to it."""
        if expression in self._open:
            raise ConfigError(f"${{{expression}}} stands for itself.")
        self._open.append(expression)
        try:
            return substituted(value, self.lookup)
        finally:
            self._open.pop()

    def _output(self, expression: str, name: str, chosen: str | None, output: str | None) -> Any:
        jobs = [job for job in self._earlier if job.stage == name]
        if not jobs:
            raise ConfigError(f"${{{expression}}}: {self._why_not(name)}")
        found = [job for job in jobs if self._matches(job, chosen, expression)]
        many = chosen == "*"
        if len(found) != 1 and not many:
            raise ConfigError(
                f"${{{expression}}} fits {len(found)} of the stages "
                f"{', '.join(job.name for job in jobs[:4])}{' …' * (len(jobs) > 4)}; say which "
                f"one, as in ${{{name}[{_example(jobs[0])}]}}."
            )
        named = [(job, _output_of(job, output, expression)) for job in found]
        self.reads.update(((job.name, name), None) for job, name in named)
        places = [str(job.outputs[name]) for job, name in named]
        return places if many else places[0]

    def _matches(self, job: Job, chosen: str | None, expression: str) -> bool:
        if chosen == "*":
            return True
        wanted = _parse_choice(chosen, expression) if chosen else {}
        for variable in wanted:
            if variable not in job.variables:
                hint = did_you_mean(variable, job.variables)
                raise ConfigError(
                    f"${{{expression}}}: {job.stage} has no variable {variable!r}.{hint}"
                )
        shared = {name: str(value) for name, value in self._variables.items()}
        return all(
            str(value) == {**shared, **wanted}.get(variable, str(value))
            for variable, value in job.variables.items()
        )

    def _why_not(self, name: str) -> str:
        if name in self._recipe.stages:
            return f"the stage {name} does not come before this one; move it up."
        known = [*self._recipe.stages, *self._variables, "params"]
        return f"there is no stage, variable or parameter {name!r}.{did_you_mean(name, known)}"


def _parse_choice(text: str, expression: str) -> dict[str, str]:
    """``arm=kd,seed=0`` as a mapping."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and equals and value.strip() for name, equals, value in pairs):
        raise ConfigError(f"${{{expression}}}: expected [name=value,…] or [*] in the brackets.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _output_of(job: Job, output: str | None, expression: str) -> str:
    name = output or next(iter(job.outputs))
    if name not in job.outputs:
        raise ConfigError(
            f"${{{expression}}}: {job.name} has no output {name!r}; it has "
            f"{', '.join(job.outputs)}.{did_you_mean(name, job.outputs)}"
        )
    return name


def _example(job: Job) -> str:
    return ",".join(f"{name}={value}" for name, value in job.variables.items()) or "*"
