"""The study's command line: `python -m lib COMMAND …`, explained by `python -m lib --help`."""

import argparse
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from lib.common.errors import StudyError
from lib.common.files import ROOT

DIGITS = "params/digits.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code. What went wrong is one line."""
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except (StudyError, OSError) as error:
        again = ": mend it and run the same command again" if isinstance(error, OSError) else ""
        print(f"error: {error}{again}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command resumes the work", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(
        prog="python -m lib",
        description="Can synthetic images calibrate INT8 quantization as well as real ones?",
        epilog="Each command has its own --help. A profile is a YAML file of parameters; "
        f"without one, commands take {DIGITS}.",
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)

    def add(does: Callable[[argparse.Namespace], None], profile: bool = True):
        text = does.__doc__
        command = commands.add_parser(does.__name__, help=text, description=text)
        command.set_defaults(command=does)
        if profile:
            command.add_argument(
                "profile", type=Path, nargs="?", default=ROOT / DIGITS, help="parameter file"
            )
        return command

    running = add(run)
    which = running.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", metavar="NN", help="start at this one (00 to 07)")
    which.add_argument("--only", metavar="NN", help="run this one alone (00 to 08, A1, A2)")
    for command in (running, add(parameters)):
        command.add_argument(
            "-p",
            dest="overrides",
            nargs=2,
            action="append",
            default=[],
            metavar=("KEY", "VALUE"),
            help="override a value of the profile",
        )
    _add_quantize(add(quantize, profile=False))
    add(blog)
    command = add(app)
    command.add_argument("--port", type=int, default=8866, help="port on 127.0.0.1")
    command.add_argument("--visitors", type=int, default=5, help="most visitors at once")
    command.add_argument("--base-url", default="/", help="path of the page behind a web server")
    command.add_argument("--publish", action="store_true", help="copy the networks, serve nothing")
    command = add(export)
    command.add_argument("--student", type=Path, help="this student.safetensors, not the profile's")
    command.add_argument("--out", type=Path, help="folder for the files")
    command = add(sets)
    command.add_argument(
        "--small", action="store_true", help="only calibration sets, in one file each"
    )
    add(weights)
    command = add(distill)
    command.add_argument("out", type=Path, help="folder for student.safetensors and its log")
    command.add_argument("--device", choices=("cpu", "cuda"), help="instead of the profile's")
    add(bench, profile=False)
    add(docs, profile=False)
    return whole


def _add_quantize(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, help=".onnx, OpenVINO .xml or .tflite, not quantized")
    command.add_argument(
        "--calibrate",
        default="mixed",
        metavar="KIND|FOLDER|FILE[,…]",
        help="mixed (photographs and fractals), photographs, fractals, noise, grey, folders of "
        "images or sets of the study; of several the best is kept (default: %(default)s)",
    )
    numbers = {"metavar": "X,X,X", "type": _numbers}
    command.add_argument("--mean", **numbers, help="by channel; if negative --mean=-1,…")
    command.add_argument("--std", **numbers, help="fed is (pixels * input-max / 255 - mean) / std")
    command.add_argument("--input-max", type=int, choices=(1, 255), help="the largest value")
    command.add_argument("--layout", choices=("NCHW", "NHWC"), help="where the file does not tell")
    command.add_argument("--colours", "--colors", choices=("RGB", "BGR"), default="RGB")
    command.add_argument("--size", type=_size, metavar="HxW", help="where the file leaves it open")
    command.add_argument(
        "-n", type=int, default=300, help="images to calibrate with (default: %(default)s)"
    )
    command.add_argument("--check", metavar="FOLDER|KIND[,…]", help="images to check INT8 on")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="for the results")
    command.add_argument(
        "--max-drop",
        type=float,
        metavar="SHARE",
        help="return layers to floating point until no larger share of classes changes",
    )
    command.add_argument("--bias-correction", choices=("fast", "none", "best"), default="fast")
    command.add_argument("--seed", type=int, default=0)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        wanted = "give a number for each channel, such as 0.5,0.5,0.5"
        raise argparse.ArgumentTypeError(f"{text}: {wanted}") from error


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text}: give height and width, such as 224x224"
        ) from error
    return height, width


def _params(options: argparse.Namespace):
    from lib.study.params import parse_override, read_profile, validate

    given = dict(getattr(options, "overrides", []))
    overrides = {key: parse_override(value) for key, value in given.items()}
    return validate(read_profile(options.profile) | overrides)


