"""A written kit: its layout, its two forms, its README and its readers in C and Python."""

import hashlib
import json
import re
import shutil
import subprocess

import ml_dtypes
import numpy as np
import pytest

from engram_ref.addressing import addressing_of
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.folder import SUMS
from engram_ref.oracle.kit.cases import concerns, dialect_config, dialects, kit_cases
from engram_ref.oracle.kit.generator import generate
from engram_ref.oracle.kit.plain import DTYPES, path_of, raw_files, shape_text
from engram_ref.oracle.kit.read import read_kit
from engram_ref.oracle.kit.readme import refusals
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import RUNNERS
from engram_ref.oracle.structure import KIT_FIELDS, check_structure
from engram_ref.oracle.vectors import read
from engram_ref.presets import preset, presets
from engram_ref.text.maps import KNOWN_VOCABULARIES, load_map
from tests.kits import few_kit_cases, write_few

SIZES = {word: np.dtype(getattr(ml_dtypes, name, name)).itemsize for name, word in DTYPES.items()}


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """The folder of a small kit."""
    return write_few(tmp_path_factory.mktemp("kit") / "kit")


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def same_arrays(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def flat(part):
    """Yield every array and every other value of decoded arguments."""
    if isinstance(part, dict):
        for name in part:
            yield from flat(part[name])
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from flat(inner)
    else:
        yield part


def test_a_kit_is_read_as_it_was_written(kit):
    expected, found = few_kit_cases(), read_kit(kit).vectors
    for old, new in zip(expected.cases, found.cases, strict=True):
        assert (old.name, old.op, old.dialect, old.flags, old.outputs, old.kind, old.result) == (
            new.name, new.op, new.dialect, new.flags, new.outputs, new.kind, new.result)
        pairs = zip(flat(decode_all(old.arguments, expected.arrays, expected.configurations)),
                    flat(decode_all(new.arguments, found.arrays, found.configurations)), strict=True)
        assert all(same_arrays(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)
        stages = zip([*old.stages, *(s for other in old.accept for s in other.stages)],
                     [*new.stages, *(s for other in new.accept for s in other.stages)], strict=True)
        for a, b in stages:
            assert (a.name, a.tolerance_class) == (b.name, b.tolerance_class) and same_arrays(a.array, b.array)
            assert (b.noise is None) == (a.tolerance_class == "exact")
    assert any(case.accept for case in found.cases)


def test_the_digest_is_that_of_the_list_of_digests(kit):
    listed = dict(reversed(line.split("  ")) for line in (kit / SUMS).read_text(encoding="utf-8").splitlines())
    files = {path.relative_to(kit).as_posix(): path for path in kit.rglob("*") if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert {name: digest for name, digest in digests.items() if name != SUMS} == listed
    assert read_kit(kit).digest == hashlib.sha256((kit / SUMS).read_bytes()).hexdigest()


def test_writing_again_gives_the_same_digest(kit, tmp_path):
    assert read_kit(write_few(tmp_path / "again")).digest == read_kit(kit).digest


def test_the_manifest_satisfies_its_schema(kit):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((kit / "manifest.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(manifest_of(kit))
    for field in KIT_FIELDS:
        for damage in (lambda m, f: m.pop(f), lambda m, f: m.update({f: None})):
            manifest = manifest_of(kit)
            damage(manifest, field)
            assert not validator.is_valid(manifest), field
    for damage in (lambda case: case.pop("outputs"), lambda case: case["stages"][0].update({"class": 1}),
                   lambda case: case.update(name=[])):
        manifest = manifest_of(kit)
        damage(manifest["cases"][0])
        assert not validator.is_valid(manifest)
        with pytest.raises(ValueError, match=r"cases\[0\]"):
            check_structure(manifest, KIT_FIELDS, "file")


def test_every_array_is_stored_once(kit):
    contents = [(path.name.split(".", 1)[1][-40:], path.read_bytes()) for path in (kit / "arrays").rglob("*.bin")]
    kinds = [(re.search(r"\.(\w+\.[\dx]+|\w+\.scalar)\.bin$", f".{name}")[1], data) for name, data in contents]
    assert len(set(kinds)) == len(kinds) > 50


def test_noise_is_rounded_up_to_three_digits(kit):
    found, expected = read_kit(kit).vectors, few_kit_cases()
    for case in found.cases:
        measured = noise_of(case, expected) if any(stage.noise is not None for stage in case.stages) else {}
        for stage in case.stages:
            if stage.noise is not None:
                assert np.allclose(stage.noise, measured[stage.name], rtol=2**-10, atol=0)


def parsed(kit, name):
    """case.txt as [(first word, other words)], with the lines of the files of parameters."""
    return list(lines_of(kit, f"cases/{name}/case.txt"))


def lines_of(kit, path):
    for line in (kit / path).read_text(encoding="utf-8").splitlines():
        word, *rest = line.split(" ")
        assert rest and "" not in rest and len(line) < 8192
        yield word, rest
        if word == "parameters":
            yield from lines_of(kit, rest[0])


def raw(kit, dtype, shape, path):
    """Read one raw array as the README describes, without the package."""
    assert path.endswith(f".{dtype}.{shape}.bin" if dtype != "str" else f".{dtype}.{shape}.txt") and len(path) < 200
    data = (kit / path).read_bytes()
    sizes = [] if shape == "scalar" else [int(n) for n in shape.split("x")]
    if dtype == "str":
        return np.array(data.decode()).reshape(sizes)
    name = {word: name for name, word in DTYPES.items()}[dtype]
    return np.frombuffer(data, getattr(ml_dtypes, name, name)).reshape(sizes)


def test_the_plain_form_has_every_array_of_a_case(kit):
    """Every argument, stage and noise of the JSON form, in the same order."""
    for case in read_kit(kit).vectors.cases:
        lines = parsed(kit, case.name)
        [name], [op] = (rest for word, rest in lines if word in ("name", "op"))
        assert (name, op) == (case.name, case.op)
        assert [rest[0] for word, rest in lines if word == "flag"] == list(case.flags)
        answers = [(word, rest) for word, rest in lines if word in ("stage", "output")]
        stages = [*case.stages, *(stage for other in case.accept for stage in other.stages)]
        for stage, (word, (title, dtype, shape, path, kind)) in zip(stages, answers, strict=True):
            assert word == ("output" if stage.name in case.outputs else "stage")
            assert (title, kind) == (stage.name, stage.tolerance_class)
            assert np.array_equal(raw(kit, dtype, shape, path), stage.array, equal_nan=dtype[0] == "f")
        assert len([rest for word, rest in lines if word == "accept"]) == len(case.accept)


def keys_of(part):
    """Yield the key of every array in the JSON form of arguments."""
    if isinstance(part, dict) and set(part) == {"array"}:
        yield part["array"]
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from keys_of(inner)


def test_the_plain_form_has_every_argument_of_a_case(kit):
    vectors = read_kit(kit).vectors
    for case in vectors.cases:
        lines = parsed(kit, case.name)
        arrays = [raw(kit, *rest[1:]) for word, rest in lines if word in ("argument", "parameter")]
        expected = [vectors.arrays[key] for key in keys_of(case.arguments)]
        assert all(same_arrays(a, b) or np.array_equal(a, b) for a, b in zip(arrays, expected, strict=True))
        named = {rest[0].split(".")[0] for word, rest in lines if word in ("argument", "value", "config", "generated")}
        named |= {"parameters" for word, _ in lines if word == "parameters"}
        named |= {"steps" for word, _ in lines if word == "step"}
        if "generated" not in str(case.arguments):
            assert named == set(case.arguments)


def test_lines_of_each_form(kit):
    text = lambda name: (kit / "cases" / name / "case.txt").read_text(encoding="utf-8")
    assert "\nvalue text \" Caf\\u00e9\\n\"\n" in text("normalise/accents")
    assert "\nvalue form signed_sqrt\n" in text("gate/signed_sqrt-edges")
    assert "\nvalue eps null\n" in text("rms_norm/machine-eps")
    assert "\nvalue chunks 3 2\n" in text("engram/demo-like-chunked")
    assert "\nvalue dtype f64\n" in text("decode/fp32") and "\nargument gathered.0 f64 " in text("decode/fp32")
    assert "\nstep main fork draft\nstep draft feed 1\n" in text("engram_stream/demo-like-fork")
    assert "\naccept without a floor\n" in text("quantise/faint")
    assert re.search(r"\ngenerated gathered.0 u8 1x3x24x256 \d+ 1 0\n", text("decode/deepseek-v4.1-flash"))
    [path] = re.findall(r"\nparameters (.*)\n", text("released_gate/demo"))
    assert re.search(r"\ngenerated key_gain f64 4x1024 \d+ \d+ -6\n", (kit / path).read_text(encoding="utf-8"))
    assert re.search(r"\nargument tokens.0 ", text("join/three"))


def test_constants_equal_those_of_the_presets(kit):
    configurations = json.loads((kit / "constants" / "configurations.json").read_bytes())
    assert list(configurations) == list(presets())
    for name in presets():
        addressing, folder = addressing_of(preset(name)), kit / "constants" / name
        for layer in preset(name).layer_ids:
            for kind in ("multipliers", "primes", "offsets"):
                array = getattr(addressing, kind)[layer]
                [path] = folder.glob(f"layer-{layer}.{kind}.*")
                assert path.name.endswith(f".i64.{len(array)}.bin")
                assert path.read_bytes() == array.astype("<i8").tobytes()
        lines = (folder / "configuration.txt").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(" ", 1) for line in lines)
        assert {key: value for key, value in fields.items() if "." not in key and key != "config"} == {
            field: as_words(value) for field, value in configurations[name]["values"].items()}
    [path] = kit.glob("constants/*/canonical.*")
    assert path.read_bytes() == load_map("deepseek-v4").astype("<i8").tobytes()
    assert "deepseek-v3" in KNOWN_VOCABULARIES and "`deepseek-v3` is the first 128,815 entries" in readme_of(kit)
    assert (load_map("deepseek-v4")[:128_815] == load_map("deepseek-v3")).all()


def as_words(value):
    """A field as README.md describes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def test_paths_suit_every_file_system(kit):
    names = [path.relative_to(kit).as_posix() for path in kit.rglob("*")]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[\w./=~^+-]+", name) and len(name) < 200 for name in names)
    index = (kit / "cases" / "index.txt").read_text(encoding="utf-8").split()
    assert index == [case.name for case in read_kit(kit).vectors.cases]


def test_keys_that_differ_in_case_have_different_paths():
    files, located = raw_files({"x": np.zeros(2), "X": np.ones(2), "a b": np.ones(()), "a-b": np.zeros(())}, "arrays")
    assert len({path.lower() for path in files}) == 4
    assert located["X"] == "f64 2 arrays/X+.f64.2.bin" and files["arrays/X+.f64.2.bin"] == np.ones(2).tobytes()
    assert located["a-b"] == "f64 scalar arrays/a-b+.f64.scalar.bin"


# The readme and its programs

def readme_of(kit):
    return (kit / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_complete(kit):
    text, manifest = readme_of(kit), manifest_of(kit)
    assert "{{" not in text and len(manifest["cases"]) > 10
    for flag in manifest["flags"]:
        assert f"| `{flag}` | {FLAGS[flag]} |" in text
    for group, count in manifest["groups"].items():
        assert f"| `{group}` | {count} |" in text
    words = {word for case in manifest["cases"] for word, _ in parsed(kit, case["name"])}
    assert words <= set(re.findall(r"^\| `(\w+) [A-Z]", text, re.M)), "a line that the grammar lacks"
    for op, rule in refusals().items():
        assert f"| `{op}` | {rule} |" in text
    for op in {case["op"] for case in manifest["cases"]}:
        assert f"## {op}\n" in (kit / "specification" / "ops.md").read_text(encoding="utf-8")
    special = set(RUNNERS) - {name for name in RUNNERS if name.endswith("_stream")}
    assert special == set(re.findall(r"^\| `(\w+)` \|", text.split("Other ops that are not plain functions:")[1]
                                     .split("##")[0], re.M))
    nulls = {key for path in kit.glob("con*/**/con*.txt") for key, _, value in
             (line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines()) if value == "null"}
    assert {key.split(".")[-1] for key in nulls} <= set(re.findall(r"`(\w+)`", text.split("`null` means:")[1][:900]))


def refused_addressing(given):
    config, ids = given["config"], given["canonical_ids"]
    history = np.full((1, 2), -1) if given["history"] is None else given["history"]
    size, lowest = config.canonical_size, -1 if config.dead_barrier else 0
    inner = not config.dead_barrier and ((history[:, 1:] == -1) & (history[:, :-1] != -1)).any()
    return ((ids < lowest) | (ids >= size)).any() or ((history < -1) | (history >= size)).any() or inner


def refused_rows(given):
    [layer] = given["config"].layer_ids
    primes = addressing_of(given["config"]).primes[layer]
    return ((given["rows"] < 0) | (given["rows"] >= primes)).any()


REFUSED = {"addressing": (refused_addressing, "outside [0, canonical_size)", "-1 after an id"),
           "engram": (refused_rows, "below the column's prime"),
           "forward": (lambda given: ((given["ids"] < 0) | (given["ids"] >= given["config"].backbone.vocab_size)).any(),
                       "outside [0, vocab_size)")}
"""Op -> whether it refuses its arguments, and words of the rule in the README."""


def test_the_rules_of_what_to_refuse(whole):
    """The ops of the section are those of invalid cases, and each rule refuses these and no other case."""
    section = refusals()
    assert set(section) == {*REFUSED, "addressing_stream"}
    for case in whole.cases:
        if case.op in REFUSED:
            refused, *rule = REFUSED[case.op]
            given = decode_all(case.arguments, whole.arrays, whole.configurations)
            assert refused(given) == (case.result == "invalid"), case.name
            assert all(words in section[case.op] for words in rule)
        assert case.op in REFUSED or case.result != "invalid"


@pytest.fixture(scope="module")
def compiler():
    path = shutil.which("cc") or shutil.which("gcc")
    if path is None:
        pytest.skip("no C compiler")
    return path


def compiled(compiler, kit, folder, source):
    """Compile a program with kit.h, which must not give a warning, and return its path."""
    (folder / "port.c").write_text(source, encoding="utf-8")
    command = [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-fsanitize=address,undefined",
               "-fno-sanitize-recover=all", "-I", kit, "-o", "port", "port.c", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return folder / "port"


def blocks_of(kit, language):
    return re.findall(rf"```{language}\n(.*?)```", readme_of(kit), re.S)


def test_the_c_program_of_the_readme_answers_silu(kit, compiler, tmp_path):
    example, _ = blocks_of(kit, "c")
    subprocess.run([compiled(compiler, kit, tmp_path, example), kit, tmp_path / "results"], check=True)
    [case] = [case for case in read_kit(kit).vectors.cases if case.op == "silu"]
    found = np.fromfile(tmp_path / "results" / case.name / f"output.f64.{shape_text(case.stages[0].array.shape)}.bin")
    assert np.allclose(found, case.stages[0].array, rtol=1e-14, atol=0, equal_nan=True)
    other = [f"{case.op}\n" for case in read_kit(kit).vectors.cases if case.op != "silu"]
    assert (tmp_path / "results" / "unsupported").read_text(encoding="utf-8") == "".join(other)


PRINT = """
#include "kit.h"
int main(int count, char **argument) {
    for (int c = 2; c < count; c++) {
        char file[512];
        kit = argument[1], lines = 0;
        snprintf(file, sizeof file, "cases/%s/case.txt", argument[c]), read_lines(file, "");
        for (Line *l = line; l < line + lines; l++) {
            if (!strcmp(l->word, "field")) continue;
            printf("%s %s", l->word, l->name);
            if (!strstr("argument parameter generated stage output", l->word) || !strncmp(l->rest, "str", 3)) {
                printf("%s%s\\n", *l->rest ? " " : "", l->rest);
                continue;
            }
            uint64_t sum = 0;
            load(l);
            for (long k = 0; k < l->size; k++) {
                double element = l->f[k] != l->f[k] && *l->dtype != 'i' ? -1 : l->f[k];
                uint64_t bits;
                memcpy(&bits, &element, 8), sum += (k % 251 + 1) * (bits >> 32 ^ bits);
            }
            printf(" %s", l->dtype);
            for (int a = 0; a < l->axes; a++) printf(" %ld", l->shape[a]);
            printf(" %llu\\n", (unsigned long long)sum);
        }
    }
    return 0;
}
"""


def checksum(array):
    """The checksum that the program prints."""
    wide = array.astype(np.float64) if array.dtype.kind not in "iub" else array.astype(np.int64)
    bits = np.where(np.isnan(wide), -1, wide).view(np.uint64) if wide.dtype.kind == "f" else wide.view(np.uint64)
    return str(sum(int(n) * (k % 251 + 1) for k, n in enumerate(bits.ravel() >> 32 ^ bits.ravel())) % 2**64)


def test_the_c_reader_reads_every_case(kit, compiler, tmp_path):
    """The program prints every line, and dtype, shape and checksum of every array."""
    names = [case.name for case in read_kit(kit).vectors.cases]
    port = compiled(compiler, kit, tmp_path, PRINT)
    found = subprocess.run([port, kit, *names], check=True, capture_output=True, text=True).stdout.splitlines()
    expected = []
    for name in names:
        for word, (title, *rest) in parsed(kit, name):
            if word in ("argument", "parameter", "stage", "output", "generated") and rest[0] != "str":
                names_of = {short: name for name, short in DTYPES.items()}
                array = raw(kit, *rest[:3]) if word != "generated" else generate(
                    names_of[rest[0]], [int(n) for n in rest[1].split("x")], *map(int, rest[2:5]),
                    [int(n) for n in rest[5:]] or None)
                rest = [rest[0], *map(str, array.shape), checksum(array)]
            expected.append(" ".join([word, title, *rest]))
    assert found == expected and len(expected) > 100


def test_a_program_finds_values_and_fields_by_their_names_alone(whole):
    """No case has an argument with the name of a field of its configuration, which `text` would hide."""
    for case in whole.cases:
        fields = {name for part in case.arguments.values() if isinstance(part, dict) and "configuration" in part
                  for name in vars(whole.configurations[part["configuration"]])}
        values = {name for name, part in case.arguments.items() if not isinstance(part, dict)}
        assert not values & fields, case.name
        assert sum(isinstance(part, dict) and "configuration" in part for part in case.arguments.values()) < 2


def test_the_python_program_of_the_readme_answers_silu(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KIT").symlink_to(kit)
    [block] = blocks_of(kit, "python")
    exec(compile(block, "README.md", "exec"), {})
    assert "engram_ref" not in block
    [case] = [case for case in read_kit(kit).vectors.cases if case.op == "silu"]
    found = np.load(tmp_path / "RESULTS" / case.name / "output.npy")
    assert np.allclose(found, case.stages[0].array, rtol=1e-14, atol=0, equal_nan=True)


# Dialects

@pytest.fixture(scope="module")
def whole():
    """The cases of a whole kit, without noise."""
    return kit_cases(read())


def cases_of(name, whole):
    return [case for case in whole.cases if concerns(case, whole, dialect_config(name))]


@pytest.mark.parametrize("name", dialects())
def test_a_dialect_has_the_cases_that_its_port_can_pass(name, whole):
    config, cases = dialect_config(name), cases_of(name, whole)
    ops = {case.op for case in cases}
    assert 250 < len(cases) < len(whole.cases) and {"mix", "table_rows", "linear", "mla", "moe"} <= ops
    assert {"short_conv", "conv_silu", "next_taps"} <= ops if config.conv_kernel else "short_conv" not in ops
    assert ({"quantise", "requantise"} <= ops) == (config.rounding == "fp8_bf16")
    assert ("splitmix64_multipliers" in ops) == (config.multiplier_generator == "splitmix64")
    assert {case.arguments["form"] for case in cases if case.op == "gate"} == {config.gate_form}
    assert {case.dialect for case in cases} & set(presets()) <= {config.name}
    assert "engram" in ops and ("gather_decode" in ops or config.rounding != "none")
    for flag, allowed in (("dead", config.dead_barrier), ("eos", config.eos_id is not None)):
        marked = [case for case in cases if flag in case.flags and "parameters" not in case.arguments]
        assert bool(marked) == allowed


def test_a_dialect_has_no_case_of_another(whole):
    by_dialect = {name: {case.name for case in cases_of(name, whole)} for name in dialects()}
    assert by_dialect["paper"] == by_dialect["engram-27b"]
    assert "engram/paper-like-batch" in by_dialect["paper"] and "engram/demo-like-batch" not in by_dialect["paper"]
    assert "engram/v4.1-rounded-4" in by_dialect["deepseek-v4.1-flash"]
    assert not any(name.startswith("engram/v4.1-like-unrounded") for name in by_dialect["deepseek-v4.1-flash"])
    assert "addressing/demo-layer-1" in by_dialect["demo"] - by_dialect["paper"]
    for name in ("deepseek-v4.1-flash", "engram-27b", "demo", "qwen4exp-ple"):
        assert f"released_gate/{name}" in by_dialect[name]
        kinds = {case.kind for case in cases_of(name, whole) if case.op in ("engram", "engram_residual", "gate")}
        assert {"plain", "solved"} <= kinds
        assert any(case.kind == "schedules" and case.op == "addressing_stream" for case in cases_of(name, whole))


def test_every_array_and_configuration_of_a_case_exists(whole):
    for case in whole.cases:
        if case.kind != "released":                         # these are generated, which takes a second
            decode_all(case.arguments, whole.arrays, whole.configurations)
    assert {case.kind for case in whole.cases} == {"plain", "solved", "schedules", "released", "gradients"}
    names = [case.name for case in whole.cases]
    assert [name for name in names if path_of(name) != name or name.count("/") != 1 or len(name) > 120] == []
    assert len({name.lower() for name in names}) == len(names)


def test_a_kit_of_a_dialect_has_only_its_constants_and_documents(tmp_path):
    v41 = write_few(tmp_path / "v41", "deepseek-v4.1-flash")
    assert {path.name for path in (v41 / "constants").iterdir()} == {"configurations.json", "deepseek-v4.1-flash",
                                                                   "deepseek-v4"}
    assert {path.name for path in (v41 / "specification").iterdir()} == {"v4.1.md", "backbone.md", "files.md", "ops.md"}
    assert read_kit(v41).dialect == "deepseek-v4.1-flash" and "the dialect `deepseek-v4.1-flash`" in readme_of(v41)
    qwen = write_few(tmp_path / "qwen", "qwen4exp-ple")
    assert {path.name for path in (qwen / "constants").iterdir()} == {"configurations.json", "qwen4exp-ple"}
    assert "qwen.md" in {path.name for path in (qwen / "specification").iterdir()}
