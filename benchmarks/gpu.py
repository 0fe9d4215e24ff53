"""`python -m benchmarks.gpu --json`: a step of the learner and top-k alone, on a CPU or a GPU, beside the roofline.

Needs torch, numpy and `model/`; no Kafka. The floor of a piece of work is the larger of its arithmetic over the
device's peak and the bytes it cannot avoid over the bandwidth, no score matrix written. Both peaks are measured here
first (a large matrix product, a large copy), so that the floor is this device's on this day. The last line is one
object; times are medians in milliseconds.

    step, ranked_step   512 events learned, with nobody and with everybody ranked first
    top_k               lists of the users as the worker makes them
    scores_and_best     the part of it on the device by plain torch: scores, filters, the best k
    grouped             the same part without a score matrix (`model.grouped`): by Triton on a GPU, elsewhere by twins
    mm_and_topk         torch.mm and torch.topk alone, no filters

`a_of_b` is the time of a over that of b. `unproven` is the share of users whose list is made from all scores after all.
`--encoder recency` is at width 64, as in the other benchmarks. Nothing of this was run on a GPU yet.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch

from benchmarks.introduction import introduce, steps_of, user_id
from benchmarks.report import emit, processor, short
from benchmarks.stream import Stream
from model.encoders.choice import ENCODERS
from model.grouped import best_by_groups, kernels_for
from model.learner import Learner
from model.settings import LearnerSettings
from model.topk import TopK, best

K, BATCH = 20, 512
COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Peaks:
    """What the device reaches: arithmetic in the type of the learner's parameters, and bytes read or written."""

    flops_per_second: float
    bytes_per_second: float

    def floor_ms(self, flops: float, moved_bytes: float) -> float:
        return 1000 * max(flops / self.flops_per_second, moved_bytes / self.bytes_per_second)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--items", type=_counts, default=(10_000, 50_000, 1_000_000), metavar="N,N")
    parser.add_argument("--users", type=int, default=1024, help="users whose lists are made at once")
    parser.add_argument("--encoder", choices=tuple(ENCODERS), default=LearnerSettings().encoder)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each measurement is repeated")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # as in the worker
    peaks = {"float32": measure_peaks(device, torch.float32, given.seconds)}
    if device.type == "cuda":  # a CPU emulates it, or nearly: no floor to compare with
        peaks["bfloat16"] = measure_peaks(device, torch.bfloat16, given.seconds)
    named: dict[str, Any] = {
        "device": _name(device),
        "torch": torch.__version__,
        "peaks": {
            dtype: {
                "tflops_per_second": round(peak.flops_per_second / 1e12, 4),
                "gigabytes_per_second": round(peak.bytes_per_second / 1e9, 2),
            }
            for dtype, peak in peaks.items()
        },
        "settings": {"k": K, "batch": BATCH, "users": given.users, "encoder": given.encoder, "seconds": given.seconds},
    }
    emit({"benchmark": "peaks", **named}, as_json=given.json)
    summed: dict[str, Any] = {}
    settings = LearnerSettings(encoder=given.encoder, width=64 if given.encoder == "recency" else 0)
    for items in given.items:
        found = measure(items, given.users, settings, device, peaks["float32"], peaks.get("bfloat16"), given.seconds)
        emit({"benchmark": f"{short(items)} items", **found, **named}, as_json=given.json)
        summed[short(items)] = found
        summed[f"users_per_second_{short(items)}_items"] = round(1000 * given.users / found["top_k_ms"], 1)
    emit({"benchmark": "gpu", **summed, **named}, as_json=given.json)


