"""The command `sennet-bench experiment`: what pseudo-labels are worth."""

from pathlib import Path
from typing import Annotated

import typer


def experiment(
    out: Annotated[Path, typer.Argument(help="Folder of all that is made; what is there is not made again.")],
    part: Annotated[list[str] | None, typer.Option(help="phantoms or two-photon; can be given twice.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each has its own volumes and its own trainings.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, each on one core.")] = 2,
    two_photon_data: Annotated[Path | None, typer.Option(help="Folder of the two-photon stacks.")] = None,
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes.")] = Path("recipes"),
) -> None:
    """Train on dense, sparse, pseudo- and full labels, and score each. The same command goes on where it was stopped.

    Without --part: phantoms, and two-photon where its data are named.
    """
    from sennet_bench.experiment.run import PHANTOMS, TWO_PHOTON, Plan, run_experiment
    from sennet_bench.experiment.scores import added_labels, arm_scores, experiment_json, label_table, score_table
    from sennet_trainer.whole_file import write_whole

    parts = part or [PHANTOMS, *([TWO_PHOTON] if two_photon_data else [])]
    plan = Plan(parts, seeds, jobs, recipes, two_photon_data)
    done = run_experiment(plan, out, told=lambda line: typer.echo(line, err=True))
    scores, labels = arm_scores(done), added_labels(done)
    write_whole(out / "experiment.json", experiment_json(scores, labels).encode())
    for name in plan.parts:
        of_part = [score for score in scores if score.part == name]
        typer.echo(f"\n{name}: surface Dice at tolerance 0, mean of {seeds} seeds (each seed)\n")
        typer.echo(score_table(of_part, lambda score: score.surface_dice))
        typer.echo(f"\n{name}: the same if the threshold were chosen on the test volume\n")
        typer.echo(score_table(of_part, lambda score: score.best_surface_dice))
        typer.echo(f"\n{name}: what pseudo-label stages added\n")
        typer.echo(label_table([added for added in labels if added.part == name]))
    typer.echo(f"\nfigures  {out / 'experiment.json'}")
