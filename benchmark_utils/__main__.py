"""Run cells, read what a run found, check a solver: ``python -m benchmark_utils COMMAND``.

table and report take the run's config with ``--expect``: they name its cells without a row, and table exits with 1 if
one of them was not skipped for a reason. With ``--beside results/`` they show the run among the reference rows.
"""

import argparse
import sys
from pathlib import Path

from benchmark_utils.provenance import ROOT
from benchmark_utils.runs import run
from benchmark_utils.runs.cells import BAD_REQUEST, read_expected
from benchmark_utils.runs.reference import check_checkout, write_rows

RESULTS_COMMANDS = {
    "table": "print the tables of a run",
    "report": "write outputs/<run>_report.html: tables, charts and pictures in one file that needs no network",
    "listen": "write outputs/<run>_listen.html: separated stems to hear",
    "export": "write every stored sample, mean and spread as PNG or WAV, with a JSON that says where each comes from",
    "publish": "add the rows of a run to a Hugging Face dataset",
    "site": "write a static site of all rows of a folder: ranking, a page per task and per method",
}


def parse(arguments):
    """(options, arguments for benchopt, parser of the command)."""
    summary, more = __doc__.split("\n\n")
    how = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser("python -m benchmark_utils", description=summary, epilog=more, **how)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    of_run = "Every other argument is one of benchopt run, see benchopt run --help."
    running = "run cells as benchopt run does, and account for every one"
    command = commands.add_parser("run", help=running, description=run.__doc__, epilog=of_run, **how)
    command.add_argument("--allow-failures", action="store_true", help="exit with 0 although cells failed")
    rows = "write the rows, without pictures, to FOLDER/<run>.parquet too: see results/README.md"
    command.add_argument("--rows", type=Path, metavar="FOLDER", help=rows)
    for name, text in RESULTS_COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, **how)
        command.add_argument("results", type=Path, help="results of a run, outputs/<run>.parquet")
        if name == "export":
            command.add_argument("folder", type=Path, help="folder to write to")
        elif name == "publish":
            command.add_argument("repository", help="the dataset, org/name")
            command.add_argument("--token", help="token of your account; without it that of your login")
        elif name == "site":
            command.add_argument("--output", type=Path, default=Path("site"), help="folder to write to (site)")
        elif name != "listen":
            command.add_argument("--expect", type=Path, metavar="CONFIG", help="run config: name its missing cells")
            beside = "folder of reference rows, results/: show the run among these, on the same images and seeds"
            command.add_argument("--beside", type=Path, metavar="FOLDER", help=beside)
    text = "check a solver: docstring, length, presets, batches, GPU, exactness; exits with 1 if one fails"
    command = commands.add_parser("check", help=text, description=text, **how)
    command.add_argument("solver", help="its file, or its name in solvers/")
    options, rest = parser.parse_known_args(arguments)
    command = commands.choices[options.command]
    if rest and options.command != "run":
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    return options, rest, command


def main(arguments=None):
    """Do what a command line says and return the exit code."""
    options, rest, parser = parse(arguments)
    if options.command == "run":
        if not Path.cwd().samefile(ROOT):
            parser.error(f"runs start in the folder of the benchmark: cd {ROOT}")
        try:
            request = run.read_request(rest)
            if options.rows:
                options.rows.mkdir(parents=True, exist_ok=True)
                check_checkout()
        except BAD_REQUEST as error:
            parser.error(str(error))
        code = run.run_and_account(*request, options.allow_failures)
        try:
            if options.rows and request[2].exists():
                write_rows(request[2], options.rows)
        except BAD_REQUEST as error:
            parser.error(str(error))
        return code
    if options.command == "check":
        from benchmark_utils.checks.solver import load_solver, print_checks

        try:
            solver = load_solver(options.solver)
        except (*BAD_REQUEST, ImportError) as error:
            parser.error(str(error))
        return print_checks(solver)
    expected = getattr(options, "expect", None)
    try:
        config = read_expected(expected) if expected else None
    except BAD_REQUEST as error:
        parser.error(f"{expected}: {error}")
    from benchmark_utils.results.scores import BadResults

    try:
        return show_results(options, config)
    except (OSError, BadResults) as error:  # of the files that were named; other errors are ours
        parser.error(str(error))


def show_results(options, config):
    """Do what one of ``RESULTS_COMMANDS`` says and return the exit code; ``config`` is that of ``--expect``."""
    if options.command == "site":
        from benchmark_utils.results.site import write_site

        return write_site(options.results, options.output)
    if options.command == "export":
        from benchmark_utils.results.export import export

        return export(options.results, options.folder)
    if options.command == "publish":
        from benchmark_utils.results.publish import publish

        return publish(options.results, options.repository, options.token)
    if options.command == "listen":
        from benchmark_utils.results.players import listen_to  # soundfile is of no use elsewhere

        return listen_to(options.results)
    from benchmark_utils.results.beside import read_rows
    from benchmark_utils.results.report import write_report
    from benchmark_utils.results.terminal import print_results

    reference = read_rows(options.beside) if options.beside else None
    show = print_results if options.command == "table" else write_report
    return show(options.results, config, reference)


if __name__ == "__main__":
    sys.exit(main())
