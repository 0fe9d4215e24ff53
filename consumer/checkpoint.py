"""Progress on disk: everything learned and the offsets it was learned up to, as one atomic unit.

    <folder>/lock                                    held while a worker runs
    <folder>/epoch                                   number of the newest run
    <folder>/checkpoints/step-000000000912-epoch-000003/
        state.safetensors                            weights, vocabularies, user state, newest event ids, last lists
        manifest.json                                step, epoch, offsets, counts, settings, SHA-256 of all of it

A checkpoint is written to a temporary folder, synced, renamed, and its parent synced: it is whole or absent. One that
is dropped loses its name first, so that a half-deleted one is never taken for a damaged one.
Nothing here is ever unpickled. This file knows neither Kafka nor the model: it keeps tensors by name.
"""

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from consumer import durable
from model.state import as_bytes

FORMAT: Final = 2
STATE_FILE: Final = "state.safetensors"
MANIFEST_FILE: Final = "manifest.json"
MODEL_PREFIX: Final = "model."
"""Begins the names of the tensors that are the model's, of which `Manifest.state_sha256` is."""
UNFINISHED_PREFIX: Final = "unfinished-"
DROPPED_PREFIX: Final = "dropped-"
_SMALL_BYTES: Final = 1 << 16
_NAME: Final = re.compile(r"step-(\d+)-epoch-(\d+)")

_DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

log = structlog.get_logger()


class CheckpointError(Exception):
    """Saved progress cannot be used, or not be saved; the message says what to do."""


class FolderInUse(CheckpointError):
    """Another worker holds the folder."""


class CheckpointDamaged(CheckpointError):
    """A checkpoint is torn or was altered."""


