"""Run cells, and read what a run found: ``python -m benchmark_utils run | table | report | listen | export``.

table and report take the run's config with ``--expect``: they name its cells without a row, and table exits with 1 if
one of them was not skipped for a reason.
"""

import argparse
import sys
from pathlib import Path

from benchmark_utils.provenance import ROOT
from benchmark_utils.runs import run
from benchmark_utils.runs.cells import BAD_REQUEST, read_expected

RESULTS_COMMANDS = {
    "table": "print the tables of a run",
    "report": "write outputs/<run>_report.html: tables, charts and pictures in one file that needs no network",
    "listen": "write outputs/<run>_listen.html: separated stems to hear",
    "export": "write every stored sample, mean and spread as PNG or WAV, with a JSON that says where each comes from",
}


def parse(arguments):
    """(options, arguments for benchopt, parser of the command)."""
    summary, more = __doc__.split("\n\n")
    how = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser("python -m benchmark_utils", description=summary, epilog=more, **how)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | table | report | listen | export")
    of_run = "Every other argument is one of benchopt run, see benchopt run --help."
    running = "run cells as benchopt run does, and account for every one"
    command = commands.add_parser("run", help=running, description=run.__doc__, epilog=of_run, **how)
    command.add_argument("--allow-failures", action="store_true", help="exit with 0 although cells failed")
    for name, text in RESULTS_COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, **how)
        command.add_argument("results", type=Path, help="results of a run, outputs/<run>.parquet")
        if name == "export":
            command.add_argument("folder", type=Path, help="folder to write to")
        elif name != "listen":
            command.add_argument("--expect", type=Path, metavar="CONFIG", help="run config: name its missing cells")
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
        except BAD_REQUEST as error:
            parser.error(str(error))
        return run.run_and_account(*request, options.allow_failures)
    expected = getattr(options, "expect", None)
    for path in filter(None, (options.results, expected)):
        if not path.is_file():
            parser.error(f"{path} does not exist")
    try:
        config = read_expected(expected) if expected else None
    except BAD_REQUEST as error:
        parser.error(f"{expected}: {error}")
    if options.command == "table":
        from benchmark_utils.results.terminal import print_results

        return print_results(options.results, config)
    if options.command == "report":
        from benchmark_utils.results.report import write_report

        return write_report(options.results, config)
    if options.command == "export":
        from benchmark_utils.results.export import export

        return export(options.results, options.folder)
    from benchmark_utils.results.players import listen_to  # soundfile is of no use elsewhere

    return listen_to(options.results)


if __name__ == "__main__":
    sys.exit(main())
