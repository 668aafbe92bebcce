"""Kits that are damaged, of another version, or hostile: one line that names the file, and no work before the check."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from engram_ref.cli.main import main
from engram_ref.errors import InputError
from engram_ref.oracle.folder import INTEGERS, MANIFEST, MAX_BYTES, MAX_FILES, SUMS
from engram_ref.oracle.kit.read import KIT_VERSION, read_kit
from engram_ref.oracle.kit.write import ARRAYS
from engram_ref.oracle.structure import CASE, KIT_FIELDS, STAGE, json_schema
from tests.kits import patches, write_few


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_few(tmp_path_factory.mktemp("written") / "kit")


@pytest.fixture
def kit(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "kit")


@pytest.fixture
def edited(written):
    """The kit itself; its manifest and its list of digests are restored after the test."""
    kept = {name: (written / name).read_bytes() for name in (MANIFEST, SUMS)}
    yield written
    for name, data in kept.items():
        (written / name).write_bytes(data)


def error_of(folder):
    with pytest.raises(InputError) as caught:
        read_kit(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(folder, change, name=MANIFEST):
    """Change a JSON file, and correct all digests and sizes."""
    value = json.loads((folder / name).read_bytes())
    change(value)
    replace(folder, name, json.dumps(value).encode())


def replace(folder, name, data):
    """Replace a file, and correct its digest."""
    (folder / name).write_bytes(data)
    lines = [line for line in (folder / SUMS).read_text(encoding="utf-8").splitlines() if line[66:] != name]
    (folder / SUMS).write_text("\n".join([*lines, line_of(data, name), ""]), encoding="utf-8")


def line_of(data, name):
    return f"{hashlib.sha256(data).hexdigest()}  {name}"


def add_line(folder, line):
    """Add a line to the list of digests."""
    with open(folder / SUMS, "a", encoding="utf-8", errors="surrogatepass") as file:
        file.write(f"{line}\n")


def test_an_unchanged_copy_is_read(kit, written):
    assert read_kit(kit).digest == read_kit(written).digest
    edit(kit, lambda manifest: None)
    assert read_kit(kit).digest != read_kit(written).digest


FILES = (MANIFEST, SUMS, ARRAYS, INTEGERS, "README.md", "manifest.schema.json", "cases/silu/edges/case.txt",
         "arrays/silu/edges=output.f64.19.bin", "constants/configurations.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "one bit", "longer", "a link", "a folder", "a FIFO"])
def test_a_damaged_file_is_named(kit, name, damage):
    path = kit / name
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-3])
    elif damage == "one bit":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "longer":
        path.write_bytes(data + b" \n")
    elif damage == "a link":
        (kit.parent / "same").write_bytes(data)
        path.symlink_to(kit.parent / "same")
    elif damage == "a folder":
        path.mkdir()
    elif damage == "a FIFO":
        os.mkfifo(path)
    assert name in error_of(kit) or name == SUMS        # whose bits are digests of other files


def test_a_link_to_a_folder_is_refused(kit):
    shutil.move(kit / "cases", kit.parent / "elsewhere")
    (kit / "cases").symlink_to(kit.parent / "elsewhere")
    assert "expected a path without symbolic links, found one at cases" in error_of(kit)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "arrays/../../secret", "", ".", "a\\b", "a\0b",
                                  "x" * 300, " ", "a b", "cases"])
def test_a_path_outside_the_folder_is_refused(kit, name):
    (kit.parent / "secret").write_bytes(b"1")
    add_line(kit, line_of(b"1", name))
    assert SUMS in error_of(kit) or name in error_of(kit) or "name too long" in error_of(kit)


@pytest.mark.parametrize("line", ["", "nonsense", "0" * 64 + " README.md", "Z" * 64 + "  README.md", "\udcff",
                                  "0" * 64 + "  README.md"])
def test_a_list_of_digests_with_an_invalid_line_is_refused(edited, line):
    with open(edited / SUMS, "ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    assert SUMS in error_of(edited)


def test_a_file_of_10_gb_is_not_read(kit):
    os.truncate(kit / ARRAYS, 10 * 2**30)                   # sparse
    assert "found 10,737,418,240" in error_of(kit)
    for name in (SUMS, MANIFEST):
        os.truncate(kit / name, 10 * 2**30)
        assert f"{name}: expected at most {MAX_BYTES:,} bytes" in error_of(kit)


def test_all_files_together_are_limited(kit):
    for name in ("README.md", "manifest.schema.json"):
        os.truncate(kit / name, MAX_BYTES - 10**6)
        replace(kit, name, (kit / name).read_bytes())
    assert "expected at most" in error_of(kit)


def test_safetensors_that_announce_more_than_they_contain(kit):
    header = json.dumps({"x": {"dtype": "F64", "shape": [10**10], "data_offsets": [0, 8 * 10**10]}}).encode()
    replace(kit, ARRAYS, len(header).to_bytes(8, "little") + header)
    assert ARRAYS in error_of(kit)


def test_integers_that_announce_more_than_they_contain(kit):
    edit(kit, lambda entries: next(iter(entries.values())).update(shape=[10**10]), INTEGERS)
    assert INTEGERS in error_of(kit)


def test_too_many_files_are_refused(edited):
    with open(edited / SUMS, "a", encoding="utf-8") as file:
        file.writelines(f"{line_of(b'', f'arrays/{i}')}\n" for i in range(MAX_FILES))
    assert f"at most {MAX_FILES} lines" in error_of(edited)


def test_files_that_are_not_listed_are_not_read(kit):
    """100,000 of them do not slow it down."""
    for i in range(1000):
        (kit / "arrays" / f"extra-{i}").touch()
    os.mkfifo(kit / "pipe")
    started = time.perf_counter()
    read_kit(kit)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(("version", "hint"), [(1, "write a new kit"), (99, "pip install -U engram_ref")])
def test_another_version_is_refused_with_a_hint(edited, version, hint):
    (edited / MANIFEST).write_text(json.dumps({"kit": version, "other": "fields"}), encoding="utf-8")
    message = f"expected kit format {KIT_VERSION}, which this engram-ref reads, found format {version} ({hint}"
    assert message in error_of(edited)


def test_another_structure_needs_another_version():
    """A change of the manifest's fields must increase KIT_VERSION; then correct this digest."""
    structure = hashlib.sha256(json.dumps(json_schema(KIT_FIELDS), sort_keys=True).encode()).hexdigest()
    assert (KIT_VERSION, structure[:16]) == (3, "b51b9fbc94e7057c")


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"kit": true}', '{"kit": "1"}', "[" * 100_000, "\0"])
def test_a_manifest_that_is_none_is_refused(edited, text):
    (edited / MANIFEST).write_text(text, encoding="utf-8")
    assert MANIFEST in error_of(edited)


