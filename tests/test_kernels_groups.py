"""The Triton kernels give what their plain torch twins give. Without a GPU by Triton's interpreter, which is slow."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.grouped import GROUP, bounds_of, scores_of
from model.kernels import groups

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is missing: it comes with CUDA builds of torch only"
)
NAN, INF = float("nan"), float("inf")


def case(*, users, items, width, seed=0, left_out=20, chosen=3, programs=groups.PROGRAMS, **changed):
    """Random arguments of both kernels; `left_out` entries a user on average, the first user has none.

    `programs` stands for `groups.PROGRAMS`.
    """
    draw = np.random.default_rng(seed)
    made = {
        "users_UD": draw.normal(size=(users, width)),
        "vectors_ID": draw.normal(size=(items, width)),
        "base_I": np.where(draw.random(items) < 0.1, -INF, draw.normal(size=items)),
        "log_count_I": np.log(draw.integers(0, 50, items) + 0.5),
        "popularity_U": draw.normal(size=users),
        "reach_U": 0.01 * draw.random(users),
        **changed,
    }
    all_groups = -(-items // GROUP)
    out = np.zeros((users, all_groups * GROUP), dtype=np.uint8)
    entries = left_out * (users - 1)
    out[draw.integers(min(1, users - 1), users, entries), draw.integers(0, items, entries)] = 1
    return {
        **{name: array.astype(np.float32) for name, array in made.items()},
        "left_out_UW": np.packbits(out, axis=1, bitorder="little").view(np.int32),
        "programs": np.array(programs),
        "groups_UM": np.stack([draw.permutation(all_groups)[: min(chosen, all_groups)] for _ in range(users)]),
    }


def cases():
    odd = np.ones((300, 8), dtype=np.float32)
    odd[7], odd[70, 3], odd[200, 0] = NAN, INF, -INF
    hole = np.zeros(300)
    hole[GROUP : 2 * GROUP] = -INF
    return {
        "one user": case(users=1, items=200, width=16),
        "three groups and an item, odd width": case(users=21, items=193, width=24, seed=1),
        "two blocks of users": case(users=70, items=130, width=8, seed=2, left_out=4),
        "splits of a group": case(users=17, items=1500, width=64, seed=3),
        "splits of several groups": case(users=17, items=1500, width=16, seed=10, programs=4),
        "fewer items than a group": case(users=5, items=20, width=8, seed=4, left_out=8),
        "all left out of a few": case(users=4, items=64, width=8, seed=5, left_out=400),
        "nothing left out": case(users=6, items=130, width=8, seed=6, left_out=0),
        "not numbers and infinite": case(users=6, items=300, width=8, seed=7, vectors_ID=odd),
        "a group without a candidate": case(users=6, items=300, width=8, seed=8, base_I=hole),
        "all equal": case(
            users=6, items=300, width=8, seed=9, vectors_ID=np.ones((300, 8)), base_I=np.zeros(300),
            log_count_I=np.zeros(300),
        ),
    }  # fmt: skip


def tensors(of, *names):
    return [torch.from_numpy(of[name]) for name in names]


def expected(of):
    """The twins' answers."""
    common = tensors(of, "users_UD", "vectors_ID", "base_I", "log_count_I", "popularity_U")
    out = tensors(of, "left_out_UW")
    bounds_UG = bounds_of(*common, *tensors(of, "reach_U"), *out)
    return bounds_UG.numpy(), scores_of(*common, *out, *tensors(of, "groups_UM")).numpy()


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    given = {f"{name}/{part}": array for name, of in cases().items() for part, array in of.items()}
    np.savez(folder / "cases.npz", **given)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "interpreted_kernels.py"), "cases.npz", "answers.npz"],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "answers.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", cases())
