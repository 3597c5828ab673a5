"""How every command ends: exit codes, and messages on stderr."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest


def program(tmp_path, body):
    """A small command-line program around `run`, whose command runs `body`."""
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent("""
            import errno, logging, sys, time, warnings
            import typer
            from sennet_engine.cli.run import run
            from sennet_engine.errors import OutputError

            app = typer.Typer()

            @app.command()
            def command(count: int = 1) -> None:
        """)
        + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        + "\n\nrun(app)\n"
    )
    return [sys.executable, str(path)]


def ended(tmp_path, body, *arguments, **options):
    options = options or {"capture_output": True}
    return subprocess.run([*program(tmp_path, body), *arguments], text=True, check=False, **options)


def test_success_is_0(tmp_path):
    """What the command prints is all there is."""
    result = ended(tmp_path, "typer.echo('done')")
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_an_error_of_ours_is_one_line_and_2(tmp_path):
    """No traceback: the message alone."""
    result = ended(tmp_path, "raise OutputError('out: exists already')")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "error: out: exists already\n")


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS"])
def test_a_disk_that_cannot_be_written_is_an_error_of_the_user(tmp_path, number):
    """The message names the file, the cause and what to do."""
    result = ended(tmp_path, f"raise OSError(errno.{number}, 'the cause', 'mask.tif')")
    assert result.returncode == 2
    assert result.stderr.startswith("error: mask.tif: the cause; ")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_2(tmp_path):
    """An option with a value that is no number, and an unknown option."""
    for arguments in (["--count", "many"], ["--cuont", "1"]):
        result = ended(tmp_path, "pass", *arguments)
        assert result.returncode == 2
        assert "Usage" in result.stderr


@pytest.mark.parametrize("error", ["ValueError('a mistake')", "OSError(errno.EIO, 'a mistake')"])
def test_a_mistake_of_the_program_keeps_its_plain_traceback(tmp_path, error):
    """It must be findable, and must not look like a mistake of the user."""
    result = ended(tmp_path, f"raise {error}")
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "a mistake" in result.stderr.splitlines()[-1]


def test_an_interrupt_is_130(tmp_path):
    """Ctrl-C: one word, no traceback."""
    running = subprocess.Popen(
        program(tmp_path, "print('started', flush=True)\ntime.sleep(30)"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout.readline() == "started\n"
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=20)
    assert (running.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("body", ["typer.echo('x' * 100_000)", "print('x' * 100_000)", "print('few words')"])
def test_a_reader_that_went_away_is_no_error_to_speak_of(tmp_path, body):
    """`command | head` prints no traceback, also where the text was still in the buffer at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    result = ended(tmp_path, body, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


def test_warnings_are_said_once_and_plainly(tmp_path):
    """From `logging` and from `warnings`, without file names and time stamps; information is not printed."""
    result = ended(
        tmp_path,
        """
        for _ in range(3):
            logging.getLogger("sennet_engine.infer").warning("no voxel size in %s", "volume.tif")
            logging.getLogger("sennet_engine.infer").info("a detail")
            warnings.warn("an old file", UserWarning)
        """,
    )
    assert result.stderr == "warning: no voxel size in volume.tif\nwarning: an old file\n"