FIELDS = [(part, field) for part, structure in (("manifest", KIT_FIELDS), ("case", CASE), ("stage", STAGE))
          for field in structure if not field.endswith("?")]


@pytest.mark.parametrize("wrong", ["missing", None, True, [None]], ids=str)
@pytest.mark.parametrize(("part", "field"), FIELDS, ids=" ".join)
def test_every_field_is_checked(part, field, wrong, edited):
    def damage(manifest):
        owner = {"manifest": manifest, "case": manifest["cases"][0], "stage": manifest["cases"][0]["stages"][0]}[part]
        if wrong == "missing":
            del owner[field]
        else:
            owner[field] = wrong

    edit(edited, damage)
    assert field in error_of(edited)


def first(manifest, name):
    return next(case for case in manifest["cases"] if case["name"] == name)


CONTENT = {
    "unknown parameters": (lambda m: m["parameters"].clear(), "an array, configuration, parameters"),
    "an unknown op": (lambda m: m["cases"][0].update(op="relu"), "a known op, found 'relu'"),
    "an unknown array": (lambda m: m["cases"][0]["stages"][0].update(expected="x"), "an array named x, found none"),
    "noise of another shape": (lambda m: first(m, "silu/edges")["stages"][0].update(
        noise=first(m, "swiglu/odd-width")["stages"][0]["noise"]), "noise of shape [19]"),
    "an unknown class": (lambda m: m["cases"][0]["stages"][0].update({"class": "close"}), "a class among"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_invalid_content_is_refused(edited, name):
    change, message = CONTENT[name]
    edit(edited, change)
    assert message in error_of(edited)


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS, INTEGERS])
def test_files_that_are_read_must_be_listed(edited, name):
    lines = (edited / SUMS).read_text(encoding="utf-8").splitlines()
    (edited / SUMS).write_text("".join(f"{line}\n" for line in lines if line[66:] != name), encoding="utf-8")
    assert re.search(f"a digest of {name}, found none|an array named .*, found none", error_of(edited))


