"""The report as one HTML page that needs nothing else: no network, no other file, no script."""

from collections import Counter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sennet_engine import __version__
from sennet_engine.errors import OutputError
from sennet_trainer.report import numbers
from sennet_trainer.report.charts import svg_from_chart
from sennet_trainer.report.flow import flow_from_stages
from sennet_trainer.report.results import FitResult
from sennet_trainer.report.sections import section_from_stage
from sennet_trainer.report.source import Source, State, read_source
from sennet_trainer.report.stage_charts import comparison_charts
from sennet_trainer.report.tables import score_tables
from sennet_trainer.whole_file import write_whole

REPORT = "report.html"


def write_report(run: Path, out: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the report of the folder `run` to `out`, by default report.html in that folder; returns where it is.

    The page appears under its name only when it is whole. Equal folders give equal bytes.

    Raises:
        ModelError: `run` is not the folder of a recipe's run, a training, a labelling or an evaluation.
        OutputError: `out` exists and `overwrite` was not given, or it cannot be written.
    """
    path = out or run / REPORT
    source = read_source(run)
    if path.is_dir() or (path.exists() and not overwrite):
        what = "is a folder; name a file with --out" if path.is_dir() else "exists; --overwrite replaces it"
        raise OutputError(f"{path}: {what}")
    page = html_from_source(source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page.encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
    return path


def html_from_source(source: Source) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("sennet_trainer.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = svg_from_chart
    sections = [section_from_stage(stage) for stage in source.stages]
    fits = {
        stage.name: stage.result
        for stage in source.stages
        if isinstance(stage.result, FitResult) and stage.result.rows
    }  # fmt: skip
    details = {section.stage.name: section.brief for section in sections}
    several = len(source.stages) > 1
    return environment.get_template("page.html").render(
        source=source,
        state=_state(source),
        flow=flow_from_stages(source.stages, details) if several else None,
        tables=score_tables(source.stages) if several else [],
        comparison=comparison_charts(fits) if len(fits) > 1 else [],
        sections=sections,
        version=__version__,
    )


def _state(source: Source) -> str:
    """How many stages are done and how long they took, in words."""
    counts = Counter(stage.state for stage in source.stages)
    seconds = sum(stage.record.seconds for stage in source.stages if stage.record)
    time = f" · {numbers.duration(seconds)} in all" if seconds else ""
    if not source.of_recipe:
        return f"{source.stages[0].state}{time}"
    others = [f"{counts[state]} {state}" for state in State if state is not State.DONE and counts[state]]
    return f"{', '.join([f'{counts[State.DONE]} of {len(source.stages)} stages done', *others])}{time}"
