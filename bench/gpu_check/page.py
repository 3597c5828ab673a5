"""The page of a check: one HTML file that a person can send back, without scripts or other files."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from sennet_bench.gpu_check.check import GpuCheck
from sennet_bench.gpu_check.steps import Outcome
from sennet_bench.gpu_check.ways import REFERENCE_KEY, WAYS
from sennet_engine import __version__

# Where the style of the reports of trainings lies.
STYLES = "sennet_trainer.report"
# Entries of a run's stage times that are no stages.
CLOCKS = ("wall", "outside_network")
REFERENCE_TOLD = {
    Outcome.PASSED: "was computed", Outcome.FAILED: "failed too", Outcome.NOT_RUN: "was not run either",
}  # fmt: skip


def page_from_check(check: GpuCheck) -> str:
    """The page."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in ("sennet_bench.gpu_check", STYLES)]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dice"] = lambda value: "–" if value is None else f"{value:.4f}"
    environment.tests["passed"] = lambda outcome: outcome is Outcome.PASSED
    environment.tests["failed"] = lambda outcome: outcome is Outcome.FAILED
    names = check.segmentations[0].stage_seconds if check.segmentations else {}
    return environment.get_template("page.html").render(
        check=check,
        verdict=verdict_of(check),
        ways=WAYS,
        reference_key=REFERENCE_KEY,
        stages=[name for name in names if name not in CLOCKS],
        proven=sum(one.proven for one in check.files),
        lacking=sum(one.lacking for one in check.files),
        version=__version__,
    )


def verdict_of(check: GpuCheck) -> str:
    """The whole check in a sentence or two."""
    counts = {outcome: sum(step.outcome is outcome for step in check.steps) for outcome in Outcome}
    if check.facts.why_none:
        reference = next(step.outcome for step in check.steps if step.key == REFERENCE_KEY)
        return (
            f"No GPU was checked: {check.facts.why_none}. What needs one was not run, and nothing is proven; the "
            f"reference on the processors {REFERENCE_TOLD[reference]}."
        )
    counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if check.passed:
        return f"This GPU does what the engine promises: {counted}."
    if check.failed:
        return f"Not as promised: {', '.join(step.title for step in check.failed)}. Steps: {counted}."
    return f"Not complete: some steps were not run. Steps: {counted}."