def _folder(options: argparse.Namespace) -> Path:
    from lib.study.output_folder import output_folder

    return output_folder(_params(options))


def run(options: argparse.Namespace) -> None:
    """Run the notebooks of a profile; finished work is reused."""
    from lib.study.run import check_python, run_study

    check_python()
    run_study(_params(options), options.first, options.only)


def parameters(options: argparse.Namespace) -> None:
    """List a profile's parameters with their meaning."""
    from lib.study.reference import parameter_lines

    print("\n".join(parameter_lines(_params(options))))


def quantize(options: argparse.Namespace) -> None:
    """Quantize a network of your own to INT8 without its data."""
    from lib.quantization.tool.network import Takes
    from lib.quantization.tool.quantize import quantize_file

    fields = ("mean", "std", "input_max", "layout", "colours", "size")
    takes = Takes(**{name: getattr(options, name) for name in fields})
    report = quantize_file(
        options.model,
        calibrate=options.calibrate.split(","),
        takes=takes,
        images=options.n,
        check=options.check.split(",") if options.check else (),
        out=options.out,
        max_drop=options.max_drop,
        bias_correction=options.bias_correction,
        seed=options.seed,
    )
    print(report.page())
    folder = options.out or options.model.with_name(f"{options.model.stem}_int8")
    print(f"The networks and this page are in {folder}")


def blog(options: argparse.Namespace) -> None:
    """Write the two posts as web pages, with the numbers and figures of a run on CIFAR-10."""
    from lib.publish.blog.render import write_blog

    for path in write_blog(_folder(options)):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def app(options: argparse.Namespace) -> None:
    """Serve the image generator as a web page on this machine."""
    from lib.app.export import publish_generator
    from lib.app.serve import ARTIFACT, PUBLISHED, serve_app

    if not options.publish:
        serve_app(_params(options), options.port, options.visitors, options.base_url)
    folder = _folder(options)
    for path in publish_generator(folder / ARTIFACT, folder / PUBLISHED):
        print(f"{path}: {path.stat().st_size:,} bytes")


def export(options: argparse.Namespace) -> None:
    """Write the student as safetensors, ONNX and OpenVINO IR."""
    from lib.app.export import export_student

    folder = options.student.parent if options.student else _folder(options)
    student = options.student or folder / "artifacts" / "student" / "student.safetensors"
    if not student.is_file():
        made = f"python -m lib run {options.profile} makes it"
        raise StudyError(f"{student} is missing: {made}, or name one by --student")
    table = export_student(options.out or folder / "export", student=student)
    print(table.to_string(index=False, float_format="{:.3g}".format))


def sets(options: argparse.Namespace) -> None:
    """Write the image sets in the forms in which they are published."""
    from lib.publish.sets import publish_sets
    from lib.publish.shipped import publish_calibration

    params = _params(options)
    if not options.small:
        publish_sets(params)
    for path in publish_calibration(params):
        print(f"{path}: {path.stat().st_size:,} bytes")


def weights(options: argparse.Namespace) -> None:
    """Write the trained networks in half precision, with model cards, and in INT8."""
    from lib.publish.shipped import publish_int8
    from lib.publish.weights import publish_weights

    params = _params(options)
    publish_weights(params)
    if (_folder(options) / "tables" / "06_answers.csv").is_file():
        for path in publish_int8(params):
            print(f"{path}: {path.with_suffix('.bin').stat().st_size:,} bytes")


def distill(options: argparse.Namespace) -> None:
    """Train the student alone, on one machine or several."""
    from lib.study.run import train_student

    train_student(_params(options), options.out, options.device)


def bench(options: argparse.Namespace) -> None:
    """Measure how fast everything is on this machine."""
    sys.path.insert(0, str(ROOT))
    runpy.run_module("benchmarks", run_name="__main__")


def docs(options: argparse.Namespace) -> None:
    """Write what is generated: parameter cells, docs/, README's results."""
    from lib.publish.readme import FOLDER, write_results
    from lib.study.notebooks import write_parameter_cells
    from lib.study.reference import write_reference

    write_parameter_cells()
    write_reference(ROOT / "docs")
    if (FOLDER / "tables" / "06_answers.csv").is_file():
        write_results()


if __name__ == "__main__":
    sys.exit(main())