@pytest.mark.parametrize("folder", ["nowhere", "file", "empty", "a\0b", "", "\ud800", "x" * 5000])
def test_a_folder_that_is_no_kit(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "manifest.json" in error_of(folder) or "..." in error_of(folder)


def test_a_link_to_a_kit_is_a_kit(kit, tmp_path):
    (tmp_path / "link").symlink_to(kit)
    assert len(read_kit(tmp_path / "link").vectors.cases) > 10


# The command

def run(capsys, *argv):
    """Run the command and return exit code, standard output and standard error."""
    try:
        code = main(["kit", *map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.fixture
def few():
    """Write only a few cases."""
    with ExitStack() as stack:
        for patch in patches():
            stack.enter_context(patch)
        yield


def test_the_command_reports_what_it_wrote(capsys, few, tmp_path):
    code, out, err = run(capsys, tmp_path / "new", "--dialect", "demo")
    kit = read_kit(tmp_path / "new")
    assert code == 0 and err == "" and max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
    assert f"{len(kit.vectors.cases)} cases for demo" in out and kit.digest in out and "engram-ref check" in out
    code, out, _ = run(capsys, tmp_path / "json", "--dialect", "demo", "--json")
    report = json.loads(out)
    assert report["digest"] == kit.digest and sum(report["groups"].values()) == len(kit.vectors.cases)
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert (report["files"], report["bytes"]) == (len(files), sum(path.stat().st_size for path in files))


@pytest.mark.parametrize("argv", [(), ("",), ("x", "--dialect", "deepseek"), ("x", "--dialect", ""), ("taken",),
                                  ("taken/mine",), ("no/where",), ("x", "y"), ("taken/mine/x",)], ids=str)
def test_wrong_usage_gives_a_one_line_error_before_any_work(capsys, monkeypatch, tmp_path, argv):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("precious", encoding="utf-8")
    monkeypatch.setattr("engram_ref.oracle.kit.write.kit_cases", lambda *_: pytest.fail("work has started"))
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine"]
    if "--dialect" in argv:
        assert "expected one of deepseek-v4.1-flash, engram-27b" in err and "tilekernels" in err


@pytest.mark.parametrize("place", [".", "../link", "new"])
def test_a_kit_in_an_empty_folder_or_behind_a_link(capsys, few, monkeypatch, tmp_path, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    assert run(capsys, place, "--dialect", "tiny")[0] == 0
    read_kit(tmp_path / "here" / place)


@pytest.mark.parametrize("place", ["new", "empty"])
def test_a_failed_write_leaves_nothing(tmp_path, place):
    """The file system is full after a megabyte."""
    (tmp_path / "empty").mkdir()
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))\n"
            "from tests.kits import few; from engram_ref.cli.main import main\n"
            "few(main, ['kit', sys.argv[1]])")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / place], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
