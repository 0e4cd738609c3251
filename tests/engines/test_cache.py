"""The cache of built engines: whole or not at all, built once, ours alone. Processes here are real ones."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from engines import EngineBuildError
from engines.cache import CacheKey, EngineCache
from engines.errors import CacheUnusable

KEY = CacheKey("restore", {"model_sha256": "ab", "gpu": "none", "shapes": {"face": [1, 256, 256, 3]}})
WAIT_S = 60
posix = pytest.mark.skipif(os.name != "posix", reason="links, owners and signals of POSIX")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def never() -> tuple[bytes, dict[str, str]]:
    raise AssertionError("it was there already")


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own with the cache of folder argv[1]."""
    head = "import os, sys\nfrom pathlib import Path\nfrom engines.cache import EngineCache\n"
    head += "from tests.engines.test_cache import KEY\ncache = EngineCache(Path(sys.argv[1]))\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_gives_back_what_was_built_and_says_what_it_is(cache: EngineCache) -> None:
    assert cache.read(KEY) is None
    assert cache.obtain(KEY, lambda: (b"plan", {"build_s": 2})) == b"plan"
    assert cache.obtain(KEY, never) == b"plan"

    told = json.loads(cache.path(KEY, ".json").read_text())
    assert told["facts"] == KEY.facts and told["model"] == "restore"
    (entry,) = cache.entries()
    assert (entry.path, entry.size, entry.notes) == (cache.path(KEY), 4, {"build_s": 2})


def test_anything_else_in_the_key_is_another_engine(cache: EngineCache) -> None:
    others = [
        CacheKey("restore", {**KEY.facts, **change})
        for change in ({"model_sha256": "cd"}, {"gpu": "another"}, {"driver": "13.1"}, {"shapes": {"face": [2]}})
    ]
    assert len({cache.path(key) for key in [KEY, *others]}) == 5
    assert cache.path(CacheKey("../own model.onnx", KEY.facts)).parent == cache.folder


@posix
def test_the_folder_is_the_users_alone(cache: EngineCache) -> None:
    cache.folder.mkdir(mode=0o755)
    cache.write(KEY, b"plan")
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert cache.path(KEY).stat().st_mode & 0o777 == 0o600


def _cut(cache: EngineCache) -> None:
    cache.path(KEY).write_bytes(b"pl")


def _alter(cache: EngineCache) -> None:
    cache.path(KEY).write_bytes(b"plaN")


def _foreign(cache: EngineCache) -> None:
    other = CacheKey("hidden", {})
    cache.write(other, b"another plan")
    cache.path(other).replace(cache.path(KEY))


def _no_words(cache: EngineCache) -> None:
    cache.path(KEY, ".json").unlink()


def _odd_words(cache: EngineCache) -> None:
    cache.path(KEY, ".json").write_text("[]")


def _link(cache: EngineCache) -> None:
    elsewhere = cache.folder.parent / "elsewhere"
    cache.path(KEY).rename(elsewhere)
    cache.path(KEY).symlink_to(elsewhere)


def _another_engines(cache: EngineCache) -> None:
    """Plan and words of another engine, which fit each other."""
    other = CacheKey("hidden", {"model_sha256": "cd"})
    cache.write(other, b"another plan")
    for suffix in (".plan", ".json"):
        cache.path(other, suffix).replace(cache.path(KEY, suffix))


def _folder_as(suffix: str) -> Callable[[EngineCache], None]:
    def harm(cache: EngineCache) -> None:
        cache.path(KEY, suffix).unlink(missing_ok=True)
        (cache.path(KEY, suffix) / "full").mkdir(parents=True)

    harm.__name__ = f"_folder_as_{suffix[1:]}"
    return harm


def _fifo_as(suffix: str) -> Callable[[EngineCache], None]:
    def harm(cache: EngineCache) -> None:
        cache.path(KEY, suffix).unlink(missing_ok=True)
        os.mkfifo(cache.path(KEY, suffix))

    harm.__name__ = f"_fifo_as_{suffix[1:]}"
    return harm


def _deep_words(cache: EngineCache) -> None:
    cache.path(KEY, ".json").write_text("[" * 100_000)


HARMS = [_cut, _alter, _foreign, _no_words, _odd_words, _another_engines, _deep_words]
HARMS += [_folder_as(".plan"), _folder_as(".json")]


@pytest.mark.parametrize(
    "harm",
    [*HARMS, *(pytest.param(harm, marks=posix) for harm in (_link, _fifo_as(".plan"), _fifo_as(".json")))],
    ids=lambda f: f.__name__,
)
def test_what_is_not_whole_and_ours_is_deleted_and_built_again(
    cache: EngineCache, harm: Callable[[EngineCache], None]
) -> None:
    cache.write(KEY, b"plan")
    cache.write_beside(KEY, ".jit", b"compiled")
    harm(cache)

    assert cache.read(KEY) is None
    assert not any(cache.path(KEY, suffix).exists() for suffix in (".plan", ".json", ".jit"))
    assert cache.obtain(KEY, lambda: (b"new", {})) == b"new"
    assert cache.read(KEY) == b"new"


@pytest.mark.parametrize("harm", [_folder_as(".lock"), pytest.param(_fifo_as(".lock"), marks=posix)])
def test_what_is_no_lock_is_replaced_by_one(cache: EngineCache, harm: Callable[[EngineCache], None]) -> None:
    cache._prepare()
    harm(cache)
    assert cache.obtain(KEY, lambda: (b"plan", {})) == b"plan"
    assert cache.path(KEY, ".lock").is_file()


