"""pytest plugin: the cases of a kit as parameters of a test, and the folder of a kit as a fixture.

    @pytest.mark.engram("silu", "solved/gate")          # ops or groups of cases; without the mark: all cases
    def test_my_port(engram_case):
        engram_case.check(getattr(my_port, engram_case.op))

`pytest --engram-kit DIR` takes the cases from a kit, which is written first if the folder does not exist; without the
option they are the golden vectors of the package. Nothing is imported until a test asks for one of the fixtures.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    """Add the option --engram-kit."""
    parser.getgroup("engram_ref").addoption("--engram-kit", metavar="DIR", type=Path,
                                            help="kit for engram_case and engram_kit; written if it does not exist")


def pytest_configure(config):
    """Describe the mark."""
    config.addinivalue_line("markers", "engram(*names): ops or groups of the cases of engram_case; see engram_ref")


def pytest_generate_tests(metafunc):
    """Run a test with the argument engram_case once per case."""
    if "engram_case" in metafunc.fixturenames:
        names = [name for mark in metafunc.definition.iter_markers("engram") for name in mark.args]
        cases = port_cases(metafunc.config, names)
        metafunc.parametrize("engram_case", cases, ids=[each.case.name for each in cases])


def port_cases(config, names):
    """Return the cases of some ops or groups, or all; UsageError for a name without cases."""
    from engram_ref.errors import InputError, check_name
    from engram_ref.oracle.kit.read import read_kit
    from engram_ref.oracle.vectors import read
    from engram_ref.testing import PortCase

    folder = config.getoption("--engram-kit")
    try:
        vectors = read() if folder is None else read_kit(written(folder)).vectors
        for name in names:
            check_name("engram mark", name, sorted({key for case in vectors.cases for key in (case.op, case.group)}))
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    return [PortCase(case, vectors) for case in vectors.cases if not names or {case.op, case.group} & {*names}]


def written(folder):
    """Return a folder after writing a kit to it if it does not exist."""
    from engram_ref.oracle.kit.write import write_kit

    if not folder.exists():
        write_kit(folder, None)
    return folder


@pytest.fixture(scope="session")
def engram_kit(request, tmp_path_factory):
    """The folder of a kit: --engram-kit DIR, or a temporary one."""
    return written(request.config.getoption("--engram-kit") or tmp_path_factory.mktemp("engram") / "kit")