def test_a_group_is_bounded_by_the_best_of_its_items(name, interpreted):
    of = cases()[name]

    bounds_UG = interpreted[f"{name}/bounds_UG"]

    # The interpreter multiplies in float32, the twin cuts the factors as TF32 does: 2^-9 of |user| |vector|.
    length_U = np.linalg.norm(of["users_UD"], axis=1)
    rough_U1 = (2.0**-9 + 1e-5) * length_U[:, None] * np.nanmax(np.linalg.norm(of["vectors_ID"], axis=1), initial=0)
    right_UG, _ = expected(of)
    finite_UG = np.isfinite(right_UG)
    assert bounds_UG.shape == right_UG.shape
    assert np.array_equal(bounds_UG[~finite_UG], right_UG[~finite_UG])
    rough_UG = np.broadcast_to(np.nan_to_num(rough_U1, posinf=1.0) + 1e-4, right_UG.shape)
    assert (np.abs(bounds_UG[finite_UG] - right_UG[finite_UG]) <= rough_UG[finite_UG]).all()


@pytest.mark.parametrize("name", cases())
def test_the_items_of_chosen_groups_are_scored(name, interpreted):
    of = cases()[name]

    scores_UC = interpreted[f"{name}/scores_UC"]

    np.testing.assert_allclose(scores_UC, expected(of)[1], rtol=1e-4, atol=1e-4)


def test_the_cases_have_what_they_are_about():
    by_name = {name: expected(of) for name, of in cases().items()}

    assert (by_name["a group without a candidate"][0][:, 1] == -INF).all()
    assert (by_name["not numbers and infinite"][0] == INF).any()
    assert (by_name["all left out of a few"][0] == -INF).any()
    assert (by_name["fewer items than a group"][1][:, 20:] == -INF).all()
    assert -(-1500 // GROUP) // 4 > 1


@pytest.mark.parametrize(("capability", "width"), [(86, 96), (80, groups.MOST_WIDTH), (90, 64)])
def test_the_kernels_compile_for_a_gpu_without_spilling_and_fit_into_its_shared_memory(
    capability, width, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    block_users, block_width = groups.blocks(1024, width)
    sizes = {"GROUP": GROUP, "BLOCK_WIDTH": block_width}

    how = {"num_warps": groups.BOUND_WARPS, "num_stages": groups.stages(width)}
    bound = built(groups._bound_groups, {**sizes, "BLOCK_USERS": block_users}, capability, how)
    score = built(groups._score_group, sizes, capability, {"num_warps": groups.SCORE_WARPS})

    assert "tf32.tf32" in bound.asm["ptx"]
    assert "cp.async" in bound.asm["ptx"] or how["num_stages"] < 3  # loads ahead
    for kernel in (bound, score):
        assert kernel.metadata.shared <= 99 * 1024  # what the smallest of today's GPUs have
        assert stack_bytes(kernel, tmp_path / "kernel.cubin") == 0


def built(kernel, sizes, capability, how):
    """The kernel as it would run on such a GPU; no GPU is needed for that."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def kind(name):
        if name in sizes:
            return "constexpr"
        pointers = {"left_out_UW": "*i32", "groups_UM": "*i64"}
        return pointers.get(name, "*fp32" if name[-1].isupper() else "i32")

    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(kernel.arg_names)
        if name == "width" or kind(name).startswith("*")
    }
    signature = {name: kind(name) for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=sizes, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=how)


def stack_bytes(kernel, path):
    """What a thread keeps outside of its registers."""
    from triton import knobs

    path.write_bytes(kernel.asm["cubin"])
    said = subprocess.run(
        [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)], capture_output=True, text=True, check=True
    )
    return int(re.search(r"STACK:(\d+)", said.stdout)[1])


@pytest.mark.parametrize("width", [1, 16, 24, 64, 96, 128, 256, 1000])
@pytest.mark.parametrize("users", [1, 17, 5000])
def test_programs_take_powers_of_two_and_whole_vectors(users, width):
    sizes = groups.blocks(users, width)

    assert all(size & (size - 1) == 0 and size >= 16 for size in sizes)
    assert sizes[1] >= width


def test_the_kernels_are_for_gpus_only():
    assert not groups.available(torch.device("cpu"), 64)
    assert groups.available(torch.device("cuda"), groups.MOST_WIDTH)
    assert not groups.available(torch.device("cuda"), groups.MOST_WIDTH + 1)