def measure(
    items: int,
    users: int,
    settings: LearnerSettings,
    device: torch.device,
    peak: Peaks,
    narrow_peak: Peaks | None,
    seconds: float,
) -> dict[str, float]:
    """Times and floors of one catalogue. `_bf16_floor` is what half the bytes and the tensor cores would allow."""
    stream = Stream(events=64 * BATCH, users=max(4 * users, 4096), items=items)
    learner = Learner(settings, device=device)
    introduce(learner, stream)
    batches = cycle(list(steps_of(stream, BATCH)))
    rows_U = learner.users.find([user_id(user) for user in range(users)])
    top_k, width = TopK(learner, K), learner.settings.width
    times: dict[str, float] = {}
    for name, share in (("step", 0.0), ("ranked_step", 1.0)):
        learner.settings = replace(learner.settings, ranked_share=share)
        times[f"{name}_ms"] = _median_ms(lambda: learner.test_then_learn(next(batches)), device, seconds)
        negatives, window = learner.settings.ranking.negatives, learner.settings.window
        scored = negatives + (items if share else 0)
        rows = round(BATCH * (1 + window + learner.settings.ranking.drawn_an_event))
        # Forward once, backward twice as much; the rows that move are read and written.
        flops = 2 * BATCH * width * (3 * negatives + 3 * window + (scored - negatives))
        times[f"{name}_floor_ms"] = peak.floor_ms(flops, 4 * width * (2 * rows + (items if share else 0)))
    times["top_k_ms"] = _median_ms(lambda: top_k(rows_U), device, seconds)
    # Some users at a time, as top-k itself does: all at once would not fit for a million items.
    size = max(1, (1 << 24) // items)
    goes = [rows_U[start : start + size] for start in range(0, users, size)]
    times["scores_and_best_ms"] = _median_ms(
        lambda: [best(learner.scores(part_U), K) for part_U in goes], device, seconds
    )
    parts, kernels = learner.parts_on_device(rows_U), kernels_for(device, width)
    times["grouped_ms"] = _median_ms(lambda: best_by_groups(parts, K, kernels), device, seconds)
    times["unproven"] = 1 - float(best_by_groups(parts, K, kernels).is_proven_U.mean())
    some = [parts.users_UD[start : start + size] for start in range(0, users, size)]
    times["mm_and_topk_ms"] = _median_ms(
        lambda: [torch.topk(part_UD @ parts.vectors_ID.T, min(K, items), dim=1) for part_UD in some], device, seconds
    )
    times["mm_and_topk_of_grouped"] = times["mm_and_topk_ms"] / times["grouped_ms"]
    flops, output_bytes = 2 * users * items * width, users * K * 8
    times["top_k_floor_ms"] = peak.floor_ms(flops, items * width * 4 + output_bytes)
    if narrow_peak is not None:
        times["top_k_bf16_floor_ms"] = narrow_peak.floor_ms(flops, items * width * 2 + output_bytes)
        times["grouped_of_bf16_floor"] = times["grouped_ms"] / times["top_k_bf16_floor_ms"]
    times["grouped_of_floor"] = times["grouped_ms"] / times["top_k_floor_ms"]
    return {name: round(value, 4) for name, value in times.items()}


def measure_peaks(device: torch.device, dtype: torch.dtype, seconds: float) -> Peaks:
    """Arithmetic of a square matrix product, bandwidth of a copy (each byte is read and written)."""
    side, size = SIDE[device.type], COPIED_BYTES[device.type]
    left, right = (torch.ones((side, side), device=device, dtype=dtype) for _ in range(2))
    here = torch.zeros(size, device=device, dtype=torch.uint8)
    there = torch.empty_like(here)
    product_ms = _median_ms(lambda: torch.mm(left, right), device, seconds)
    copy_ms = _median_ms(lambda: there.copy_(here), device, seconds)
    return Peaks(2 * side**3 / product_ms * 1000, 2 * size / copy_ms * 1000)


def _median_ms(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median time of the work, finished on the device, after one run that is not counted."""
    timed(work, device)
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while not times or time.perf_counter() < deadline:
        times.append(timed(work, device))
    return 1000 * statistics.median(times)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the work, finished on the device."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, one thread"


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
