"""pytest plugin: the cases of a kit as parameters of a test, and the folder of a kit as a fixture.

    @pytest.mark.engram("silu", "solved/gate")          # ops or groups of cases; without the mark: all cases
    def test_my_port(engram_case):
        engram_case.check(getattr(my_port, engram_case.op))

`pytest --engram-kit DIR` takes the cases from a kit, which is written first if the folder does not exist; without the
option they are the golden vectors of the package. Nothing is imported until a test uses one of the fixtures.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    """Add the option --engram-kit."""
    parser.getgroup("engram_ref").addoption("--engram-kit", metavar="DIR", type=Path,
                                            help="kit of engram_case and engram_kit; written if it does not exist")


def pytest_configure(config):
    """Describe the mark."""
    config.addinivalue_line("markers", "engram(*names): ops or groups of cases for engram_case")


def pytest_generate_tests(metafunc):
    """Run a test with the argument engram_case once per case."""
    if "engram_case" not in metafunc.fixturenames:
        return
    from engram_ref.errors import InputError
    from engram_ref.testing import port_cases

    kit = metafunc.config.getoption("--engram-kit")
    try:
        names = [name for mark in metafunc.definition.iter_markers("engram") for name in mark.args]
        cases = port_cases(*names, kit=None if kit is None else written(kit))
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("engram_case", cases, ids=[each.case.name for each in cases])


def written(folder):
    """Return a folder after writing a kit to it if it does not exist."""
    from engram_ref.oracle.kit.write import write_kit

    if not folder.exists():
        write_kit(folder)
    return folder


@pytest.fixture(scope="session")
def engram_kit(request, tmp_path_factory):
    """The folder of a kit: --engram-kit DIR, or a temporary one."""
    return written(request.config.getoption("--engram-kit") or tmp_path_factory.mktemp("engram") / "kit")
