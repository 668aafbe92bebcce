"""pytest plugin: the cases of a kit as parameters of a test, and the folder of a kit as a fixture.

    @pytest.mark.engram("silu", "solved/gate")          # ops or groups of cases; without the mark: all cases
    def test_my_port(engram_case):
        engram_case.check(getattr(my_port, engram_case.op))

`pytest --engram-kit DIR` takes the cases from a kit, which is written first if the folder does not exist; without the
option they are the golden vectors of the package. Without the option, nothing is imported until a test uses one of the
fixtures.
"""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    """Add the option --engram-kit."""
    parser.getgroup("engram_ref").addoption("--engram-kit", metavar="DIR", type=Path,
                                            help="kit of engram_case and engram_kit; written if it does not exist")


def pytest_configure(config):
    """Describe the mark; write the kit, in the main process of pytest-xdist, before its workers read it."""
    config.addinivalue_line("markers", "engram(*names): ops or groups of cases for engram_case")
    kit = config.getoption("--engram-kit")
    if kit is not None and not hasattr(config, "workerinput"):
        written(kit)


def pytest_generate_tests(metafunc):
    """Run a test with the argument engram_case once per case."""
    if "engram_case" not in metafunc.fixturenames:
        return
    from engram_ref.errors import InputError
    from engram_ref.testing import port_cases

    kit = metafunc.config.getoption("--engram-kit")
    try:
        names = [name for mark in metafunc.definition.iter_markers("engram") for name in mark.args]
        cases = port_cases(*names, kit=kit)
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("engram_case", cases, ids=[each.case.name for each in cases])


def written(folder):
    """Return a folder after writing a kit to it if it does not exist."""
    if not folder.exists():
        from engram_ref.errors import InputError
        from engram_ref.oracle.kit.write import write_kit

        try:
            write_kit(folder)
        except InputError as error:
            raise pytest.UsageError(str(error)) from error
    return folder


@pytest.fixture(scope="session")
def engram_kit(request, tmp_path_factory):
    """The folder of a kit: --engram-kit DIR, or a temporary one."""
    return written(request.config.getoption("--engram-kit") or tmp_path_factory.mktemp("engram") / "kit")
