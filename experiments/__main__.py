"""The command line: `python -m experiments list | run NAME | launch NAME | report`.

Whatever the user can mend is answered by one line on stderr and exit code 2, Ctrl-C by 130.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

try:
    import click
    from rich.console import Console
    from rich.table import Table

    import experiments
    from experiments import launch, page, report, runner
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}; pip install 'jaxnn-functional[experiments]'")


class OneLineErrors(click.Group):
    """A group of commands that never shows a usage text or a traceback for a mistake."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Runs a command and exits."""
        streams = [stream for stream in (sys.stdout, sys.stderr) if stream]  # None once closed
        for stream in streams:  # a finding may say ±, which the terminal need not know
            stream.reconfigure(errors="replace")  # type: ignore
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            for stream in streams:
                stream.flush()
        except runner.Refusal as error:
            code = _complain(str(error), 2)
        except click.ClickException as error:
            code = _complain(error.format_message(), 2)
        except SystemExit as stop:  # SIGTERM: all is saved
            code = _complain(str(stop), int(stop.code or 0)) if hasattr(stop, "told") else stop.code
        except BrokenPipeError:  # as in `list | head -1`; Python must not flush once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; Ctrl-C is caught here, before click says it in its own way."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            told = str(stop) or "interrupted; a former result is as it was"
            ctx.exit(_complain(told, 130))


def _complain(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


@click.group(cls=OneLineErrors, invoke_without_command=True)
@click.pass_context
def cli(context: click.Context) -> None:
    """Experiments with jaxnn: one question, one page."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command("list")
def list_command() -> None:
    """Show every experiment and its question."""
    questions = experiments.questions()
    width = max(map(len, questions), default=0)
    for name, question in questions.items():
        click.echo(f"{name:<{width}}  {question}")


def _settings(_context: Any, _option: Any, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Returns `key=value` pairs as a dict; a value that is no JSON is a string."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"expected key=value, got {pair!r}")
        if key in settings:
            raise click.BadParameter(f"key {key!r} is set twice")
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings


@cli.command("run")
@click.argument("name")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", callback=_settings,
              help="Change one entry of the config; may be given again.")  # fmt: skip
@click.option("--smoke", is_flag=True, help="Run a toy version in seconds.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Write DIR/NAME; by default results, with --smoke results/smoke.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a run that was broken off.")
@click.option("--checkpoint-every", "every", type=click.FloatRange(min=0), default=runner.EVERY,
              show_default=True, metavar="SECONDS", help="How much may be lost.")  # fmt: skip
def run_command(
    name: str,
    seed: int,
    overrides: dict[str, Any],
    smoke: bool,
    out: Path | None,
    resume: bool,
    every: float,
) -> None:
    """Run experiment NAME and write its page."""
    progress = runner.Progress(Console(stderr=True))
    run = lambda: runner.execute(
        name, overrides, seed, smoke, out or runner.results(smoke), progress,
        resume=resume, every=every,
    )  # fmt: skip
    if "JAX_COORDINATOR_ADDRESS" in os.environ:  # one process of a job; imports JAX
        from jaxnn import scale

        try:
            scale.join()
        except (RuntimeError, TypeError, ValueError) as error:
            raise runner.Refusal(str(error)) from None
        _show(run())
        scale.leave()
        return
    _show(run())


@cli.command("launch")
@click.argument("name")
@click.option("--processes", type=click.IntRange(1, 64), required=True, metavar="N",
              help="How many processes of this machine.")  # fmt: skip
@click.option("--restarts", type=click.IntRange(0, 1000), default=0, show_default=True, metavar="K",
              help="How often the whole job is started again when a process breaks.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Change one entry of the config; may be given again.")  # fmt: skip
@click.option("--smoke", is_flag=True, help="Run a toy version in seconds.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Write DIR/NAME; by default results, with --smoke results/smoke.")  # fmt: skip
@click.pass_context
def launch_command(
    context: click.Context,
    name: str,
    processes: int,
    restarts: int,
    seed: int,
    overrides: tuple[str, ...],
    smoke: bool,
    out: Path | None,
) -> None:
    """Run experiment NAME in N processes that form one job, to try out what runs on machines."""
    runner.choose("experiment", name, experiments.questions())
    _settings(None, None, overrides)
    options = ["--seed", str(seed), *(["--smoke"] if smoke else [])]
    for pair in overrides:
        options += ["--set", pair]
    out = out or runner.results(smoke)
    context.exit(launch.launch(name, options, processes, out, click.echo, restarts))


@cli.command("report")
@click.option("--smoke", is_flag=True, help="Run toy versions, in seconds each.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Write to DIR; by default results, with --smoke results/smoke.")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME ...", help="Run no others than these.")
@click.option("--again", is_flag=True, help="Run also what has a result.")
@click.argument("names", nargs=-1, metavar="")
@click.pass_context
def report_command(
    context: click.Context,
    smoke: bool,
    out: Path | None,
    only: tuple[str, ...],
    again: bool,
    names: tuple[str, ...],
) -> None:
    """Run every experiment that has no result yet, and write the index of the course.

    What is done is kept and not run again: an interrupted report goes on where it stopped.
    """
    if names and not only:
        raise click.UsageError(f"unexpected extra argument {names[0]!r}; write --only {names[0]}")
    out = out or runner.results(smoke)
    chosen = list(dict.fromkeys(only + names)) or report.in_order()
    try:
        failures = report.run_missing(
            chosen, out, runner.Progress(Console(stderr=True)), smoke=smoke, again=again,
            tell=click.echo,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit):
        report.write_index(out, smoke=smoke)
        raise
    click.echo(f"course: {report.write_index(out, smoke=smoke)}")
    for name, reason in failures:
        _complain(f"{name} failed: {reason}; python -m experiments run {name} tells more", 1)
    if failures:
        context.exit(1)


def _show(finished: runner.Finished) -> None:
    outcome, provenance = finished.outcome, finished.provenance
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # a log has no width: do not shorten cells
    table = Table(title=outcome.table.caption or None)
    numeric = [all(map(page.is_number, column)) for column in zip(*outcome.table.rows, strict=True)]
    for i, column in enumerate(outcome.table.columns):
        table.add_column(column, justify="right" if numeric[i : i + 1] == [True] else "left")
    for i, row in enumerate(outcome.table.rows):
        table.add_row(*map(page.cell, row), style="bold" if i in outcome.table.best else None)
    console.print(table)
    console.print(outcome.finding, soft_wrap=True)
    console.print(
        f"{provenance['wall_seconds']:.1f} s, of which {provenance['compile_seconds']:.1f} s "
        f"compiling {provenance['compile']['programs']} programs",
        soft_wrap=True,
    )
    console.print(f"page: {finished.folder / 'index.html'}", soft_wrap=True)


if __name__ == "__main__":
    cli(prog_name="python -m experiments")
