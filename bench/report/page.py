"""Measurements as one HTML page that needs nothing else: no network, no other file, no script."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from sennet_bench.check.machines import OTHERS_SHARE
from sennet_bench.circumstances import Circumstances
from sennet_bench.measurements import KINDS, Measurement
from sennet_bench.report.sections import NUMBER, Section, section_from_measurement
from sennet_engine import __version__

# Where the style of the reports of trainings lies.
STYLES = "sennet_trainer.report"


def page_from_measurements(measured: Sequence[tuple[Path, Measurement]]) -> str:
    """The page, with a section for each file in their order; equal measurements give equal pages."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in ("sennet_bench.report", STYLES)]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [section_from_measurement(path, one, index=index) for index, (path, one) in enumerate(measured, 1)]
    environment.globals["machine"] = _machine
    environment.tests["cell_of_number"] = lambda text: NUMBER.match(text) is not None
    return environment.get_template("page.html").render(
        sections=sections,
        dates=sorted({section.circumstances.date for section in sections}),
        warnings=_warnings(sections),
        losses=_losses(measured, sections),
        compared=any(KINDS[one.kind].losses for _, one in measured),
        version=__version__,
    )


def markdown_from_measurements(measured: Sequence[tuple[Path, Measurement]]) -> str:
    """All tables, one below another, each with its heading."""
    pieces = [
        f"## {KINDS[one.kind].title}: {path.name}\n\n{KINDS[one.kind].table(one).markdown()}" for path, one in measured
    ]
    return "\n\n".join(pieces) + "\n"


def _losses(
    measured: Sequence[tuple[Path, Measurement]], sections: Sequence[Section]
) -> list[tuple[Section, list[str]]]:
    """Where others win, by file."""
    found = []
    for section, (_, one) in zip(sections, measured, strict=True):
        losses = KINDS[one.kind].losses
        if losses and (sentences := losses(one)):
            found.append((section, sentences))
    return found


def _warnings(sections: Sequence[Section]) -> list[str]:
    """What a reader has to know before comparing one section with another."""
    held = [section.circumstances for section in sections]
    warnings = []
    # Not all files tell the memory, which is no other machine.
    if len(machines := sorted({_machine(replace(one, memory_gb=None)) for one in held})) > 1:
        warnings.append(f"The files come from {len(machines)} different machines: {'; '.join(machines)}.")
    if len(commits := sorted({one.commit or "none" for one in held})) > 1:
        warnings.append(f"The files come from {len(commits)} different commits: {', '.join(commits)}.")
    if changed := [section.file for section in sections if (section.circumstances.commit or "").endswith("+")]:
        warnings.append(
            f"Files differed from their commit (the + behind it), so that it alone does not give these figures again: "
            f"{', '.join(changed)}."
        )
    if busy := [section for section in sections if (section.circumstances.others_share or 0) > OTHERS_SHARE]:
        told = ", ".join(f"{section.file} {section.circumstances.others_share:.0%}" for section in busy)
        warnings.append(f"Others took more than {OTHERS_SHARE:.0%} of the processors' time meanwhile: {told}.")
    return warnings


def _machine(one: Circumstances) -> str:
    memory = [f"{one.memory_gb:.0f} GB"] if one.memory_gb is not None else []
    return ", ".join([one.processor, f"{one.processors} processors", *memory, *one.gpus])
