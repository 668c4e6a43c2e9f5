"""Damage valid files of every format and read them: only exceptions of `invdiff.errors` may come out.

    python benchmarks/fuzz_readers.py --cases 10000 --json benchmarks/results/fuzz_readers.json

Files are flipped, cut, shuffled, spliced, and given absurd lengths; some become empty, or plain text under their name.
Each batch of cases runs in a child process with limited memory: one that dies (a crash inside a C library) counts as
escaped with the case that it died of, one that says nothing for a while as a hang. Case i is the same in every run.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import os
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a forked child would wait for ever for the threads of its parent

import numpy as np
import record
from fuzz_corpus import Case, corpus, gzipped
from tqdm import tqdm

from invdiff.errors import InvdiffError

_MUCH = 300  # MB that no file of some kB may need
_TEXT = b"This file holds words where numbers were expected.\n" * 4
_EXTREMES = (0, 1, -1, 127, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
_TOKENS = (b"nan", b"-1", b"1e999", b"", b"0", b"99999999999999999999", b"\xff\xfe", b"x", b"-0.0", b"1" * 5000)


def damaged(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """One to three random changes."""
    if rng.random() < 0.01:
        return b"" if rng.random() < 0.5 else _TEXT
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzipped(damaged(gzip.decompress(data), rng, other))
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        _CHANGES[int(rng.integers(len(_CHANGES)))](changed, rng, other)
    return bytes(changed)


def _place(size: int, rng: np.random.Generator) -> int:
    """Anywhere, but the beginning more often: headers stand there."""
    return int(rng.integers(min(size, 2048) if rng.random() < 0.5 else max(size, 1))) if size else 0


def _flip(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    for _ in range(int(rng.integers(1, 9)) if data else 0):
        data[_place(len(data), rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at, n = _place(len(data), rng), int(rng.integers(1, 17))
    data[at : at + n] = rng.integers(0, 256, len(data[at : at + n]), np.uint8).tobytes()


def _length(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    """An extreme number in place of another, of any width and either order."""
    at, width = _place(len(data), rng), int(rng.choice([1, 2, 4, 8]))
    value = _EXTREMES[int(rng.integers(len(_EXTREMES)))] % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.8 else "big")[
        : len(data[at : at + width])
    ]


def _cut(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _drop(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at = _place(len(data), rng)
    del data[at : at + int(rng.integers(1, 65))]


def _insert(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at = _place(len(data), rng)
    data[at:at] = rng.integers(0, 256, int(rng.integers(1, 65)), np.uint8).tobytes()


def _swap(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    n = int(rng.integers(1, 257))
    a, b = sorted((_place(len(data), rng), _place(len(data), rng)))
    if a + n <= b and b + n <= len(data):
        data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]


def _zero(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at, n = _place(len(data), rng), int(rng.integers(1, 513))
    data[at : at + n] = bytes(len(data[at : at + n]))


def _splice(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at, n = _place(len(data), rng), int(rng.integers(1, 257))
    start = _place(len(other), rng)
    data[at : at + n] = other[start : start + n]


def _word(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    """Of text, one field for an odd one."""
    at = _place(len(data), rng)
    end = at
    while end < len(data) and end < at + 40 and data[end] not in b" ,\n=<>:":
        end += 1
    data[at:end] = _TOKENS[int(rng.integers(len(_TOKENS)))]


def _line(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    lines = data[:4096].split(b"\n")
    i, j = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    if rng.random() < 0.5:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines.insert(i, lines[j])
    data[:4096] = b"\n".join(lines)


_CHANGES = (_flip, _flip, _overwrite, _length, _length, _cut, _drop, _insert, _swap, _zero, _splice, _word, _line)


def write_case(case: Case, number: int, seed: int, folder: Path, others: list[bytes]) -> Path:
    """A damaged copy of a case's file, or of one file of its folder, with what stands beside it."""
    rng = np.random.default_rng([seed, number])
    _, source, _ = case
    other = others[int(rng.integers(len(others)))]
    if source.is_dir() or source.name == "DICOMDIR":
        root = source if source.is_dir() else source.parent
        shutil.copytree(root, folder / root.name)
        files = sorted(p for p in (folder / root.name).rglob("*") if p.is_file())
        victim = (
            files[int(rng.integers(len(files)))] if source.is_dir() or rng.random() < 0.3 else folder / "media/DICOMDIR"
        )
        if rng.random() < 0.05:
            victim.unlink()
        else:
            victim.write_bytes(damaged(victim.read_bytes(), rng, other))
        return folder / root.name if source.is_dir() else folder / root.name / source.name
    for twin in source.parent.glob(f"{source.stem}.*") if source.suffix in (".cfl", ".hdr") else ():
        shutil.copy(twin, folder)
    path = folder / source.name
    path.write_bytes(damaged(source.read_bytes(), rng, other))
    return path


