"""Runs the Triton kernels of `model.kernels.groups` on the CPU, by Triton's interpreter, in a process of its own.

    TRITON_INTERPRET=1 python tests/interpreted_kernels.py CASES.npz ANSWERS.npz

Triton decides when it is imported whether it interprets, so the tests cannot do it where they run.
"""

import sys

import numpy as np
import torch

from model.kernels import groups
from model.kernels.groups import bound_groups, score_groups

ARGUMENTS = ("users_UD", "vectors_ID", "base_I", "log_count_I", "popularity_U")


def main(cases: str, answers: str) -> None:
    torch.set_num_threads(1)
    with np.load(cases) as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    found = {}
    for case in sorted({name.partition("/")[0] for name in given}):
        of = {name.partition("/")[2]: value for name, value in given.items() if name.startswith(f"{case}/")}
        groups.PROGRAMS = int(of["programs"])
        common = [of[name] for name in ARGUMENTS]
        left_out = of["left_out_UW"]
        found[f"{case}/bounds_UG"] = bound_groups(*common, of["reach_U"], left_out).numpy()
        found[f"{case}/scores_UC"] = score_groups(*common, left_out, of["groups_UM"]).numpy()
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