class Counts(msgspec.Struct, frozen=True):
    """What became of the records since the beginning of the topic: each is exactly one of these."""

    learned: int = 0
    duplicates: int = 0
    dead_letters: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself."""

    format: int = FORMAT
    step: int
    """Batches taken from the topic so far."""
    epoch: int
    model_version: int
    """The last step that the model learned something in."""
    offsets: dict[str, dict[int, int]]
    """Next offset to read, by topic and partition: everything below it is inside."""
    counts: Counts
    settings: dict[str, Any]
    state_sha256: str
    """Digest of the model's state, see `model.state`."""
    files: dict[str, str]
    """SHA-256 of each file beside the manifest."""
    topic_ids: dict[str, str] = {}
    """Ids of the topics that the offsets are of, where the broker told them."""

    def summary(self) -> dict[str, Any]:
        """What `run` and `checkpoint show` print."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "model_version": self.model_version,
            "learned": self.counts.learned,
            "duplicates": self.counts.duplicates,
            "dead_letters": self.counts.dead_letters,
            "offsets": {topic: dict(sorted(offsets.items())) for topic, offsets in self.offsets.items()},
            "state_sha256": self.state_sha256,
        }


@dataclass(frozen=True)
class Snapshot:
    """Progress, as it goes to disk and comes back."""

    step: int
    model_version: int
    offsets: dict[str, dict[int, int]]
    counts: Counts
    settings: dict[str, Any]
    state_sha256: str
    tensors: dict[str, Tensor] = field(repr=False)
    topic_ids: dict[str, str] = field(default_factory=dict)


class Prepared(NamedTuple):
    """A checkpoint that is on the disk, but under a name that is none of a checkpoint."""

    path: Path
    """What it will be."""
    unfinished: Path
    manifest: Manifest


class CheckpointStore:
    """The checkpoints of one folder, newest first; `acquire` before saving."""

    def __init__(self, folder: Path, kept: int = 3, *, first_epoch: int = 1) -> None:
        """`first_epoch` is the lowest that may be given: that of a folder that is new, was lost, or is an old copy.

        It must be above every epoch on the topic, or running readers would take the lists for old ones: the seconds
        since 1970 are, since restarts come less often than once a second.
        """
        self.folder = folder
        self.kept = kept
        self._first_epoch = first_epoch
        self.epoch = 0
        self._checkpoints = folder / "checkpoints"
        self._lock: IO[str] | None = None
        self._damaged: set[Path] = set()

    def acquire(self) -> int:
        """Take the folder for this process and return the run's epoch, higher than any before.

        FolderInUse where another worker holds it. The lock goes with the process, however that ends.
        """
        durable.make_folder(self._checkpoints)
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_leftovers()  # before anything is written: they may be what fills the disk
            # What the folder says may be a backup's, and runs since then have left higher ones on the topic.
            self.epoch = max(self._highest_epoch() + 1, self._first_epoch)
            durable.write_file(self.folder / "epoch.new", str(self.epoch).encode())
            durable.rename(self.folder / "epoch.new", self.folder / "epoch")
        except BlockingIOError:
            lock.close()
            raise FolderInUse(
                f"{self.folder} is held by another worker; stop it, or give this one a folder of its own "
                "with HEADRACE_CHECKPOINT_DIR"
            ) from None
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        return self.epoch

    def release(self) -> None:
        """Let another worker have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def save(self, snapshot: Snapshot) -> Manifest:
        """Write a checkpoint durably, then drop all but the newest `kept`; a damaged one is not counted as kept.

        OSError (a full disk, say) leaves the older ones as they were and nothing of the new one.
        """
        return self.keep(self.prepare(snapshot))

    def prepare(self, snapshot: Snapshot) -> "Prepared":
        """The first half of `save`: all of it is on the disk, and no checkpoint yet. Raises what `save` raises."""
        if self._lock is None:
            raise CheckpointError(f"{self.folder} was not acquired; nothing was saved")
        path = self._checkpoints / f"step-{snapshot.step:012d}-epoch-{self.epoch:06d}"
        unfinished = path.with_name(UNFINISHED_PREFIX + path.name)
        try:
            return Prepared(path, unfinished, self._write(unfinished, snapshot))
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def keep(self, prepared: "Prepared") -> Manifest:
        """The second half: it gets its name, and by that becomes the newest checkpoint."""
        try:
            if prepared.path.exists():  # an earlier try of this run, which failed after the new name was given
                self._drop(prepared.path)
            durable.rename(prepared.unfinished, prepared.path)
        except OSError:
            self.discard(prepared)
            raise
        self.drop_old()
        return prepared.manifest

    def discard(self, prepared: "Prepared") -> None:
        """Give up what was prepared; what cannot be removed now is removed by the next start."""
        shutil.rmtree(prepared.unfinished, ignore_errors=True)

    def drop_old(self) -> None:
        """Drop all but the newest `kept`; of damaged ones that `newest` came by none counts."""
        whole = 0
        for path in list(self.paths()):
            if whole >= self.kept:
                self._drop(path)
            whole += path not in self._damaged

    def paths(self) -> Iterator[Path]:
        """The checkpoints' folders, newest first: by epoch, then step, since a newer run may have gone back."""
        if not self._checkpoints.is_dir():
            return
        found = [path for path in self._checkpoints.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
        yield from sorted(found, key=_place, reverse=True)

    def newest(self) -> tuple[Manifest, dict[str, Tensor]] | None:
        """The newest checkpoint that verifies, None where there is none at all.

        A damaged one is reported and the one before it used. CheckpointDamaged when all are damaged: starting
        anew would lose what was learned without saying so.
        """
        damages = []
        for path in self.paths():
            try:
                return read_checkpoint(path)
            except CheckpointDamaged as damage:
                if not path.exists():
                    return self.newest()  # the worker that holds the folder has dropped it, for a newer one
                damages.append(str(damage))
                self._damaged.add(path)
                log.error("checkpoint is damaged, trying the one before it", path=str(path), why=str(damage))
        if damages:
            raise CheckpointDamaged(
                f"none of the {len(damages)} checkpoints in {self._checkpoints} verifies: {'; '.join(damages)}. "
                "Put a good copy there, or move the folder away and start again with --reset earliest, say"
            )
        return None

    def newest_manifest(self) -> Manifest | None:
        """What the newest one that can be read says of itself, without a look at the rest of it."""
        for path in self.paths():
            with contextlib.suppress(CheckpointError):
                return read_manifest(path)
        return None

    def oldest_step(self) -> int:
        """The step of the oldest checkpoint that is kept, 0 where there is none."""
        return min((_place(path)[1] for path in self.paths()), default=0)

    def _write(self, folder: Path, snapshot: Snapshot) -> Manifest:
        folder.mkdir()
        digest = hashlib.sha256()
        durable.write_parts(folder / STATE_FILE, _hashed(_gathered(_safetensors(snapshot.tensors)), digest))
        manifest = Manifest(
            step=snapshot.step,
            epoch=self.epoch,
            model_version=snapshot.model_version,
            offsets=snapshot.offsets,
            counts=snapshot.counts,
            settings=snapshot.settings,
            state_sha256=snapshot.state_sha256,
            files={STATE_FILE: digest.hexdigest()},
            topic_ids=snapshot.topic_ids,
        )
        durable.write_file(folder / MANIFEST_FILE, _sealed(msgspec.to_builtins(manifest, str_keys=True)))
        durable.sync_folder(folder)
        return manifest

    def _drop(self, path: Path) -> None:
        dropped = path.with_name(DROPPED_PREFIX + path.name)
        try:
            durable.rename(path, dropped)
            shutil.rmtree(dropped)
        except OSError as error:  # costs space, nothing else; the next start tries again
            log.warning("an old checkpoint could not be removed", path=str(path), why=str(error))

    def _remove_leftovers(self) -> None:
        for prefix in (UNFINISHED_PREFIX, DROPPED_PREFIX):
            for leftover in self._checkpoints.glob(f"{prefix}*"):
                shutil.rmtree(leftover)

    def _highest_epoch(self) -> int:
        last = 0
        try:
            last = int((self.folder / "epoch").read_text())
        except FileNotFoundError:
            pass
        except ValueError as error:
            log.error("the epoch file is damaged, going by the checkpoints", path=str(self.folder), why=str(error))
        return max([last, *(_place(path)[0] for path in self.paths())])


def read_checkpoint(path: Path) -> tuple[Manifest, dict[str, Tensor]]:
    """The manifest and the tensors of one checkpoint, every byte checked; CheckpointDamaged says what is wrong."""
    manifest = read_manifest(path)
    file = path / STATE_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointDamaged(f"{file}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest.files.get(STATE_FILE):
        raise CheckpointDamaged(f"{file}: its SHA-256 is not the one in the manifest")
    try:
        return manifest, load_tensors(data)
    except SafetensorError as error:
        raise CheckpointDamaged(f"{file}: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """The manifest of one checkpoint, every byte checked.

    CheckpointDamaged says what is wrong; CheckpointError where another version of Headrace wrote it.
    """
    file = path / MANIFEST_FILE
    try:
        data = file.read_bytes()
        body = json.loads(data)["manifest"]
        if data != _sealed(body):
            raise CheckpointDamaged(f"{file}: its contents do not match its own SHA-256")
        if body["format"] != FORMAT:
            raise CheckpointError(
                f"{file}: format {body['format']!r}; this version of Headrace reads format {FORMAT}. Run the version "
                "that wrote it, or give this one a folder of its own with HEADRACE_CHECKPOINT_DIR"
            )
        return msgspec.convert(body, Manifest, str_keys=True)
    except OSError as error:
        raise CheckpointDamaged(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointDamaged(f"{file}: {error}") from error


def _safetensors(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """A file of the safetensors format, in parts: 8 bytes for the length of a JSON header, the header, the tensors.

    `safetensors.torch.save` makes the same in one piece, with several copies, and lets no other thread run meanwhile.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps all of them aligned
    header: dict[str, Any] = {}
    end = 0
    for name in ordered:
        value = tensors[name]
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": _DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in ordered:
        yield as_bytes(tensors[name])


def _gathered(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes, small parts joined: a state has a hundred tensors, and few of them are large."""
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < _SMALL_BYTES:
            small.append(part)
            continue
        yield b"".join(small)
        small.clear()
        yield part
    yield b"".join(small)


def _hashed(parts: Iterable[bytes | memoryview], digest: "hashlib._Hash") -> Iterator[bytes | memoryview]:
    """The same parts; the digest has taken in those that were handed out."""
    for part in parts:
        digest.update(part)
        yield part


def _sealed(body: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest's file. There is one way to write it, so that any other byte in it is an alteration."""
    compact = json.dumps(body, sort_keys=True, separators=(",", ":"))
    seal = hashlib.sha256(compact.encode()).hexdigest()
    return json.dumps({"sha256": seal, "manifest": body}, indent=1, sort_keys=True).encode()


def _place(path: Path) -> tuple[int, int]:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    return int(name[2]), int(name[1])