def _peak() -> int:
    """The most memory that this process had since it was last asked to forget, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def child(batch: list[int], cases: list[Case], seed: int, memory: int, folder: Path, out: int) -> None:
    """Read damaged files one by one, and say of each how it ended; runs in a process of its own."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # Linux
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    others = [path.read_bytes() for _, path, _ in cases if path.is_file()]
    for number in batch:
        place = folder / str(number)
        place.mkdir()
        case = cases[number % len(cases)]
        path = write_case(case, number, seed, place, others)
        os.write(out, b"started\n")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
        before = _peak()
        end: dict[str, Any] = {"end": "accepted"}
        try:
            case[2](path)
        except InvdiffError as error:
            end = {"end": "refused", "text": str(error)[:200]}
        except BaseException as error:
            where = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-4:]
            end = {"end": "escaped", "text": f"{type(error).__name__}: {error}"[:300], "where": where}
        end["mb"] = _peak() - before
        if end["end"] != "escaped" and end["mb"] < _MUCH:
            shutil.rmtree(place, ignore_errors=True)
        os.write(out, json.dumps(end).encode() + b"\n")


def run_batch(
    batch: list[int], cases: list[Case], seed: int, memory: int, timeout: float, folder: Path
) -> list[dict[str, Any]]:
    """How the cases of a batch ended, as far as the child came: a crash or a hang ends it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            child(batch, cases, seed, memory, folder, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    text, hung = b"", False
    while True:
        ready, _, _ = select.select([reading], [], [], timeout)
        if not ready:
            hung = True
            os.kill(pid, signal.SIGKILL)
            break
        block = os.read(reading, 1 << 16)
        if not block:
            break
        text += block
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    ends = [json.loads(line) for line in text.splitlines() if line.startswith(b"{")]
    if hung:
        ends.append({"end": "hangs", "text": f"no answer in {timeout} s"})
    elif len(ends) < len(batch):
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        ends.append({"end": "escaped", "text": f"the process died: signal {number}"})
    return ends


def main() -> None:
    """Parse the options, and clean up behind `run`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=100, help="cases in one child process")
    parser.add_argument("--memory", type=int, default=2048, help="MB that a child may take beyond what it starts with")
    parser.add_argument("--timeout", type=float, default=60, help="seconds without an answer that make a hang")
    parser.add_argument("--only", help="formats whose name begins so")
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that escaped or hang")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(options: argparse.Namespace, folder: Path) -> None:
    """Damage, read and count; prints what escapes as it comes."""
    (folder / "valid").mkdir()
    (folder / "cases").mkdir()
    cases = [c for c in corpus(folder / "valid") if not options.only or c[0].startswith(options.only)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, path, reader in cases:
            reader(path)  # all that is damaged below is valid before
    counts = {name: collections.Counter[str]() for name, _, _ in cases}
    found, peak, begun = [], 0, time.perf_counter()
    next_case, content = 0, dict[str, Any]()
    with tqdm(total=options.cases, unit="case") as bar:
        while next_case < options.cases:
            batch = list(range(next_case, min(next_case + options.batch, options.cases)))
            memory = options.memory << 20
            ends = run_batch(batch, cases, options.seed, memory, options.timeout, folder / "cases")
            for number, end in zip(batch, ends, strict=False):
                name = cases[number % len(cases)][0]
                counts[name][end["end"]] += 1
                peak = max(peak, end.get("mb", 0))
                if end["end"] in ("escaped", "hangs") or end["mb"] >= _MUCH:
                    found.append({"case": number, "format": name, **end})
                    tqdm.write(json.dumps(found[-1]))
                    if options.keep and (folder / "cases" / str(number)).exists():
                        shutil.copytree(folder / "cases" / str(number), options.keep / str(number), dirs_exist_ok=True)
            next_case += len(ends)
            bar.update(len(ends))
            shutil.rmtree(folder / "cases")
            (folder / "cases").mkdir()
            total = {k: sum(c[k] for c in counts.values()) for k in ("refused", "accepted", "escaped", "hangs")}
            content = {
                "cases": next_case,
                **total,
                "seed": options.seed,
                "seconds": round(time.perf_counter() - begun, 1),
                "most_memory_of_a_case_mb": peak,
                "formats": {name: dict(sorted(c.items())) for name, c in counts.items()},
                "found": found,
            }
            record.write(options.json, content)
    print(json.dumps({k: content[k] for k in ("cases", *total)}))


if __name__ == "__main__":
    main()