@posix
def test_files_beside_an_engine_are_read_only_where_they_are_files(cache: EngineCache) -> None:
    cache.write(KEY, b"plan")
    cache.write_beside(KEY, ".times", b"[]")
    assert cache.read_beside(KEY, ".times") == b"[]"
    _fifo_as(".times")(cache)
    with pytest.raises(OSError):
        cache.read_beside(KEY, ".times")
    cache.write_beside(KEY, ".times", b"[1]")
    assert cache.read_beside(KEY, ".times") == b"[1]"


def test_a_build_that_fails_leaves_nothing_and_bars_nobody(cache: EngineCache) -> None:
    def fail() -> tuple[bytes, dict[str, str]]:
        raise EngineBuildError("no")

    with pytest.raises(EngineBuildError, match="no"):
        cache.obtain(KEY, fail)
    assert cache.obtain(KEY, lambda: (b"plan", {})) == b"plan"


#: Where the process is killed: while it builds, while it writes, and between the plan and its words.
MOMENTS = {
    "building": "cache.obtain(KEY, lambda: (die(), {}))",
    "writing": "os.fdopen = lambda *a: die(); cache.obtain(KEY, lambda: (b'plan', {}))",
    "half installed": """
        write = cache.write_beside
        cache.write_beside = lambda key, suffix, data: die() if suffix == '.json' else write(key, suffix, data)
        cache.obtain(KEY, lambda: (b'plan', {}))
    """,
    "replacing": """
        write = cache.write_beside
        cache.write_beside = lambda key, suffix, data: die() if suffix == '.json' else write(key, suffix, data)
        cache.write(KEY, b'newer')
    """,
}


@posix
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_a_usable_cache(cache: EngineCache, moment: str) -> None:
    if moment == "replacing":
        cache.write(KEY, b"old")
    die = f"import signal\ndef die():\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    killed = child(die + textwrap.dedent(MOMENTS[moment]), cache.folder)
    killed.communicate(timeout=WAIT_S)
    assert killed.returncode == -signal.SIGKILL

    assert cache.read(KEY) in (None, b"old")
    assert cache.obtain(KEY, lambda: (b"plan", {})) in (b"plan", b"old")
    assert cache.obtain(KEY, never) in (b"plan", b"old")
    assert {path.suffix for path in cache.folder.iterdir()} <= {".plan", ".json", ".lock"} | (
        {".part"} if moment == "replacing" else set()
    )
    cache.clean()
    assert list(cache.folder.iterdir()) == []


def test_two_processes_build_once(cache: EngineCache) -> None:
    """The first is held inside its build until the second is known to wait for the lock."""
    build = """
        def build():
            print("building", flush=True)
            sys.stdin.readline()
            return sys.argv[2].encode(), {}
        def wait_longer():
            print("waiting", flush=True)
            return True
        print(cache.obtain(KEY, build, wait_longer).decode(), flush=True)
    """
    first = child(build, cache.folder, "first")
    assert first.stdout is not None and first.stdout.readline() == "building\n"
    second = child(build, cache.folder, "second")
    assert second.stdout is not None and second.stdout.readline() == "waiting\n"
    told_first, _ = first.communicate("go\n", timeout=WAIT_S)
    told_second, _ = second.communicate("go\n", timeout=WAIT_S)

    assert told_first == "first\n"
    assert "building" not in told_second and told_second.splitlines()[-1] == "first"


def test_waiting_for_another_process_can_be_ended(cache: EngineCache) -> None:
    with cache.locked(KEY), pytest.raises(EngineBuildError, match="cancelled"):
        EngineCache(cache.folder).obtain(KEY, never, go_on=lambda: False)


@posix
@pytest.mark.parametrize("kind", ["read-only", "file", "link", "dangling link"])
def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "engines"
    if kind == "read-only":
        # Root may write in any folder but in those of the kernel.
        folder = Path("/sys/occlufix/engines") if os.geteuid() == 0 else tmp_path / "closed" / "engines"
        if os.geteuid() != 0:
            folder.parent.mkdir(mode=0o500)
    elif kind == "file":
        folder.write_text("")
    else:
        folder.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")

    with pytest.raises(CacheUnusable, match=str(folder)) as unusable:
        EngineCache(folder).obtain(KEY, lambda: (b"plan", {}))

    assert "OCCLUFIX_CACHE_DIR" in unusable.value.hint
    assert not {"restore"} & {path.name.split("-")[0] for path in tmp_path.iterdir()}


@posix
def test_somebody_elses_folder_is_not_used(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(KEY, b"plan")
    monkeypatch.setattr(os, "getuid", lambda: 12345)

    with pytest.raises(CacheUnusable, match="another user"):
        cache.read(KEY)


@posix
def test_a_full_disk_keeps_the_old_engine(cache: EngineCache) -> None:
    """The limit on a file's size stands in for the disk's: the write fails half-way in the same place."""
    cache.write(KEY, b"old")
    script = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        from engines.errors import CacheUnusable
        try:
            cache.write(KEY, b"x" * 100_000)
        except CacheUnusable as error:
            print(error.message, error.hint)
    """
    full = child(script, cache.folder)
    told, _ = full.communicate(timeout=WAIT_S)

    assert os.strerror(errno.EFBIG) in told and "free some space" in told
    assert cache.read(KEY) == b"old"
    assert not list(cache.folder.glob(".*.part"))


def test_cleaning_takes_only_what_is_the_caches(cache: EngineCache) -> None:
    cache.write(KEY, b"plan")
    (cache.folder / "notes.txt").write_text("mine")

    engines, freed = cache.clean()

    assert engines == 1 and freed > 4
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    assert cache.entries() == []


def test_the_place_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path))
    assert EngineCache().folder == tmp_path / "engines"
